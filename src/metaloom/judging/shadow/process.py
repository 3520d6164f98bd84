"""Labels go into the log, what they say into the ledger, and what follows from it is done once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from metaloom.config import PARAMS, load_settings
from metaloom.config.settings import JudgeSettings
from metaloom.judging.ledger import SHADOW, YEAR, Entry, again, share, written
from metaloom.judging.records import read_ledger, record
from metaloom.judging.shadow.labels import new_labels
from metaloom.judging.shadow.log import Log
from metaloom.judging.shadow.standing import Standing
from metaloom.versioning.registry import NothingBeforeError, in_stage, rollback

SHARE = "share it: `git push --tags`"
TWICE = 2  # so many labels as the ledger's last line has, and it gets another


def take_labels(log: Log, table: Path, now: datetime) -> int:
    """Write the labels of a table into the log, which `writing` is in force of; how many are new.

    Raises:
        MetaloomError: a row of it is wrong; nothing is written then.
    """
    found, when = new_labels(log, table), now.isoformat(timespec="seconds")
    log.append({"sha256": sha256, "is": label, "when": when} for sha256, label in found.items())
    return len(found)


def standing_of(root: Path, log: Log, now: datetime | None = None) -> Standing:
    """What the labels say, at the error that the ledger has for it, or could have now.

    Args:
        root: of the project.
        log: with its labels.
        now: None: the clock's time.
    """
    return _standing(root, log, now or datetime.now(UTC), load_settings(root / PARAMS).judge)[0]


def _standing(root: Path, log: Log, now: datetime, settings: JudgeSettings) -> tuple[Standing, Entry | None, bool]:
    """Also the line for the ledger, where versions were asked, and whether the ledger lacks it."""
    day = settings.alpha / YEAR.days
    if not (log.prod.commit and log.candidate.commit):
        return Standing.of(log, day, settings.margin), None, False
    past, test = read_ledger(root), f"{SHADOW}{log.id}"
    pair = log.prod.commit, log.candidate.commit
    known = again(past, *pair, test)
    alpha = known.alpha if known else share(past, now, settings.alpha)
    found = Standing.of(log, alpha, settings.margin)
    figures = found.gain, found.low95, found.high95, found.labelled
    entry = Entry(now, *pair, found.outcome, alpha, test, *figures)
    lacks = known is None or known.outcome != entry.outcome or entry.episodes >= TWICE * known.episodes
    return found, entry, lacks and found.labelled > 0


def follow(root: Path, log: Log, stage: str, now: datetime, act: bool = True) -> tuple[Standing, str]:
    """Write what the labels say into the ledger, and do what follows from it, if that has not been done.

    A candidate that is worse leaves the stage, where it is in there by now; `writing` has to be in force.

    Args:
        root: of the project.
        log: with its labels.
        stage: that the candidate may have got into.
        now: with its time zone.
        act: whether it leaves the stage, or that is only said.

    Returns:
        what the labels say, and what follows in a sentence; "" where that is nothing, or was done before. What was only
        said before is done by the first call that may act.

    Raises:
        MetaloomError: the ledger cannot be written, or the version before does not verify any more.
    """
    settings = load_settings(root / PARAMS).judge
    found, entry, lacks = _standing(root, log, now, settings)
    if entry is not None and lacks:
        record(root, entry)
    if found.outcome == "undecided" or (log.verdict and not log.waits):
        return found, ""
    message = sentence = found.sentence(log, settings.margin)
    if entry is not None:
        message = f"{message}\n\n{written(entry)}"
    present = in_stage(root, stage) if log.candidate.commit else None
    there = present is not None and present[1] == log.candidate.commit
    done = _consequence(root, log, found, stage, present, message, act)
    if log.waits and not act:
        return found, done  # as before
    worse = found.outcome == "worse"
    tells = f"{sentence}; {done}" if done and worse and (there or not log.waits) else ""
    verdict = {"verdict": found.outcome, "labelled": found.labelled, "did": done, "tells": tells}
    log.append([verdict | {"waits": worse and there and not act, "when": now.isoformat()}])
    return found, done


def _consequence(
    root: Path, log: Log, found: Standing, stage: str, present: tuple[str, str] | None, message: str, act: bool
) -> str:
    """What follows, in words, and done where that is a rollback; `present` is in the stage."""
    name, commit = log.candidate.name, log.candidate.commit
    if not commit:
        return f"{name} is a folder, so no stage is looked at: name versions for that"
    there = present is not None and present[1] == commit
    if found.outcome != "worse":
        stays = f"{name} stays {stage}" if there else f"promote it: `metaloom promote {name}`"
        return stays if there or found.outcome == "better" else ""
    if not there and log.leaving and present:  # a call was killed just then
        return f"{present[0]} is {stage} again, instead of {name}; {SHARE}"
    if not (present and there):
        return f"do not promote it: {present[0] if present else 'nothing'} is {stage}"
    if not act:
        return f"{name} is {stage}: `metaloom rollback` puts the version before back"
    log.append([{"leaving": stage}])
    try:
        left, back = rollback(root, stage, leaving=present[0], message=message)
    except NothingBeforeError:
        return f"{name} stays {stage}, as nothing was there before it: promote another version"
    return f"{back} is {stage} again, instead of {left}; {SHARE}"
