"""`metaloom shadow`: two bundles answer the same inputs, and labels that come later say which is better."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaloom.cli.bundle import Gigabytes, Seconds, Unread, note
from metaloom.cli.judge import PROD, WORSE
from metaloom.errors import MetaloomError
from metaloom.system.files import strict_json
from metaloom.system.lock import STATE
from metaloom.system.plural import several, some
from metaloom.system.quantities import percent
from metaloom.system.terminal import say, show

if TYPE_CHECKING:
    from metaloom.judging.shadow.log import Log

FOLDER = f"{STATE}/shadow"
NAMED = 4  # logs in a message


def shadow(
    prod: Annotated[
        str | None, typer.Argument(help="The bundle in use: a version such as v0.1.0, a stage, or its folder.")
    ] = None,
    candidate: Annotated[str | None, typer.Argument(help="The one that may take its place, likewise.")] = None,
    inputs: Annotated[
        list[str] | None, typer.Argument(help="What both are asked: files, folders or texts, as for `predict`.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Labels that came since: a CSV file with the columns example and label.")
    ] = None,
    log: Annotated[Path | None, typer.Option(help=f"File of their answers; default: one in {FOLDER}.")] = None,
    task: Annotated[str | None, typer.Option(help="The task to choose classes from, in bundles of many tasks.")] = None,
    stage: Annotated[str, typer.Option(help="That a candidate which is worse has to leave.")] = PROD,
    rollback: Annotated[
        bool, typer.Option("--rollback/--no-rollback", help="Whether it leaves, or that is only said.")
    ] = True,
    json_: Annotated[bool, typer.Option("--json", help="What the log comes to as JSON.")] = False,
    seconds: Seconds = 600,
    gigabytes: Gigabytes = 8,
) -> None:
    """Have two bundles answer inputs of real use, log both answers, and say how often they agree.

    Labels may come later: `metaloom shadow --labels labels.csv` says which of the two is better as soon as that is
    shown, and puts the version before back where the candidate is in use and worse. The exit code is 4 where it is
    worse.
    """
    from metaloom.judging.shadow.log import read_log, writing
    from metaloom.judging.shadow.process import take_labels

    bad = Unread()
    if inputs:
        if prod is None or candidate is None:
            raise MetaloomError("name both bundles before the inputs: `metaloom shadow PROD CANDIDATE INPUTS`")
        path = _answered(prod, candidate, inputs, log, task, bad, (seconds, gigabytes))
    else:
        path = log or _known_log(prod, candidate)
    found, now = read_log(path), datetime.now(UTC)
    if labels is not None:
        with writing(path):
            found = read_log(path)
            say(f"{several(take_labels(found, labels, now), 'new label')} from {labels}")
            told = _followed(found, stage, now, rollback)
    else:
        told = _stands(found)
    _print(found, told, json_)
    bad.conclude()
    if labels is not None and told["outcome"] == "worse":
        raise typer.Exit(WORSE)


def _answered(
    prod: str,
    candidate: str,
    inputs: list[str],
    log: Path | None,
    task: str | None,
    bad: Unread,
    limits: tuple[float, float],
) -> Path:
    """Have both answer what is new; the log's path."""
    from metaloom.handoff.bundle.listed import listed
    from metaloom.handoff.bundle.stranger import limited
    from metaloom.judging.shadow.answering import answer, opened
    from metaloom.judging.shadow.log import begun, writing

    with limited(f"{prod} or {candidate}", *limits), opened((prod, candidate), task) as ((one, asked), (other, too)):
        path = log or _log_of(one.name, other.name)
        with writing(path):
            when = datetime.now(UTC).isoformat(timespec="seconds")
            found = begun(path, one, other, sorted(asked.labels), task, when)
            names = listed(inputs, asked.kind, sys.stdin.buffer, note)
            say(f"{several(answer(found, asked, too, names, bad), 'new input')} in {path}")
    return path


def _followed(found: Log, stage: str, now: datetime, act: bool) -> dict[str, Any]:
    """What the labels say and what was done; a person is told of a candidate that is worse, once."""
    from metaloom.config import PARAMS, load_settings
    from metaloom.judging.shadow.process import follow
    from metaloom.retraining.telling import tell
    from metaloom.versioning.project import find_root

    root = find_root()
    standing, did = follow(root, found, stage, now, act)
    if found.untold and tell(root, load_settings(root / PARAMS).retrain, "held", found.untold):
        found.append([{"told": True, "when": now.isoformat()}])  # else the next call tells it
    return standing.plain() | {"did": did, "sentence": _sentence(found, standing)}


def _stands(found: Log) -> dict[str, Any]:
    """Without labels there is nothing to judge, and no project is needed."""
    if not found.labels:
        return {"outcome": "undecided", "labelled": 0}
    from metaloom.judging.shadow.process import standing_of
    from metaloom.versioning.project import find_root

    standing = standing_of(find_root(), found)
    return standing.plain() | {"sentence": _sentence(found, standing)}


def _sentence(found: Log, standing: Any) -> str:
    from metaloom.config import PARAMS, load_settings
    from metaloom.versioning.project import find_root

    return standing.sentence(found, load_settings(find_root() / PARAMS).judge.margin)


def _print(found: Log, told: dict[str, Any], json_: bool) -> None:
    answers, agreed = len(found.answers), found.agreed
    if json_:
        sides = {"prod": found.prod.name, "candidate": found.candidate.name, "log": str(found.path)}
        counts = {"inputs": answers, "agreed": agreed}
        print(strict_json(sides | counts | told))
        return
    share = f" ({percent(agreed / answers)})" if answers else ""
    names = f"{found.prod.name} and {found.candidate.name}"
    show(f"{names} agree on {agreed:,} of {several(answers, 'input')}{share}")
    for line in filter(None, (told.get("sentence"), told.get("did"))):
        show(line)


def _log_of(prod: str, candidate: str) -> Path:
    from metaloom.versioning.project import root_above

    root = root_above()
    if root is None:
        raise MetaloomError("this is in no project: say with --log FILE where the answers go")
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    return root / FOLDER / f"{_as_file(prod)}-{_as_file(candidate)}.jsonl"


def _as_file(name: str) -> str:
    return re.sub(r"[^0-9A-Za-z.]+", "_", name)[-60:].strip("_.") or "_"


def _known_log(prod: str | None, candidate: str | None) -> Path:
    """That of two bundles, or the only one."""
    from metaloom.versioning.project import find_root, root_above
    from metaloom.versioning.registry import in_stage

    if prod is not None and candidate is not None:
        path, root = _log_of(prod, candidate), root_above()
        if path.exists() or root is None:
            return path
        stages = ((name, in_stage(root, name)) for name in (prod, candidate))  # a stage's log has its version's name
        return _log_of(*(present[0] if present else name for name, present in stages))
    if prod is not None:
        raise MetaloomError("name both bundles, or neither: `metaloom shadow PROD CANDIDATE`")
    logs = sorted((find_root() / FOLDER).glob("*.jsonl"))
    if not logs:
        raise MetaloomError("nothing has been asked yet: `metaloom shadow PROD CANDIDATE INPUTS`")
    if len(logs) > 1:
        names = some([each.stem for each in logs], NAMED)
        raise MetaloomError(f"there are {len(logs)} logs ({names}): name the bundles, or give one with --log FILE")
    return logs[0]
