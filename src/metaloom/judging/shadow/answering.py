"""Both bundles answer each input once, and the log has what they said."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from metaloom.data.files import Example
from metaloom.data.lost import Lost
from metaloom.errors import MetaloomError
from metaloom.handoff.bundle.predict import Asked, Prediction, batches
from metaloom.handoff.shipped.verify import SUMS
from metaloom.judging.shadow.log import SIDES, Log, Party
from metaloom.system.files import sha256
from metaloom.system.git import revision
from metaloom.system.plural import some
from metaloom.system.rounding import nulled
from metaloom.versioning.paths import Outputs
from metaloom.versioning.project import root_above
from metaloom.versioning.registry import in_stage
from metaloom.versioning.revisions import at_revision, resolved

FEW = 4  # classes in a message


@contextmanager
def opened(names: tuple[str, str], task: str | None) -> Iterator[list[tuple[Party, Asked]]]:
    """Both bundles, those of versions in a folder that goes when the block ends.

    Args:
        names: of prod and candidate: versions, stages, branches, tags, commits, or folders of bundles.
        task: in bundles of many tasks.

    Raises:
        MetaloomError: one of them cannot be had or is damaged, they are the same, have other classes, or do not take
            the same examples.
    """
    with ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found = []
        for name, side in zip(names, SIDES, strict=True):
            named, commit, folder = _bundle(name, temporary / side)
            asked = Asked.open(folder, task)
            found.append((Party(named, commit, sha256(folder / SUMS)), asked))
        _check_alike(*found)
        yield found


def _bundle(name: str, copy: Path) -> tuple[str, str, Path]:
    """How a bundle is called, its commit and its folder."""
    if Path(name).is_dir():
        return name, "", Path(name)
    root = root_above()
    if root is None:
        raise MetaloomError(f"{name}: there is no such folder, and versions are known in a project alone")
    if not revision(root, resolved(root, name)):
        present = in_stage(root, name)
        if present is None:
            raise MetaloomError(
                f"{name}: there is no such folder, revision or stage: `metaloom models` lists versions and stages"
            )
        name = present[0]
    rev = resolved(root, name)
    with at_revision(root, rev) as files:
        files.get(Outputs(root).bundle, copy)
    return name, revision(root, f"{rev}^{{commit}}"), copy


def _check_alike(prod: tuple[Party, Asked], candidate: tuple[Party, Asked]) -> None:
    (one, asked), (other, too) = prod, candidate
    names = f"{one.name} and {other.name}"
    if one.sha256 == other.sha256:
        raise MetaloomError(f"{names} are the same bundle: there is nothing to compare")
    if sorted(asked.labels) != sorted(too.labels):
        lacking, more = (sorted(set(a) - set(b)) for a, b in ((asked.labels, too.labels), (too.labels, asked.labels)))
        parts = [(one.name, lacking), (other.name, more)]
        told = "; ".join(f"only {name} has {some(each, FEW)}" for name, each in parts if each)
        raise MetaloomError(f"{names} have other classes ({told}): their answers cannot be compared")
    if (asked.kind.name, asked.shape) != (too.kind.name, too.shape):
        forms = (f"{each.kind.many} of {' x '.join(map(str, each.shape))}" for each in (asked, too))
        raise MetaloomError(f"{names} do not take the same examples: {' and '.join(forms)}")


def answer(
    log: Log, prod: Asked, candidate: Asked, files: Iterator[str | Path], on_bad: Callable[[MetaloomError], None]
) -> int:
    """Have both answer what the log does not have yet.

    Args:
        log: gets the answers, batch by batch; `writing` has to be in force.
        prod, candidate: the bundles.
        files: as `predict` takes them.
        on_bad: gets the error of a file that cannot be read.

    Returns:
        How many inputs were answered now.
    """
    before = len(log.answers)
    for batch in batches(files, prod, on_bad, Lost(prod.kind)):
        fresh = _fresh(log, [example for _, example in batch])
        if not fresh:
            continue
        raw, names = [each.raw for each in fresh], [each.source for each in fresh]
        said = [list(each.ranked(names, *each(raw))) for each in (prod, candidate)]
        when = datetime.now(UTC).isoformat(timespec="seconds")
        log.append(_record(example, both, when) for example, *both in zip(fresh, *said, strict=True))
    return len(log.answers) - before


def _fresh(log: Log, examples: list[Example]) -> list[Example]:
    """Those of other content, or another name, than the log has; each once."""
    once = {(_plain(each.source), each.sha256): each for each in examples}
    return [each for (name, sha256), each in once.items() if sha256 not in log.named.get(name, ())]


def _record(example: Example, said: list[Prediction], when: str) -> dict[str, Any]:
    answers = {
        side: {"label": each.label, "probability": round(each.probability, 6), "novelty": round(each.novelty, 4)}
        for side, each in zip(SIDES, said, strict=True)
    }
    return nulled({"input": _plain(example.source), "sha256": example.sha256} | answers | {"when": when})


def _plain(name: str) -> str:
    """A name that JSON and CSV can hold."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
