"""Meta-learning methods, one paper a file, and the learner that carries what they learned."""

from __future__ import annotations

from metaloom.learner.learner import Learner, champion
from metaloom.learner.task import AdaptedTask
from metaloom.methods.base import EmbeddingMethod, Episodes, Head, Method, Params, TaskModel
from metaloom.methods.registry import METHOD_CLASSES, build_method

__all__ = [
    "METHOD_CLASSES",
    "AdaptedTask",
    "EmbeddingMethod",
    "Episodes",
    "Head",
    "Learner",
    "Method",
    "Params",
    "TaskModel",
    "build_method",
    "champion",
]
