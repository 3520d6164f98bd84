"""`metaloom adapt`: a bundle for a task of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metaloom.cli.project import TrainedMethod, go_to_root, trained_or_champion
from metaloom.errors import MetaloomError
from metaloom.versioning.of_run import check_of_run

LONGEST = 100  # characters of a task's name


def adapt(
    support: Annotated[
        Path,
        typer.Option(help="Labelled examples: a folder per class, or a table with a column `class`."),
    ],
    out: Annotated[Path, typer.Option(help="Where the bundle goes; must not exist.")],
    method: TrainedMethod = None,
    model: Annotated[Path | None, typer.Option(help="Folder of another meta-learner to adapt.")] = None,
    name: Annotated[
        str | None,
        typer.Option(help="The task's name in card, page and metadata; by default the name of its folder or file."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that stands at --out.")] = False,
    invert: Annotated[
        bool,
        typer.Option("--invert", help="Read pictures as negatives: light on dark, where training was dark on light."),
    ] = False,
) -> None:
    """Learn a task from labelled examples, and write it as a verified bundle."""
    from metaloom.config import load_settings
    from metaloom.system.terminal import bar, say

    if model and method:
        raise MetaloomError("give --method or --model, not both")
    _check_name(name)
    at_root = go_to_root()
    support, out = at_root(support), at_root(out)
    settings = load_settings()
    _check_out(out, force)
    with bar("adapt", 4) as progress:
        from metaloom.handoff.adapting.one import adapt_to

        if model:
            check_of_run(at_root(model))
        folder = at_root(model) if model else trained_or_champion(method)
        made = adapt_to(support, out, folder, settings, progress.update, invert, name or "")
    for path in made.repeated:
        say(f"left out {path}: its class has the same example already")
    if made.lost:
        say(made.lost)
    say(made.summary)
    if made.advice:
        say(made.advice)
    print(out)


def _check_name(name: str | None) -> None:
    if name is None:
        return
    if not name.strip() or not name.isprintable() or len(name) > LONGEST:
        raise MetaloomError(f"--name {name[:LONGEST]!r}: give one line of up to {LONGEST} characters")


def _check_out(out: Path, force: bool) -> None:
    from metaloom.handoff.shipped.verify import SUMS

    if not out.exists() and not out.is_symlink():
        return
    if not force:
        raise MetaloomError(f"{out} exists: choose another --out, or replace it with --force")
    if not (out / SUMS).is_file() or out.is_symlink():
        raise MetaloomError(f"{out} is no bundle, so --force does not replace it: choose another --out")
