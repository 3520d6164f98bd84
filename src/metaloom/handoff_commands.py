"""`metaloom adapt`, `predict` and `verify`: a task model for a user's own folder, and what it says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from metaloom.errors import MetaloomError

MODELS = Path("artifacts/models")
BundleFolder = Annotated[Path, typer.Argument(help="Bundle folder, for example artifacts/bundle.")]


def adapt(
    support: Annotated[Path, typer.Option(help="Labelled examples: a folder of pictures for each class.")],
    out: Annotated[Path, typer.Option(help="Where the bundle goes; must not exist.")],
    model: Annotated[
        Path | None, typer.Option(help="Meta-learner to adapt; without it the champion of artifacts/models.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that stands at --out.")] = False,
) -> None:
    """Learn a task from a folder of labelled examples, and write it as a verified bundle."""
    from metaloom.config import load_settings
    from metaloom.progress import bar, say

    settings = load_settings()
    _check_out(out, force)
    with bar("adapt", 4) as progress:
        from metaloom.handoff.own_task import adapt_to_folder

        folder = model or _champion(settings.methods)
        made = adapt_to_folder(support, out, folder, settings, progress.update)
    for path in made.repeated:
        say(f"left out {path}: its class has the same picture already")
    say(made.summary)
    print(out)


def predict(
    bundle: BundleFolder,
    images: Annotated[list[Path], typer.Argument(help="Picture files of any size.")],
    json_: Annotated[bool, typer.Option("--json", help="All classes' probabilities as JSON.")] = False,
) -> None:
    """Classify pictures with a bundle."""
    from metaloom.handoff.predict import predict as classify

    predictions = classify(bundle, images)
    if json_:
        rows = [
            {
                "image": p.image,
                "label": p.label,
                "probability": p.probability,
                "probabilities": p.probabilities,
            }
            for p in predictions
        ]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for prediction in predictions:
        print(f"{prediction.image}\t{prediction.label}\t{prediction.probability:.3f}")


def verify(bundle: BundleFolder) -> None:
    """Check a bundle: files, versions, labels, and the graph's answers on its golden samples."""
    from metaloom.handoff.verify import main

    raise typer.Exit(main([str(bundle)]))


def _check_out(out: Path, force: bool) -> None:
    if not out.exists() and not out.is_symlink():
        return
    if not force:
        raise MetaloomError(f"{out} exists: choose another --out, or replace it with --force")
    if not (out / "SHA256SUMS").is_file() or out.is_symlink():
        raise MetaloomError(f"{out} is no bundle, so --force does not replace it: choose another --out")


def _champion(methods: Sequence[str]) -> Path:
    from metaloom.methods import champion

    return MODELS / champion(MODELS, methods)
