"""The log of two bundles' answers and of the labels that came later: lines of JSON, and only ever more of them.

The first line says who was asked. Each further line is an answer of both to one input, the label of an input, or what
followed from the labels. Lines are written together in one call, so a killed command leaves whole ones and at most one
that is cut off, at the end; the next command leaves that one out.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from metaloom.errors import MetaloomError
from metaloom.judging.verdict import OUTCOMES
from metaloom.system.lock import BusyError
from metaloom.system.terminal import say

FORMAT = 1
HEAD = f'{{"log": {FORMAT}, '  # begins the first line
SIDES = ("prod", "candidate")
ELSE = "give another with --log FILE"


@dataclass(frozen=True)
class Party:
    """One of the two bundles.

    Args:
        name: a version such as v0.1.0, or how it was named.
        commit: that it is of; empty for a folder.
        sha256: of its list of checksums, which says what the bundle is.
    """

    name: str
    commit: str
    sha256: str


@dataclass
class Log:
    """What a log holds.

    Args:
        path: its file.
        prod, candidate: who was asked.
        classes: of both.
        task: in a bundle of many tasks.
        id: of this very log.
        answers: classes that prod and candidate said, by the SHA-256 of the input, in order.
        named: the SHA-256 of each name that an input had.
        labels: by the SHA-256 of the input, in the order in which they came.
        verdict: what followed from the labels; empty as long as nothing has.
        leaving: whether a call has begun to have the candidate leave the stage.
        waits: whether the candidate has yet to leave it, as a call with --no-rollback only said so.
        untold: what a person has yet to be told of the verdict; may be empty.
    """

    path: Path
    prod: Party
    candidate: Party
    classes: list[str]
    task: str | None
    id: str
    answers: dict[str, tuple[str, str]] = field(default_factory=dict)
    named: dict[str, set[str]] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    verdict: str = ""
    leaving: bool = False
    waits: bool = False
    untold: str = ""

    @property
    def agreed(self) -> int:
        """On how many inputs both said the same."""
        return sum(one == other for one, other in self.answers.values())

    def append(self, records: Iterable[dict[str, Any]]) -> None:
        """Write records, which are whole or not there at all afterwards; `writing` has to be in force."""
        lines = [json.dumps(each) for each in records]  # in ASCII, as names may be no UTF-8
        _append(self.path, lines)
        for line in lines:
            self._take(json.loads(line))

    def _take(self, record: dict[str, Any]) -> None:
        """Raises KeyError, TypeError or ValueError for what is no record."""
        if "input" in record:
            if not isinstance(record["input"], str) or not isinstance(record["sha256"], str):
                raise TypeError("no name of an input")
            one, other = (str(record[side]["label"]) for side in SIDES)
            self.answers.setdefault(record["sha256"], (one, other))
            self.named.setdefault(record["input"], set()).add(record["sha256"])
        elif "is" in record:
            if record["sha256"] not in self.answers:
                raise ValueError("a label of no input")
            self.labels.setdefault(record["sha256"], str(record["is"]))
        elif "leaving" in record:
            self.leaving = True
        elif "told" in record:
            self.untold = ""
        elif record["verdict"] in OUTCOMES:
            self.verdict, self.untold = record["verdict"], str(record.get("tells", ""))
            self.waits = bool(record.get("waits", False))
        else:
            raise ValueError("no verdict")


def read_log(path: Path) -> Log:
    """What a log holds; a last line that is cut off is left out.

    Raises:
        MetaloomError: there is no such log, or a line of it is no record.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise MetaloomError(
            f"{path}: there is no such log: `metaloom shadow PROD CANDIDATE INPUTS` begins one"
        ) from None
    whole, newline, _ = content.rpartition(b"\n")
    first, *lines = whole.split(b"\n")
    log = _headed(path, first if newline else b"")
    for number, line in enumerate(lines, start=2):
        try:
            log._take(json.loads(line))
        except (ValueError, KeyError, TypeError):
            raise MetaloomError(
                f"{path}, line {number}, is no record of `metaloom shadow`: remove that line, or {ELSE}"
            ) from None
    return log


def begun(path: Path, prod: Party, candidate: Party, classes: list[str], task: str | None, when: str) -> Log:
    """The log of two bundles, which begins here where there is none; `writing` has to be in force.

    Raises:
        MetaloomError: it is of other bundles, or no log.
    """
    if not path.exists() or not path.stat().st_size:
        sides = {name: asdict(each) for name, each in zip(SIDES, (prod, candidate), strict=True)}
        _append(path, [json.dumps({"log": FORMAT} | sides | {"classes": classes, "task": task, "when": when})])
    log = read_log(path)
    if (log.prod.sha256, log.candidate.sha256, log.task) != (prod.sha256, candidate.sha256, task):
        asked = f"{log.prod.name} and {log.candidate.name}" + (f", task {log.task}" if log.task else "")
        raise MetaloomError(f"{path} is the log of other bundles ({asked}): {ELSE}")
    return log


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """One writer of a log at a time; a last line that a killed one has cut off is removed.

    Raises:
        BusyError: another command writes it.
        MetaloomError: it is no log, or its folder is absent.
    """
    if not path.parent.is_dir():
        raise MetaloomError(f"--log {path}: there is no folder {path.parent}")
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=0):
            _without_tail(path)
            yield
    except Timeout:
        raise BusyError(f"another `metaloom shadow` writes {path}: try again when it has ended, or {ELSE}") from None


def _without_tail(path: Path) -> None:
    if not path.exists():
        return
    content = path.read_bytes()
    if not (content.startswith(HEAD.encode()) or HEAD.encode().startswith(content)):
        raise _none(path)
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
        say(f"{path}: its last record was cut off, so it is left out")


def _headed(path: Path, line: bytes) -> Log:
    try:
        head = json.loads(line)
        prod, candidate = (Party(**{name: str(head[side][name]) for name in asdict(_NOBODY)}) for side in SIDES)
        if head["log"] != FORMAT:
            raise ValueError("another format")
        classes = [str(each) for each in head["classes"]]
        return Log(path, prod, candidate, classes, head["task"], hashlib.sha256(line).hexdigest()[:12])
    except (ValueError, KeyError, TypeError):
        raise _none(path) from None


_NOBODY = Party("", "", "")


def _none(path: Path) -> MetaloomError:
    return MetaloomError(f"{path} is no log of `metaloom shadow`: {ELSE}")


def _append(path: Path, lines: list[str]) -> None:
    """All of them or none, where the disk is full too."""
    if not lines:
        return
    data = memoryview("".join(f"{line}\n" for line in lines).encode())
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        before = os.fstat(file).st_size
        try:
            while data:
                data = data[os.write(file, data) :]
            os.fsync(file)
        except OSError:
            os.truncate(path, before)
            raise
    finally:
        os.close(file)
