"""A better model that waits for a person's word: the run is suspended, and goes on with the answer.

A suspended run has no process and holds no lock: other nights go on meanwhile.
"""

from __future__ import annotations

from pathlib import Path

from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput

from flows.notes import forget, this_run
from metaloom.config import PARAMS, load_settings
from metaloom.retraining.nights import Night
from metaloom.system.escaping import markdown

KEY = "approve-"  # of the suspension; the retraining's name follows (Prefect takes letters, digits and dashes)


class Answer(RunInput):
    """What Prefect asks the person who resumes the run."""

    approve: bool
    why: str = ""


def asked() -> str:
    """The retraining whose model this run was suspended for; empty where it was not."""
    run = this_run()
    keys = (run.empirical_policy.pause_keys or set()) if run else set()
    return next((key.removeprefix(KEY) for key in keys if key.startswith(KEY)), "")


def ask(root: Path, night: Night) -> None:
    """Suspend this run until somebody answers; nothing where it is of no deployment, which could not go on with it."""
    run = this_run()
    if run and run.deployment_id:
        forget()
        _suspend(night.name, night.reason, load_settings(root / PARAMS).retrain.approval_hours)


def answered(name: str) -> Answer:
    """The answer that this run was resumed with."""
    return _suspend(name, "", 0)


def _suspend(name: str, reason: str, hours: float) -> Answer:
    form = Answer.with_initial_data(description=markdown(reason))
    seconds = round(hours * 3600) or None
    return suspend_flow_run(wait_for_input=form, timeout=seconds, key=f"{KEY}{name}")
