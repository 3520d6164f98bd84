"""Networks for embeddings of an encoder: as they are, and whitened within classes."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import NearestCentroid

from metaloom.kinds.vectors.kind import Vectors
from metaloom.learner import Learner
from metaloom.networks.identity import Identity
from metaloom.networks.matrix import STEP, Matrix
from metaloom.networks.whiten import MATRIX, SHRINKAGES, Whiten

CLASSES, EACH, FEATURES = 6, 30, 5


def drawn(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Classes that differ little, in directions in which a class's own rows differ much or little."""
    rng = np.random.default_rng(seed)
    mixing, means = rng.normal(size=(FEATURES, FEATURES)) * [3, 2, 1, 0.3, 0.1], rng.normal(size=(CLASSES, FEATURES))
    y = np.arange(CLASSES).repeat(EACH)
    return (means[y] + rng.normal(size=(len(y), FEATURES)) @ mixing).astype(np.float32), y


def test_protonet_on_identity_is_nearest_mean(tiny_settings):
    x, y = drawn()
    network = tiny_settings.network.model_copy(update={"name": "identity"})
    encoding = Vectors("none").fitted(x)
    learner = Learner.create("protonet", tiny_settings.model_copy(update={"network": network}), encoding)
    assert isinstance(learner.method.network, Identity)
    found = learner.adapt(x[::3], y[::3].tolist()).predict(x)
    np.testing.assert_array_equal(found, NearestCentroid().fit(x[::3], y[::3]).predict(x))


def test_whitened_within_classes_is_linear_discriminant_analysis():
    """Without shrinkage distances to class means, before they get one length, are LDA's of scikit-learn."""
    x, y = drawn()
    network = Whiten(shape=(FEATURES,), width=8, norm="none")
    starts = dict(network.starts(torch.from_numpy(x).double(), torch.from_numpy(y)))
    assert list(starts) == [f"shrinkage {each}" for each in SHRINKAGES]
    torch.testing.assert_close(starts["shrinkage 1.0"][MATRIX], torch.eye(FEATURES).double())
    within = x - np.stack([x[y == each].mean(axis=0) for each in range(CLASSES)])[y]
    covariance = within.T.astype(np.float64) @ within / (len(x) - CLASSES)
    shrunk = 0.7 * covariance + 0.3 * np.trace(covariance) / FEATURES * np.eye(FEATURES)
    matrix = starts["shrinkage 0.3"][MATRIX].numpy()
    white = matrix.T @ shrunk @ matrix
    np.testing.assert_allclose(white, white[0, 0] * np.eye(FEATURES), atol=1e-4 * white[0, 0])
    lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3, priors=np.full(CLASSES, 1 / CLASSES))
    z, means = x @ matrix, np.stack([(x[y == each] @ matrix).mean(axis=0) for each in range(CLASSES)])
    nearest = ((z[:, None] - means) ** 2).sum(axis=-1).argmin(axis=1)
    assert (nearest == lda.fit(x, y).predict(x)).mean() > 0.99  # its covariance is divided by other numbers


def test_what_comes_out_has_one_length_and_moves_with_the_scale_alone():
    x, y = drawn()
    network = Whiten(shape=(FEATURES,), width=8, norm="none")
    weights = network.init(torch.Generator())
    weights |= next(iter(network.starts(torch.from_numpy(x), torch.from_numpy(y))))[1]
    z, _ = network(weights, torch.from_numpy(x))
    torch.testing.assert_close(z.norm(dim=1), torch.full((len(x),), 0.5 * FEATURES**0.5))
    stacked = {name: each.expand(2, *each.shape) for name, each in weights.items()}
    torch.testing.assert_close(network(stacked, torch.from_numpy(x).expand(2, -1, -1))[0][1], z)


def test_a_matrix_starts_from_the_directions_of_the_inputs():
    x = torch.from_numpy(drawn()[0])
    network = Matrix(shape=(FEATURES,), width=8, norm="none")
    weights = network.init(torch.Generator())
    alike = torch.nn.functional.cosine_similarity
    z, _ = network(weights, x)
    torch.testing.assert_close(alike(z, x), torch.ones(len(x)))
    torch.testing.assert_close(z.norm(dim=1), z[0].norm().expand(len(x)))
    turned = torch.eye(FEATURES).roll(1, dims=1)
    z, _ = network(weights | {"matrix": (turned - torch.eye(FEATURES)) / STEP}, x)
    torch.testing.assert_close(alike(z, x @ turned), torch.ones(len(x)))
