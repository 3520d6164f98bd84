"""Meta-learning methods, one paper per file."""

from __future__ import annotations

from metaloom.methods.base import Method, Weighing
from metaloom.methods.catalogue import METHOD_CLASSES, build_method
from metaloom.methods.embedding import EmbeddingMethod
from metaloom.methods.model import Episodes, Head, Params, TaskModel

__all__ = [
    "METHOD_CLASSES",
    "EmbeddingMethod",
    "Episodes",
    "Head",
    "Method",
    "Params",
    "TaskModel",
    "Weighing",
    "build_method",
]
