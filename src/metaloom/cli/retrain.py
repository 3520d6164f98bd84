"""`metaloom retrain` and `history`: one retraining here and now, and what became of those before."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaloom.cli.prefect_server import prefect_server
from metaloom.cli.project import ended_by_signals, enter_project
from metaloom.config import PARAMS, load_settings
from metaloom.errors import FAILED, MetaloomError
from metaloom.system.files import strict_json
from metaloom.system.plural import several
from metaloom.system.terminal import complain, say, show

if TYPE_CHECKING:
    from metaloom.retraining.nights import Night
    from metaloom.retraining.steps import Train


def retrain(
    force: Annotated[bool, typer.Option("--force", help="Run every stage, though nothing is new.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Wait up to SECONDS for another retraining to finish.")
    ] = 0,
    settle: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Wait until the newest file of data/ is SECONDS old.")
    ] = 0,
    backfill: Annotated[
        str | None,
        typer.Option(metavar="REV[..REV]", help="Train the data versions of these commits instead, for no stage."),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting for this retraining.")
    ] = None,
) -> None:
    """Train what is new, judge it against what is in the stage prod, and promote it if it is better.

    It works beside your checkout, which stays as it is: the result is a commit on a branch of its own,
    retrain/DATE-VERSION, and is pushed where there are remotes. The settings are in the section retrain of
    params.yaml.
    """
    from metaloom.config.loading import parse_override
    from metaloom.retraining import loop, past
    from metaloom.retraining.git import forget_hook

    if backfill is not None and settle:
        raise MetaloomError(
            "--settle is for data/ as it is now, which --backfill does not train: leave one of them out"
        )
    forget_hook()
    root, changed = enter_project(), dict(map(parse_override, set_ or []))

    def each(train: Train, **options: Any) -> list[loop.Result]:
        if backfill is not None:
            return past.backfill(root, train, backfill, force, changed=changed, **options)
        return [loop.retrain(root, train, force, changed=changed, **options)]

    if dry_run:
        for result in each(lambda place, force: None, dry_run=True):
            say(result.message)
        return
    with ended_by_signals():
        try:
            results = each(_trainer(root), wait=wait, **({"settle": settle} if backfill is None else {}))
        except MetaloomError as error:
            complain(f"error: {error}")
            raise typer.Exit(FAILED) from None
    for result in results:
        say(result.message)
        for line in result.night.notes if result.night else ():
            say(line)


def _trainer(root: Path) -> Train:
    """What runs the pipeline; Prefect and its server are started when there is something to run."""

    @cache
    def started() -> Train:
        server = prefect_server(root)
        from flows.notes import mark_crashed
        from flows.retrain import run_pipeline

        server.wait()
        for line in mark_crashed(root):
            say(line)
        return run_pipeline

    return lambda place, force: started()(place, force)


def history(
    json_: Annotated[bool, typer.Option("--json", help="The same as JSON.")] = False,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write them as a page for the browser, in one file.")
    ] = None,
) -> None:
    """List retrainings: what they were made of, their accuracy, and what became of them."""
    from metaloom.retraining.history import table
    from metaloom.retraining.nights import nights
    from metaloom.versioning.project import find_root

    start = Path.cwd()
    root = find_root()
    found = nights(root)
    if page is not None:
        _write_page(root, found, start / page)
        return
    if json_:
        print(strict_json([asdict(night) for night in found]))
        return
    show(table(found) if found else "no retraining yet: `metaloom retrain` does one, `metaloom serve` on a schedule")


def _write_page(root: Path, found: list[Night], file: Path) -> None:
    from metaloom.retraining import page
    from metaloom.system.files import write_text
    from metaloom.versioning.registry import in_stage

    if not found:
        raise MetaloomError("no retraining yet, so there is nothing to show: `metaloom retrain` does one")
    if file.is_dir() or not file.parent.is_dir():
        raise MetaloomError(f"{file} cannot be written: give a file in a folder that is there, for example nights.html")
    settings = load_settings(root / PARAMS).retrain
    present = in_stage(root, settings.stage)
    write_text(file, page.page(found, settings.name, settings.stage, present[0] if present else ""))
    say(f"{file} shows {several(len(found), 'retraining')}")
