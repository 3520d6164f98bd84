"""The judge, as a retraining asks it."""

from __future__ import annotations

from pathlib import Path

from metaloom.errors import MetaloomError
from metaloom.judging import Verdict
from metaloom.system.lock import BusyError
from metaloom.versioning.quality import handed, told_apart
from metaloom.versioning.registry import metadata_of

FIRST = "first"  # the outcome where nothing is in the stage yet


def judged(
    root: Path, champion: str, challenger: str, note: bool = True, names: tuple[str, str] | None = None
) -> Verdict:
    """The judge's verdict; where the models cannot be asked, that of their bundles' figures, which promotes nothing.

    Args:
        root: the project's.
        champion: commit of the model that is in the stage.
        challenger: commit of the one that would take its place.
        note: whether the ledger has it: a verdict that can promote nothing takes no share of the year's error.
        names: of both in the message; None: the commits.

    Raises:
        BusyError: a remote does not answer: the next run goes on.
    """
    from metaloom.judging import judge  # loads torch, which a night with nothing to do has no use for

    try:
        return judge(root, champion, challenger, note=note, names=names)
    except BusyError:
        raise
    except MetaloomError as error:
        worse, told = told_apart(handed(metadata_of(root, champion)), handed(metadata_of(root, challenger)))
        why = f"no fresh questions could be asked ({error})"
        return Verdict("worse" if worse else "undecided", f"{why}; {told}" if told else why, {})
