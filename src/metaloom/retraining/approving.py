"""A person's word on a better model that waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from metaloom.config.retraining import RetrainSettings
from metaloom.errors import MetaloomError
from metaloom.judging.records import shadowed
from metaloom.retraining import steps
from metaloom.retraining.loop import DONE, SKIPPED, Result, loop_of
from metaloom.retraining.nights import FOLDER, Night
from metaloom.system.lock import project_lock
from metaloom.versioning.registry import in_stage


def answer(
    root: Path, name: str, approved: bool, why: str = "", wait: float = 0, now: Callable[[], float] = time.time
) -> Result:
    """Promote the model of a retraining, if it is still better than what is in the stage, or hold it.

    Args:
        root: the project's.
        name: of the retraining.
        approved: whether it is to be promoted.
        why: in the person's words; may be empty.
        wait: seconds to wait for a retraining that is at work.
        now: Unix time.

    Returns:
        `Skipped` where it no longer waits: somebody has answered, or has promoted it by hand, or it was for too long.

    Raises:
        MetaloomError: git's remote refuses, or does not answer, or `metaloom shadow` has shown the model to be worse;
            it still waits.
    """
    loop = loop_of(root, lambda place, force: None, now, None)
    with project_lock(loop.root / FOLDER, wait):
        night = next((each for each in steps.waiting(loop.root) if each.name == name), None)
        if night is None:
            return Result(
                SKIPPED, f"{name} does not wait for approval any more: `metaloom history` says what became of it"
            )
        late = next((each for each in steps.left(loop.root, loop.settings, now()) if each.name == name), None)
        # a yes to one that is in the stage goes on: it may be the same yes, which was killed
        if late is not None and approved == (late.outcome == "held"):
            steps.leave(loop.root, late, loop.settings)
            loop.close(late)
            return Result(SKIPPED, late.reason)
        if approved:
            _promote(loop.root, night, loop.settings)
        else:
            night.outcome, because = "held", f" ({why})" if why else ""
            stays = f"{night.champion} stays" if night.champion else "nothing is"
            night.reason = f"{night.version} is not approved{because}, and {stays} {loop.settings.stage}"
            steps.leave(loop.root, night, loop.settings)
        if why and approved:
            night.note(why)
        loop.close(night)
        return Result(DONE, night.reason, night)


def _promote(root: Path, night: Night, settings: RetrainSettings) -> None:
    version, present = night.version, in_stage(root, settings.stage)
    used = shadowed(root, present[0], night.commit) if present else None
    if present and used is not None and used.outcome == "worse":
        raise MetaloomError(
            f"{version} waits still: labelled inputs of real use have shown it to be worse than {present[0]} "
            f"(`metaloom shadow`); `metaloom promote {version} --force` promotes it though"
        )
    try:
        steps.promote(root, night, settings.model_copy(update={"approval": False}))
    finally:
        night.version = night.version or version  # where the tags have not arrived
