"""The loss in which every class counts alike, by scikit-learn's class weights: an oracle for the methods' own."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight


def balanced_nll(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    there = np.unique(labels.numpy())
    weight = torch.zeros(logits.shape[-1], dtype=logits.dtype)
    weight[torch.from_numpy(there)] = torch.as_tensor(
        compute_class_weight("balanced", classes=there, y=labels.numpy()), dtype=logits.dtype
    )
    return F.cross_entropy(logits, labels, weight, reduction="sum") / len(labels)
