"""`metaloom predict`, `verify`, `inspect` and `bench`: what a bundle says, and whether it is whole."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from csv import writer as csv_writer
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaloom.errors import FAILED, MetaloomError
from metaloom.system.escaping import cell, on_one_line, shown
from metaloom.system.files import strict_json

if TYPE_CHECKING:
    from metaloom.handoff.bundle.predict import Prediction

UNSURE = 0.5
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
        typer.Argument(help="Files of examples: images of any size, or tables of rows; or texts."),
    ],
    task: Annotated[
        str | None, typer.Option(help="The task to choose classes from, in a bundle of many tasks.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="All classes' probabilities as JSON.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="The same as a table: a column per class.")] = False,
    seconds: Seconds = 600,
    gigabytes: Gigabytes = 8,
) -> None:
    """Classify examples with a bundle: file, class, its probability, novelty (1 is as usual).

    A probability says how often such an answer is right, by a temperature fitted on validation tasks of other classes.
    A file that cannot be read is an error at the end, with exit code 1; the others are classified all the same.
    """
    from metaloom.handoff.bundle.predict import predict as classify
    from metaloom.handoff.bundle.stranger import limited
    from metaloom.system.terminal import complain, say

    if json_ and csv:
        raise MetaloomError("give --json or --csv, not both")
    bad: list[MetaloomError] = []
    with limited(bundle, seconds, gigabytes):
        predictions = classify(bundle, files, task, bad.append, say)
    if json_:
        print(strict_json([_row(each) for each in predictions]))
    elif csv and predictions:
        _print_table(predictions)
    else:
        _print_lines(predictions)
    for error in bad:
        complain(f"error: {error}")
    if bad:
        raise typer.Exit(FAILED)


def _print_lines(predictions: Sequence[Prediction]) -> None:
    """A line for each, and on standard error why many are unsure."""
    from metaloom.system.plural import several
    from metaloom.system.terminal import complain, quiet

    for each in predictions:
        names = f"{on_one_line(each.example)}\t{on_one_line(each.label)}"
        print(f"{names}\t{each.probability:.3f}\tnovelty {each.novelty:.1f}")
    unsure = sum(each.probability < UNSURE for each in predictions)
    if unsure and not quiet():
        complain(f"{unsure} of {several(len(predictions), 'answer')} under {UNSURE:.0%}: {WHY_LOW}")


def _row(prediction: Prediction) -> dict[str, Any]:
    return {
        "example": prediction.example,
        "label": prediction.label,
        "probability": prediction.probability,
        "novelty": prediction.novelty,
        "probabilities": prediction.probabilities,
    }


def _print_table(predictions: Sequence[Prediction]) -> None:
    labels = sorted(predictions[0].probabilities)
    table = csv_writer(sys.stdout, lineterminator="\n")
    table.writerow(["example", "label", "probability", "novelty", *(shown(f"p({label})") for label in labels)])
    for each in predictions:
        own = [each.probabilities[label] for label in labels]
        names = (cell(shown(each.example)), cell(shown(each.label)))
        table.writerow([*names, each.probability, each.novelty, *own])


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
