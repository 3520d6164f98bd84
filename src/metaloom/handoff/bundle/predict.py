"""Predictions from a bundle: onnxruntime and what reads the files, no torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from metaloom.data.files import Example, fitting, read_argument
from metaloom.data.lost import Lost
from metaloom.errors import MetaloomError
from metaloom.handoff.bundle.in_order import in_order, workers
from metaloom.handoff.bundle.stranger import timed, usable
from metaloom.handoff.shipped.verify import FLEET, METADATA, MODEL, Bundle
from metaloom.kinds import Kind, Tables, kind_from
from metaloom.system.parallel import cores
from metaloom.system.plural import several, some

NAMED = 3  # tasks in a message
BATCH = 64  # files, or rows of tables, that are read together
TOGETHER = 16  # examples that a graph is asked about together: more are no faster, and take memory in each thread
LARGEST = 32 * 2**20  # bytes of raw examples that wait to be asked about


@dataclass(frozen=True)
class Prediction:
    """The classes of one example with their probabilities, the likeliest first.

    Args:
        example: its file; FILE#3 is the third of a file that holds many.
        probabilities: by class.
        novelty: how far it is from the nearest class, in units of how far the class's own examples are: 1 is as usual.
    """

    example: str
    probabilities: dict[str, float]
    novelty: float

    @property
    def label(self) -> str:
        """The likeliest class."""
        return next(iter(self.probabilities))

    @property
    def probability(self) -> float:
        """The probability of the likeliest class."""
        return self.probabilities[self.label]


def predict(
    bundle: str | Path,
    files: Iterable[str | Path],
    task: str | None = None,
    on_bad: Callable[[MetaloomError], None] | None = None,
    on_doubt: Callable[[str], None] | None = None,
) -> list[Prediction]:
    """Classify the examples in files.

    Args:
        bundle: its folder.
        files: of examples: one each of any size, or tables of many; in their place a text itself (`Kind.spelled`).
        task: to choose classes from, in a bundle of many tasks.
        on_bad: gets the error of a file or a row that cannot be read, and the others are classified all the same;
            None: it is raised.
        on_doubt: gets a sentence about the examples that do not look like those in training, or are not read in
            full.

    Raises:
        MetaloomError: the bundle is damaged, has no such task, or a file holds what is no example.
    """
    return [prediction for _, prediction in answers(Asked.for_many(bundle, task), files, on_bad, on_doubt)]


@dataclass(frozen=True)
class Asked:
    """A bundle that is open, and the task whose classes are asked for.

    Args:
        folder: of the bundle.
        opened: with the graph that answers.
        kind: of its examples.
        labels: class names in the order of the graph's answers.
        place: of the task in a bundle of many.
    """

    folder: Path
    opened: Bundle
    kind: Kind
    labels: list[str]
    place: int | None

    @classmethod
    def open(cls, folder: str | Path, task: str | None = None, threads: int = 0) -> Asked:
        """A bundle from its folder.

        Args:
            folder: of the bundle.
            task: to choose classes from, in a bundle of many tasks.
            threads: that answer a question; 0: one for each core.

        Raises:
            MetaloomError: it is damaged, or has no such task.
        """
        opened = usable(folder, [MODEL, FLEET], threads)
        labels, place = _of_task(opened, task)
        kind = kind_from(opened.metadata["input"], METADATA, "get a whole copy")
        return cls(Path(folder), opened, kind.in_bundle(Path(folder)), labels, place)

    @classmethod
    def for_many(cls, folder: str | Path, task: str | None = None) -> Asked:
        """The same for `answers`, which asks several questions at once: they share the cores."""
        return cls.open(folder, task, max(1, cores() // workers()))

    @property
    def shape(self) -> tuple[int | str, ...]:
        """Of a decoded example, with names where any size will do."""
        return self.kind.decoded(tuple(self.opened.metadata["input"]["shape"][1:]))

    def __call__(
        self, raw: Sequence[Shaped[np.ndarray, ...]]
    ) -> tuple[Float[np.ndarray, "example n_way"], Float[np.ndarray, " example"]]:
        """Probabilities and novelty of decoded examples of any sizes: those of one size are asked about together.

        Raises:
            MetaloomError: the graph does not answer each.
        """
        probabilities = np.zeros((len(raw), len(self.labels)), np.float32)
        novelty = np.zeros(len(raw), np.float32)
        raw = self.kind.for_graph(raw)
        for batch in _alike(raw):
            found, scores = self._answers(np.stack([raw[number] for number in batch]))
            probabilities[batch], novelty[batch] = found[:, : len(self.labels)], scores
        return probabilities, novelty

    def _answers(self, raw: Shaped[np.ndarray, "example ..."]) -> tuple[np.ndarray, np.ndarray]:
        (graph,) = self.opened.sessions
        further = [] if self.place is None else [np.full(len(raw), self.place)]
        with timed(self.folder):
            probabilities, novelty = self.opened.run(graph, raw, *further)
        if probabilities.shape[:1] != novelty.shape or len(novelty) != len(raw):
            raise MetaloomError(
                f"{self.folder} cannot be used: {graph} gives {len(novelty)} answers to {len(raw)} questions"
            )
        return probabilities, novelty

    def negatives(self, raw: Sequence[Shaped[np.ndarray, ...]]) -> int:
        """How many look like the negative of the examples in training.

        Raises:
            MetaloomError: the metadata are damaged.
        """
        saved = self.opened.metadata["input"]
        try:
            batches = [np.stack([raw[number] for number in batch]) for batch in _alike(raw)]
            return sum(int(self.kind.looks_negative(batch, saved).sum()) for batch in batches)
        except (KeyError, TypeError, ValueError) as error:
            what = f"{type(error).__name__}: {error}"
            raise MetaloomError(f"{METADATA} is damaged: input: {what}; get a whole copy of the bundle") from None

    def ranked(
        self,
        names: Sequence[str],
        probabilities: Float[np.ndarray, "example n_way"],
        novelty: Float[np.ndarray, " example"],
    ) -> Iterator[Prediction]:
        """A prediction for each example."""
        for name, row, score in zip(names, probabilities, novelty, strict=True):
            classes = {self.labels[way]: float(row[way]) for way in np.argsort(-row, kind="stable")}
            yield Prediction(name, classes, float(score))


def _alike(raw: Sequence[Shaped[np.ndarray, ...]]) -> Iterator[list[int]]:
    """Places of examples of one size, in batches."""
    found: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number, each in enumerate(raw):
        found[each.shape].append(number)
    for numbers in found.values():
        yield from (numbers[start : start + TOGETHER] for start in range(0, len(numbers), TOGETHER))


def answers(
    asked: Asked,
    files: Iterable[str | Path],
    on_bad: Callable[[MetaloomError], None] | None = None,
    on_doubt: Callable[[str], None] | None = None,
) -> Iterator[tuple[str, Prediction]]:
    """What `predict` returns, with the file of each, as the answers come: the examples of one batch are in memory.

    Args:
        asked: the bundle.
        files: as `predict` takes them.
        on_bad: as of `predict`.
        on_doubt: as of `predict`; it is called after the last answer.
    """
    negative = total = 0
    lost = Lost(asked.kind)
    if isinstance(asked.kind, Tables):  # a file may hold more examples than are asked about together
        found = in_order(partial(_answered, asked), batches(files, asked, on_bad, lost), BATCH)
    else:
        found = in_order(partial(_read_and_answered, asked, on_bad is not None), _chunks(files), BATCH)
    for some_of in found:
        if on_bad:
            for error in some_of.bad:
                on_bad(error)
        for file in dict.fromkeys(some_of.files):
            lost.look(file)
        negative, total = negative + some_of.negative, total + len(some_of.files)
        ranked = asked.ranked(some_of.sources, some_of.probabilities, some_of.novelty)
        yield from zip(some_of.files, ranked, strict=True)
    if on_doubt and lost.sentence:
        on_doubt(lost.sentence)
    if on_doubt and 2 * negative > total:
        on_doubt(
            f"{negative} of {total} {asked.kind.many} look like the negative of those in training: invert them, "
            "or adapt with `metaloom adapt --invert`"
        )


class Answered(NamedTuple):
    """Some examples with what the graph says of them.

    Args:
        files: of each example.
        sources: the example's own name.
        probabilities: of the classes.
        novelty: see `Prediction`.
        negative: how many look like the negative of those in training.
        bad: errors of files that cannot be read.
    """

    files: list[str]
    sources: list[str]
    probabilities: Float[np.ndarray, "example n_way"]
    novelty: Float[np.ndarray, " example"]
    negative: int
    bad: list[MetaloomError]


def _answered(asked: Asked, batch: Sequence[tuple[str, Example]], bad: Sequence[MetaloomError] = ()) -> Answered:
    raw = [example.raw for _, example in batch]
    files, sources = [file for file, _ in batch], [example.source for _, example in batch]
    return Answered(files, sources, *asked(raw), asked.negatives(raw), list(bad))


def _read_and_answered(asked: Asked, keep_bad: bool, files: Sequence[str | Path]) -> Answered:
    """Files that are one example each; those that cannot be read are kept, or raised."""
    parts: list[Answered] = []
    bad: list[MetaloomError] = []
    batch: list[tuple[str, Example]] = []
    for file in files:
        try:
            batch += ((str(file), each) for each in _examples(file, asked))
        except MetaloomError as error:
            if not keep_bad:
                raise
            bad.append(error)
        if sum(each.raw.nbytes for _, each in batch) >= LARGEST:
            parts.append(_answered(asked, batch))
            batch = []
    return _joined([*parts, _answered(asked, batch, bad)])


def _joined(parts: Sequence[Answered]) -> Answered:
    if len(parts) == 1:
        return parts[0]
    return Answered(
        [file for part in parts for file in part.files],
        [source for part in parts for source in part.sources],
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.novelty for part in parts]),
        sum(part.negative for part in parts),
        parts[-1].bad,
    )


def _examples(file: str | Path, asked: Asked, on_bad: Callable[[MetaloomError], None] | None = None) -> list[Example]:
    found = read_argument(file, asked.kind, on_bad)
    return [each._replace(raw=fitting(each, asked.shape, asked.kind)) for each in found]


def _chunks(files: Iterable[str | Path]) -> Iterator[list[str | Path]]:
    """A few files first, so that answers come at once, and then more at a time."""
    left, room = iter(files), 1
    while chunk := list(islice(left, room)):
        yield chunk
        room = min(2 * room, BATCH)


def batches(
    files: Iterable[str | Path], asked: Asked, on_bad: Callable[[MetaloomError], None] | None, lost: Lost
) -> Iterator[list[tuple[str, Example]]]:
    """Files and examples in their order: a few first, so that answers come at once, and then more at a time.

    Args:
        files: as `predict` takes them.
        asked: the bundle that is to answer.
        on_bad: as of `predict`.
        lost: notes what is not read in full.
    """
    batch: list[tuple[str, Example]] = []
    room, size = 1, 0
    for path in files:
        try:
            examples = _examples(path, asked, on_bad)
        except MetaloomError as error:
            if on_bad is None:
                raise
            on_bad(error)
            continue
        lost.look(path)
        for each in examples:
            batch.append((str(path), each))
            size += each.raw.nbytes
            if len(batch) >= room or size >= LARGEST:
                yield batch
                batch, room, size = [], min(2 * room, BATCH), 0
    if batch:
        yield batch


def _of_task(opened: Bundle, task: str | None) -> tuple[list[str], int | None]:
    """The classes, and the task's place in a bundle of many."""
    labels = opened.labels
    if not isinstance(labels, dict):
        if task is not None:
            raise MetaloomError("this bundle is of one task: leave out --task")
        return labels, None
    if task not in labels:
        none = "" if task is None else f", none called {task}"
        known = f"{several(len(labels), 'task')} ({some(list(labels), NAMED)})"
        raise MetaloomError(f"this bundle has {known}{none}: name one with --task")
    return labels[task], list(labels).index(task)
