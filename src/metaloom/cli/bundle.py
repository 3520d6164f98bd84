"""`metaloom predict`, `verify`, `inspect` and `bench`: what a bundle says, and whether it is whole."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from csv import writer as csv_writer
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaloom.errors import FAILED, MetaloomError
from metaloom.system.escaping import on_one_line
from metaloom.system.files import strict_json

if TYPE_CHECKING:
    from metaloom.handoff.bundle.predict import Asked, Prediction

UNSURE = 0.5
NAMED = 10  # files in messages
WHY_LOW = (
    "a probability says how often such an answer is right (its temperature was fitted on validation tasks of other "
    "classes); more labelled examples, or fewer classes that look alike, make answers surer"
)
ALLOWED = 100  # rows that a table of `bench` may have
Seconds = Annotated[float, typer.Option(min=1, help="Most time to open the bundle, and for each answer, in seconds.")]
Gigabytes = Annotated[float, typer.Option(min=0.5, help="Most memory that the bundle may take, in GB.")]
BundleFolder = Annotated[Path, typer.Argument(help="Bundle folder, for example artifacts/bundle.")]


def predict(
    bundle: BundleFolder,
    files: Annotated[
        list[str],
        typer.Argument(
            help="Files of examples: images of any size, or tables of rows; or texts. Folders stand for all examples "
            "in them, - for names on standard input (one per line, or ended by NUL as find -print0 does)."
        ),
    ],
    task: Annotated[
        str | None, typer.Option(help="The task to choose classes from, in a bundle of many tasks.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="All classes' probabilities as JSON.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="The same as a table: a column per class.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Write that table into a new file: .parquet or .csv; for any number of files.")
    ] = None,
    seconds: Seconds = 600,
    gigabytes: Gigabytes = 8,
) -> None:
    """Classify examples with a bundle: file, class, its probability, novelty (1 is as usual).

    A probability says how often such an answer is right, by a temperature fitted on validation tasks of other classes.
    A file that cannot be read is an error at the end, with exit code 1; the others are classified all the same.
    Answers are printed as they come. With --out, a call that was killed goes on from there when it is given again.
    """
    from metaloom.handoff.bundle.answers_file import checked
    from metaloom.handoff.bundle.listed import listed
    from metaloom.handoff.bundle.predict import Asked, answers
    from metaloom.handoff.bundle.stranger import limited
    from metaloom.system.terminal import say

    if json_ + csv + (out is not None) > 1:
        raise MetaloomError("give one of --json, --csv and --out")
    if out is not None:
        checked(out)
    bad = Unread()
    with limited(bundle, seconds, gigabytes):
        asked = Asked.for_many(bundle, task)
        names = listed(files, asked.kind, sys.stdin.buffer, note)
        doubt = say if not (json_ or csv) else note
        if out is not None:
            _write_table(out, asked, names, [str(bundle), task, files], bad)
        else:
            found = (prediction for _, prediction in answers(asked, names, bad, doubt))
            if json_:
                print(strict_json([_row(each) for each in found]))
            elif csv:
                _print_table(found, asked.labels)
            else:
                _print_lines(found)
    bad.conclude()


def note(message: str) -> None:
    """On standard error, as standard output has the answers."""
    from metaloom.system.terminal import complain, quiet

    if not quiet():
        complain(message)


class Unread:
    """Files that cannot be read: the first few errors, and how many there are."""

    def __init__(self) -> None:
        self.first: list[MetaloomError] = []
        self.total = 0

    def __call__(self, error: MetaloomError) -> None:
        """One more of them."""
        self.total += 1
        if self.total <= NAMED:
            self.first.append(error)

    def conclude(self) -> None:
        """Print them, and end with exit code 1 where there is one."""
        from metaloom.system.plural import several
        from metaloom.system.terminal import complain

        for error in self.first:
            complain(f"error: {error}")
        if self.total > NAMED:
            complain(f"error: {several(self.total - NAMED, 'more file')} could not be read")
        if self.total:
            raise typer.Exit(FAILED)


def _write_table(
    out: Path, asked: Asked, names: Iterator[str | Path], given: list[Any], bad: Callable[[MetaloomError], None]
) -> None:
    """The answers to all files as a table of that name."""
    from metaloom.handoff.bundle.answers_file import AnswersFile, columns_of, row_of
    from metaloom.handoff.bundle.predict import answers
    from metaloom.handoff.shipped.verify import SUMS
    from metaloom.system.files import md5
    from metaloom.system.plural import several
    from metaloom.system.terminal import say

    about = {"bundle": md5(asked.folder / SUMS), "given": given}
    table = AnswersFile(out, columns_of(asked.labels), about)
    if table.known:
        say(f"goes on: {several(len(table.known), 'file')} answered before")
    gone: list[int] = []
    found = answers(asked, table.left(names, gone.append), bad, say)
    for file, own in groupby(found, key=lambda each: each[0]):
        table.put(file, (row_of(prediction) for _, prediction in own))
    if gone:
        table.forget()
        raise MetaloomError(
            f"{several(gone[0], 'file')} of the call that was killed {'is' if gone[0] == 1 else 'are'} not asked about "
            "any more, so its answers are removed: run this again"
        )
    say(f"{out}: {several(table.finish(), 'answer')}")


def _print_lines(predictions: Iterable[Prediction]) -> None:
    """A line for each, and on standard error why many are unsure."""
    from metaloom.system.plural import several

    unsure = total = 0
    for each in predictions:
        total, unsure = total + 1, unsure + (each.probability < UNSURE)
        names = f"{on_one_line(each.example)}\t{on_one_line(each.label)}"
        print(f"{names}\t{each.probability:.3f}\tnovelty {each.novelty:.1f}", flush=True)
    if unsure:
        note(f"{unsure} of {several(total, 'answer')} under {UNSURE:.0%}: {WHY_LOW}")


def _row(prediction: Prediction) -> dict[str, Any]:
    return {
        "example": prediction.example.encode("utf-8", "backslashreplace").decode("utf-8"),
        "label": prediction.label,
        "probability": prediction.probability,
        "novelty": prediction.novelty,
        "probabilities": prediction.probabilities,
    }


def _print_table(predictions: Iterable[Prediction], labels: Sequence[str]) -> None:
    from metaloom.handoff.bundle.answers_file import columns_of, csv_row

    table = csv_writer(sys.stdout, lineterminator="\n")
    for number, each in enumerate(predictions):
        if not number:
            table.writerow(columns_of(labels))
        table.writerow(csv_row(each))


def verify(
    bundle: BundleFolder,
    key: Annotated[
        Path | None, typer.Option(help="Public key: the bundle must be signed with its private one.")
    ] = None,
    provider: Annotated[
        str | None, typer.Option(help="Execution provider of onnxruntime, for example OpenVINOExecutionProvider.")
    ] = None,
    seconds: Seconds = 600,
    gigabytes: Gigabytes = 8,
) -> None:
    """Check a bundle: files, versions, labels, its graphs' answers to samples; with --key, also who signed it.

    It is opened in a process of its own with limits of time and memory, as it may come from a stranger.
    """
    from metaloom.handoff.shipped.verify import main

    if key:
        from metaloom.handoff.bundle.signing import check_signature
        from metaloom.system.terminal import complain

        problems = check_signature(bundle, str(key))
        for problem in problems:
            complain(f"not verified: {problem}")
        if problems:
            raise typer.Exit(FAILED)
    limits = ["--seconds", str(seconds), "--gigabytes", str(gigabytes)]
    raise typer.Exit(main([str(bundle), *limits, *(["--provider", provider] if provider else [])]))


def inspect(bundle: BundleFolder, seconds: Seconds = 600, gigabytes: Gigabytes = 8) -> None:
    """Say what a bundle is, which data it comes from, and how good it is."""
    from metaloom.handoff.bundle.inspect import lines
    from metaloom.handoff.bundle.stranger import limited, usable
    from metaloom.handoff.metadata import read_metadata

    with limited(bundle, seconds, gigabytes):
        opened = usable(bundle, [])
        found = list(lines(bundle, read_metadata(opened.metadata), opened.labels))
    for name, text in found:
        print(f"{name:<17}{on_one_line(text)}")


def bench(
    bundle: BundleFolder,
    seconds: Annotated[float, typer.Option(min=0.05, help="Time to measure each row of the table.")] = 1.0,
    model: Annotated[
        Path | None, typer.Option(help="Folder of the meta-learner for the rows of torch; default: the project's.")
    ] = None,
    gigabytes: Gigabytes = 8,
) -> None:
    """Measure latency and throughput by batch and threads, torch beside it in the same run."""
    from metaloom.handoff.bundle.bench import measure, printed
    from metaloom.handoff.bundle.stranger import SECONDS, limited, timed

    with limited(bundle, SECONDS + ALLOWED * seconds, gigabytes), timed(bundle):
        rows = measure(bundle, model or _models_here(), seconds)
    print(printed(rows))


def _models_here() -> Path | None:
    """The meta-learners of the project that this folder is in; None outside one: a bundle needs none."""
    from metaloom.versioning.paths import Outputs
    from metaloom.versioning.project import root_above

    root = root_above()
    return root / Outputs(root).models if root is not None else None
