"""A trained method as its user meets it: load, adapt, predict; and how sure of an answer one can be."""

from __future__ import annotations

from metaloom.learner.learner import Learner, champion, validation_of
from metaloom.learner.task import AdaptedTask

__all__ = ["AdaptedTask", "Learner", "champion", "validation_of"]
