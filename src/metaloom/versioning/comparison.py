"""Two revisions side by side: data, drift, figures, settings."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import torch

from metaloom.data.packed import EXAMPLES
from metaloom.errors import MetaloomError
from metaloom.evaluation.drift import MOST, DataChange, Moved, changes, moved, newness
from metaloom.evaluation.headline import Scores, is_headline, scores_of
from metaloom.evaluation.space import embed_classes
from metaloom.handoff.shipped.verify import METADATA
from metaloom.learner import Learner
from metaloom.system.files import read_json
from metaloom.system.unchanged import NOTE
from metaloom.tasks import class_table
from metaloom.versioning.paths import BUNDLE, Outputs
from metaloom.versioning.quality import Handed, handed
from metaloom.versioning.revisions import Revision, at_revision, params_differ


@dataclass(frozen=True)
class RevisionData:
    """One revision's data in short, as they were last prepared; `named` is the version that its data.dvc names."""

    name: str
    data: str
    named: str
    domains: int
    classes: int
    examples: int


@dataclass
class Comparison:
    """What could be compared; `missing` says why a part is absent.

    Args:
        moved: how far each domain has.
        new_classes: their `newness`, with their names.
        figures: learner, setting, before, now (accuracies), ci_before, ci_now, apart (whether the intervals do not
            overlap).
        handoff: of each side what its bundle says of its task.
    """

    a: RevisionData | None = None
    b: RevisionData | None = None
    change: DataChange | None = None
    moved: list[Moved] = field(default_factory=list)
    new_classes: dict[str, Any] = field(default_factory=dict)
    figures: list[dict[str, Any]] = field(default_factory=list)
    handoff: dict[str, Handed] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    @property
    def nothing(self) -> bool:
        """Whether data could not be compared and no figure was measured in both, other than in the one commit of it."""
        sides = ((each["before"], each["now"]) for each in self.figures)
        return self.change is None and all(None in pair or pair[0] == pair[1] for pair in sides)


def compare(root: Path, a: str, b: str) -> Comparison:
    """Set two revisions side by side; a part whose files are not to be had is left out with the reason.

    Raises:
        MetaloomError: one of them is no revision.
    """
    found, outputs = Comparison(), Outputs(root)
    with at_revision(root, a) as before, at_revision(root, b) as now, tempfile.TemporaryDirectory() as folder:
        sides = Sides(before, now, outputs, Path(folder))
        for side in sides.revisions:
            _try(found, partial(_version, found, sides, side))
        if found.a is not None and found.b is not None:
            found.change = changes(sides.items("a"), sides.items("b"))
        found.handoff = sides.handoff()
        found.figures = figures(*(_scores(found, sides, side) for side in sides.revisions))
        if found.change is not None and not found.change.none:
            _try(found, lambda: drifted(found, sides))
    found.settings = params_differ(root, a, b)
    return found


def _try(found: Comparison, part: Callable[[], None]) -> None:
    try:
        part()
    except MetaloomError as error:
        found.missing.append(str(error))


def _scores(found: Comparison, sides: Sides, side: str) -> Scores:
    """A side's figures, or of them what git has; none where nothing was measured."""
    try:
        return sides.scores(side)
    except MetaloomError as error:
        try:
            known, is_all = sides.headline(side)
        except MetaloomError:
            return {}
        if not is_all:
            found.missing.append(f"figures other than the champion's: {error}")
        return known


@dataclass(frozen=True)
class Sides:
    """Files of both revisions, copied into `folder` as they are asked for."""

    before: Revision
    now: Revision
    outputs: Outputs
    folder: Path

    @cached_property
    def revisions(self) -> dict[str, Revision]:
        """By the names of the sides."""
        return {"a": self.before, "b": self.now}

    def items(self, side: str) -> pd.DataFrame:
        """The item table of side a or b."""
        return pd.read_parquet(self._dataset(side, "items.parquet"))

    def examples(self, learner: Learner) -> dict[str, np.ndarray]:
        """The packed examples of both sides, memory-mapped.

        Raises:
            MetaloomError: they are not such as the learner takes.
        """
        shape = learner.encoding.packed
        found = {side: np.load(self._dataset(side, EXAMPLES), mmap_mode="c") for side in self.revisions}
        if any(each.shape[1:] != shape for each in found.values()):
            raise MetaloomError("drift: the two versions' examples differ in shape, so no one network sees both")
        return found

    def scores(self, side: str) -> Scores:
        """Every learner's figures."""
        path = self.revisions[side].get(self.outputs.figures, self.folder / f"{side}-figures.json")
        return scores_of(read_json(path), self.outputs.figures)

    def headline(self, side: str) -> tuple[Scores, bool]:
        """The figures that git has, and whether these are all: earlier versions of metaloom gave it all of them."""
        raw = read_json(self.revisions[side].get(self.outputs.headline, self.folder / f"{side}-headline.json"))
        return scores_of(raw, self.outputs.headline), not is_headline(raw)

    def handoff(self) -> dict[str, Handed]:
        """What each side's bundle says of its task; a side without a bundle is not among them."""
        found = {}
        for side, each in self.revisions.items():
            with suppress(MetaloomError):
                place = each.get(f"{self.outputs.bundle}/{METADATA}", self.folder / f"{side}-{METADATA}")
                found[side] = handed(read_json(place))
        return {side: each for side, each in found.items() if each is not None}

    @property
    def trained(self) -> str:
        """The side whose model measures: the earlier one's, which has not learned from what is new, if it has one."""
        return "a" if self.before.files.exists(self.outputs.models) else "b"

    def of_trained(self, path: str) -> Path:
        """A file or folder of the side whose model measures."""
        return self.revisions[self.trained].get(path, self.folder / Path(path).name)

    def prepared(self, side: str) -> str:
        """The data version that the packed examples are of; empty where nothing says it."""
        path = str(PurePosixPath(self.outputs.dataset).with_name(NOTE))
        try:
            return self.revisions[side].get(path, self.folder / f"{side}-{NOTE}").read_text(encoding="utf-8").strip()
        except MetaloomError:  # of an earlier version of metaloom
            return ""

    def _dataset(self, side: str, name: str) -> Path:
        copy = self.folder / f"{side}-{name}"
        return copy if copy.exists() else self.revisions[side].get(f"{self.outputs.dataset}/{name}", copy)


def _version(found: Comparison, sides: Sides, side: str) -> None:
    revision, table = sides.revisions[side], sides.items(side)
    shape = table["domain"].nunique(), table["class"].nunique(), len(table)
    name = revision.name.removeprefix(f"{BUNDLE}@")
    setattr(found, side, RevisionData(name, sides.prepared(side) or revision.data, revision.data, *shape))


def drifted(found: Comparison, sides: Sides) -> None:
    """Have a comparison that knows its `change` say where domains of both went, and how new the new classes are, in the
    embedding of one model."""
    assert found.change is not None
    method = read_json(sides.of_trained(f"{sides.outputs.evaluation}/champion.json"))["method"]
    learner = Learner.load(sides.of_trained(f"{sides.outputs.models}/{method}"))
    examples = sides.examples(learner)
    items = {side: sides.items(side) for side in sides.revisions}
    both = set(items["a"]["domain"]) & set(items["b"]["domain"]) & set(found.change.examples.index)
    for domain in sorted(both):
        one, other = (_embedded(learner, examples[side], items[side], domain) for side in sides.revisions)
        found.moved.append(moved(domain, one, other))
    if new := found.change.classes["added"]:
        found.new_classes.update(_newness(learner, sides, examples, new))


def _newness(learner: Learner, sides: Sides, examples: dict[str, np.ndarray], new: list[str]) -> dict[str, Any]:
    """How far the new classes lie from those that the model was trained on, and which of these is nearest."""
    classes = pd.read_parquet(sides.of_trained(f"{sides.outputs.splits}/classes.parquet"))
    near = pd.read_parquet(sides.of_trained(f"{sides.outputs.evaluation}/nearness.parquet"))
    training = classes[classes["split"] == "train"]
    learned = embed_classes(learner, torch.from_numpy(examples[sides.trained]), training)
    table = class_table(sides.items("b")).assign(split="new")
    fresh = embed_classes(learner, torch.from_numpy(examples["b"]), table[table["class"].isin(new)])
    told = newness(fresh.prototypes, learned.prototypes, near["relative"].dropna().to_numpy())
    nearest = [str(learned.classes["class"].iloc[place]) for place in told.pop("nearest")]
    return {"classes": fresh.classes["class"].tolist(), "nearest": nearest} | told


def _embedded(learner: Learner, examples: np.ndarray, items: pd.DataFrame, domain: str) -> np.ndarray:
    rows = np.flatnonzero(items["domain"] == domain)
    spread = rows[np.linspace(0, len(rows) - 1, min(MOST, len(rows))).astype(int)]
    return learner.embed(torch.from_numpy(examples), spread).cpu().numpy()


def figures(before: Scores, now: Scores) -> list[dict[str, Any]]:
    """Accuracies of every learner and setting that either side has."""
    rows = []
    for learner in {**before, **now}:
        own, other = before.get(learner, {}), now.get(learner, {})
        for setting in {**own, **other}:
            one, two = own.get(setting, {}), other.get(setting, {})
            ends: tuple[Any, ...] = (one.get("low95"), one.get("high95"), two.get("low95"), two.get("high95"))
            apart = None not in ends and (ends[2] > ends[1] or ends[3] < ends[0])
            named = {"learner": learner, "setting": setting, "before": one.get("accuracy"), "now": two.get("accuracy")}
            rows.append(named | {"ci_before": one.get("ci95"), "ci_now": two.get("ci95"), "apart": apart})
    return rows
