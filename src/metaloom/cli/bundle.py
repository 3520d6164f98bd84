"""`metaloom adapt`, `predict`, `verify`, `inspect` and `bench`: a model for a user's own task, and what it says."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from csv import writer as csv_writer
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaloom.errors import MetaloomError

if TYPE_CHECKING:
    from metaloom.handoff.bundle.predict import Prediction

MODELS = Path("artifacts/models")
BundleFolder = Annotated[Path, typer.Argument(help="Bundle folder, for example artifacts/bundle.")]
TrainedMethod = Annotated[
    str | None, typer.Option(help="Meta-learner of artifacts/models to adapt; without it their champion.")
]


def adapt(
    support: Annotated[Path, typer.Option(help="Labelled examples: a folder of pictures for each class.")],
    out: Annotated[Path, typer.Option(help="Where the bundle goes; must not exist.")],
    method: TrainedMethod = None,
    model: Annotated[Path | None, typer.Option(help="Meta-learner to adapt from another folder.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that stands at --out.")] = False,
) -> None:
    """Learn a task from a folder of labelled examples, and write it as a verified bundle."""
    from metaloom.config import load_settings
    from metaloom.system.terminal import bar, say

    settings = load_settings()
    _check_out(out, force)
    if model and method:
        raise MetaloomError("give --method or --model, not both")
    with bar("adapt", 4) as progress:
        from metaloom.handoff.adapting.one import adapt_to_folder

        folder = model or trained_or_champion(method)
        made = adapt_to_folder(support, out, folder, settings, progress.update)
    for path in made.repeated:
        say(f"left out {path}: its class has the same picture already")
    say(made.summary)
    print(out)


def predict(
    bundle: BundleFolder,
    images: Annotated[list[Path], typer.Argument(help="Picture files of any size.")],
    task: Annotated[str | None, typer.Option(help="Whose classes they are, for a bundle of many tasks.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="All classes' probabilities as JSON.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="The same as a table: a row an image, a column a class.")] = False,
) -> None:
    """Classify pictures with a bundle."""
    from metaloom.handoff.bundle.predict import predict as classify

    if json_ and csv:
        raise MetaloomError("give --json or --csv, not both")
    predictions = classify(bundle, images, task)
    if json_:
        print(json.dumps([_row(each) for each in predictions], indent=2, ensure_ascii=False))
    elif csv:
        _print_table(predictions)
    else:
        for each in predictions:
            print(f"{each.image}\t{each.label}\t{each.probability:.3f}\tunlike {each.unlike:.1f}")


def _row(prediction: Prediction) -> dict[str, Any]:
    return {
        "image": prediction.image,
        "label": prediction.label,
        "probability": prediction.probability,
        "unlike": prediction.unlike,
        "probabilities": prediction.probabilities,
    }


def _print_table(predictions: Sequence[Prediction]) -> None:
    labels = sorted(predictions[0].probabilities)
    table = csv_writer(sys.stdout, lineterminator="\n")
    table.writerow(["image", "label", "probability", "unlike", *(f"p({label})" for label in labels)])
    for each in predictions:
        own = [each.probabilities[label] for label in labels]
        table.writerow([each.image, each.label, each.probability, each.unlike, *own])


def verify(
    bundle: BundleFolder,
    key: Annotated[
        Path | None, typer.Option(help="Public key: the bundle must be signed with its private one.")
    ] = None,
) -> None:
    """Check a bundle: files, versions, labels, the graphs' answers on its golden samples; with --key whose it is."""
    from metaloom.handoff.shipped.verify import main

    if key:
        from metaloom.handoff.bundle.signing import check_signature

        problems = check_signature(bundle, str(key))
        for problem in problems:
            print(f"not verified: {problem}", file=sys.stderr)
        if problems:
            raise typer.Exit(1)
    raise typer.Exit(main([str(bundle)]))


def inspect(bundle: BundleFolder) -> None:
    """Say what a bundle is, which data it comes from, and how good it is."""
    from metaloom.handoff.bundle.inspect import lines
    from metaloom.handoff.bundle.predict import usable

    opened = usable(bundle, [])
    for name, text in lines(bundle, opened.metadata, opened.labels):
        print(f"{name:<17}{text}")


def bench(
    bundle: BundleFolder,
    seconds: Annotated[float, typer.Option(min=0.05, help="For each row of the table.")] = 1.0,
    model: Annotated[
        Path | None, typer.Option(help="Meta-learner for the rows of torch; without it that of artifacts/models.")
    ] = None,
) -> None:
    """Measure latency and throughput by batch and threads, torch beside it in the same run."""
    from metaloom.handoff.bundle.bench import measure, printed

    print(printed(measure(bundle, model or MODELS, seconds)))


def _check_out(out: Path, force: bool) -> None:
    if not out.exists() and not out.is_symlink():
        return
    if not force:
        raise MetaloomError(f"{out} exists: choose another --out, or replace it with --force")
    if not (out / "SHA256SUMS").is_file() or out.is_symlink():
        raise MetaloomError(f"{out} is no bundle, so --force does not replace it: choose another --out")


def _trained(method: str) -> Path:
    if not (MODELS / method / "learner.json").is_file():
        there = sorted(path.parent.name for path in MODELS.glob("*/learner.json"))
        known = f"there are {', '.join(there)}" if there else "`metaloom run` trains them"
        raise MetaloomError(f"{MODELS} has no meta-learner {method!r}: {known}")
    return MODELS / method


def trained_or_champion(method: str | None) -> Path:
    """The folder of a method's meta-learner; without a method, of the one that validates best."""
    if method:
        return _trained(method)
    from metaloom.config import load_settings
    from metaloom.learner import champion

    return MODELS / champion(MODELS, load_settings().methods)
