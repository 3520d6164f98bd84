"""Single-task learners: what a user would do without meta-learning, on the support set of one episode alone.

Each is a function `learn(settings, network, support_x, support_y, query_x, seed) → log-probabilities`.
"""

from __future__ import annotations

from metaloom.baselines.logistic import logistic
from metaloom.baselines.scratch import scratch

SINGLE_TASK_LEARNERS = {"scratch": scratch, "logistic": logistic}

__all__ = ["SINGLE_TASK_LEARNERS", "logistic", "scratch"]
