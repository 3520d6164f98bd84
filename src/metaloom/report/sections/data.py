"""The data card: what the data set holds, how it was split, what was left out and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from markupsafe import Markup

from metaloom.config import NO_ENCODER, SPLITS
from metaloom.data.packed import Dataset
from metaloom.data.preview import read_preview
from metaloom.data.problems import in_words
from metaloom.errors import MetaloomError
from metaloom.kinds import Kind, Shown
from metaloom.report.charts.marks import stacked_bar
from metaloom.report.inputs import Inputs, read_table
from metaloom.report.words import learner_title
from metaloom.system.files import makes_again, read_json

SPLIT_WORDS = {"train": "training", "validation": "validation", "test": "test", "": "not used"}
THUMBNAILS = 6  # of a domain, each of another class
BUDGET = 900_000  # characters of thumbnails
MOST_DOMAINS = 200
MOST_LISTED = 25  # problems of one name

PROBLEMS = {
    "unreadable": "could not be read, or blank",
    "duplicate": "exact copy of another example of its class; one is kept",
    "conflict": "the same example in two classes; left out of both",
    "small_class": "class with too few usable examples; left out",
    "empty_class": "class without a usable example",
    "ignored": "not a file of examples; passed over",
}


@dataclass(frozen=True)
class Domain:
    """One row of the table by domain; `examples` counts examples, `rows` are those shown."""

    name: str
    split: str
    classes: int
    examples: int
    rows: list[int]

    @property
    def split_words(self) -> str:
        return SPLIT_WORDS.get(self.split, self.split)


@dataclass(frozen=True)
class SplitCounts:
    """All of one split."""

    split: str
    domains: int
    classes: int
    examples: int

    @property
    def words(self) -> str:
        return SPLIT_WORDS.get(self.split, self.split)


@dataclass(frozen=True)
class Problem:
    """Problems of quality.json under one name: how many, what it means, and the first few."""

    name: str
    meaning: str
    total: int
    listed: list[str]


@dataclass(frozen=True)
class Seen:
    """One example before and after it was packed, as data: URIs, and its size as it came."""

    before: str
    after: str
    size: str


@dataclass(frozen=True)
class DataCard:
    """The section: what the data are, and what was left out of them."""

    packed: str
    domains: list[Domain]
    domains_left_off: int
    parts: list[SplitCounts]
    chart: Markup
    seen: int
    used: int
    problems: list[Problem]
    fitted: list[str]
    notes: list[str]
    seen_as: list[Seen]
    by_class: bool  # whether a domain is in several splits

    @property
    def classes(self) -> int:
        return sum(part.classes for part in self.parts)

    @property
    def examples(self) -> int:
        return sum(part.examples for part in self.parts)

    def part(self, split: str) -> SplitCounts:
        return next(part for part in self.parts if part.split == split)


def _encoder(inputs: Inputs, kind: Kind) -> list[str]:
    """A sentence about the encoder that everyone is behind, where there is one; two where one has done without."""
    trained = [read_json(inputs.models / name / "metrics.json", made_by=f"train@{name}") for name in inputs.methods]
    found = next((each["encoder"] for each in trained if "encoder" in each), None)
    if found is None:
        return []
    said = f"The frozen encoder {found} has seen each {kind.one}: all learn on its embeddings, those without"
    notes = [f"{said} meta-learning too."]
    chosen = {name: each.get("lead", {}).get("of") for name, each in zip(inputs.methods, trained, strict=True)}
    if own := [learner_title(name) for name, network in chosen.items() if network == NO_ENCODER]:
        notes.append(f"{', '.join(own)} learned from the {kind.many} themselves, which validation found better.")
    return notes


def data_card(inputs: Inputs, dataset: Dataset, thumbnails: Shown) -> DataCard:
    """Read the class table, and put the quality report into words.

    Args:
        inputs: which hold the folders.
        dataset: that was prepared.
        thumbnails: of its rows.

    Raises:
        MetaloomError: the class table is absent or quality.json incomplete; the message names the stage.
    """
    quality, kind = dataset.quality, dataset.kind
    missing = {"examples", "used", "problems"} - quality.keys()
    if missing:
        path, lacks = inputs.dataset / "quality.json", ", ".join(sorted(missing))
        raise MetaloomError(f"{path} lacks {lacks}: {makes_again('prepare')}")
    classes = read_table(inputs.splits / "classes.parquet", "split", ["class", "domain", "split", "first", "count"])
    domains = _domains(classes)
    shown = _thin(domains[:MOST_DOMAINS], thumbnails)
    parts = [_part(split, domains) for split in SPLITS]
    whole = max(1, sum(part.classes for part in parts))
    summary = "Classes: " + ", ".join(f"{part.classes:,} {part.words}" for part in parts)
    return DataCard(
        packed=kind.packed_in_words(dataset.examples),
        domains=shown,
        domains_left_off=len(domains) - len(shown),
        parts=parts,
        chart=stacked_bar([(part.split, part.classes / whole) for part in parts], summary),
        seen=quality["examples"],
        used=quality["used"],
        problems=problems(quality),
        fitted=read_json(inputs.plan, made_by="plan").get("fitted", []),
        notes=[*(f"{note[:1].upper()}{note[1:]}." for note in quality.get("notes", [])), *_encoder(inputs, kind)],
        seen_as=_seen(inputs, thumbnails),
        by_class=bool((classes.groupby("domain")["split"].nunique() > 1).any()),
    )


def _seen(inputs: Inputs, thumbnails: Shown) -> list[Seen]:
    """Some examples as they came and as the network sees them; none where packing changes nothing."""
    return [Seen(each.uri, thumbnails.uri(each.row), each.size) for each in read_preview(inputs.dataset)]


def _part(split: str, domains: list[Domain]) -> SplitCounts:
    of_split = [domain for domain in domains if domain.split == split]
    return SplitCounts(split, len(of_split), sum(d.classes for d in of_split), sum(d.examples for d in of_split))


def _domains(classes: pd.DataFrame) -> list[Domain]:
    found = []
    for (name, split), part in classes.groupby(["domain", "split"], sort=True):
        places = sorted({round(k * (len(part) - 1) / max(1, THUMBNAILS - 1)) for k in range(THUMBNAILS)})
        first = part["first"].tolist()
        rows = [first[place] for place in places]
        found.append(Domain(str(name), str(split), len(part), sum(part["count"].tolist()), rows))
    return sorted(found, key=lambda domain: SPLITS[::-1].index(domain.split))


def _thin(domains: list[Domain], thumbnails: Shown) -> list[Domain]:
    """The same domains with fewer thumbnails each, so that all of them fit into the budget."""
    for wanted in range(THUMBNAILS, 0, -1):
        thinned = [replace(domain, rows=domain.rows[:wanted]) for domain in domains]
        if sum(len(thumbnails.uri(row)) for domain in thinned for row in domain.rows) <= BUDGET:
            return thinned
    return [replace(domain, rows=[]) for domain in domains]


def problems(quality: dict[str, Any]) -> list[Problem]:
    """The problems that there are, by their names, with the first few of each in words."""
    found = []
    for name, entries in quality["problems"].items():
        if entries:
            listed = [in_words(entry) for entry in entries[:MOST_LISTED]]
            found.append(Problem(name.replace("_", " "), PROBLEMS.get(name, ""), len(entries), listed))
    return found
