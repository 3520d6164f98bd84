"""scikit-learn's logistic regression on pixels."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from metaloom.config import LogisticSettings
from metaloom.networks import Network


def logistic(
    settings: LogisticSettings,
    network: Network,
    support_x: Float[Tensor, "support channel height width"],
    support_y: Int[Tensor, " support"],
    query_x: Float[Tensor, "query channel height width"],
    seed: int,
) -> Float[np.ndarray, "query n_way"]:
    """Log-probabilities of the queries; the network and the seed have no part in it."""
    model = LogisticRegression(C=settings.C, max_iter=1000)
    model.fit(support_x.flatten(1).numpy(), support_y.numpy())
    return model.predict_log_proba(query_x.flatten(1).numpy())
