"""Meta-learning methods, one paper per file."""

from __future__ import annotations

from metaloom.methods.base import Method
from metaloom.methods.embedding import EmbeddingMethod
from metaloom.methods.model import Episodes, Head, Params, TaskModel
from metaloom.methods.registry import METHOD_CLASSES, build_method

__all__ = [
    "METHOD_CLASSES",
    "EmbeddingMethod",
    "Episodes",
    "Head",
    "Method",
    "Params",
    "TaskModel",
    "build_method",
]
