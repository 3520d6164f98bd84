"""`metaloom data add` and `metaloom data check`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaloom.cli.project import go_to_root
from metaloom.errors import FAILED, MetaloomError
from metaloom.system.escaping import on_one_line, shown
from metaloom.system.plural import several, some
from metaloom.system.provenance import POINTER

if TYPE_CHECKING:
    from rich.table import Table

    from metaloom.data.add import Addition
    from metaloom.data.layouts import Branch
    from metaloom.kinds import Kind

DATA = Path("data")
Layout = Annotated[
    str | None, typer.Option(help="How its files lie: domains, flat, splits or table; without it: found out.")
]
_SHOWN = 10

app = typer.Typer(help="Add data, and see what is wrong with it.", no_args_is_help=True, rich_markup_mode="markdown")


@app.command()
def add(
    path: Annotated[
        Path,
        typer.Argument(help="A folder or an archive (.zip, .tar, .tar.gz, .tgz); for vectors and texts also a table."),
    ],
    name: Annotated[str | None, typer.Option(help="What to call it in data/.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace what has this name in data/.")] = False,
    only: Annotated[bool, typer.Option("--only", help="Take everything else out of data/.")] = False,
    layout: Layout = None,
) -> None:
    """Check a folder or archive of examples, copy it into data/ as it is, and make a new data version.

    Pictures lie in domain/class/ (domains), in class/ (flat: the name is the domain), in train/class/ beside
    validation/ or test/ (splits), or a metadata.csv or labels.csv names them (table). Of vectors and texts each file
    is a domain, and its column `class` names the classes. What is in data/ stays, the embedded glyphs too (as further
    domains), unless --only says otherwise. Versions that were replaced stay in DVC's cache.
    """
    from metaloom.config import load_settings
    from metaloom.data.add import inspect_addition, install_addition
    from metaloom.kinds import kind_of
    from metaloom.system.lock import STATE, project_lock
    from metaloom.system.terminal import say
    from metaloom.versioning.data import version_data

    path = go_to_root()(path)
    root, settings = Path.cwd(), load_settings()
    kind = kind_of(settings)
    with project_lock(root):
        _refuse_absent_version(only)
        addition = inspect_addition(path, DATA, name, kind, settings.prepare, replace, layout)
        if (replace or only) and DATA.is_dir() and any(DATA.iterdir()):
            version_data(root)  # what goes out of data/ stays in the cache
        install_addition(addition, DATA, Path(STATE) / "adding", only)
        version = version_data(root)
    _say_added(addition, kind)
    say(version.message)


@app.command()
def check(
    path: Annotated[
        Path | None, typer.Argument(help="A folder or an archive that is not in data/ yet; without it: data/.")
    ] = None,
    layout: Layout = None,
) -> None:
    """Print what `prepare` would use and what is wrong with the rest; writes nothing.

    Exits with 1 when more is unusable than prepare.max_bad_share.
    """
    from rich.console import Console

    from metaloom.config import load_settings
    from metaloom.data.add import list_elsewhere
    from metaloom.data.quality import judge
    from metaloom.data.scan import scan
    from metaloom.data.sources import list_sources
    from metaloom.kinds import packing_of

    at_root = go_to_root()
    path = path and at_root(path)
    everything = load_settings()
    settings, kind = everything.prepare, packing_of(everything)
    if path is not None and path.exists() and path.resolve() == DATA.resolve():
        path = None
    if path is None and layout is not None:
        raise MetaloomError(f"--layout {layout}: give a PATH with it; what is in {DATA}/ has its own, from `data add`")
    listing = list_sources(DATA, kind) if path is None else list_elsewhere(path, kind, layout)
    report = judge(scan(listing), settings.min_examples).report
    _say_read(listing.branches, report, given=layout is not None)
    over = report["bad_share"] > settings.max_bad_share
    console = Console(highlight=False)
    console.print(_table(report, path or DATA))
    verdict = "over" if over else "within"
    console.print(
        f"{report['bad_share']:.1%} of the {kind.many} are unusable, {verdict} prepare.max_bad_share "
        f"({settings.max_bad_share:.1%})"
    )
    if over or not report["used"]:
        raise typer.Exit(FAILED)


def _refuse_absent_version(only: bool) -> None:
    if Path(POINTER).exists() and not DATA.exists() and not only:
        raise MetaloomError(
            f"the project's own data set ({POINTER}) is not in data/ yet: add --only to use yours alone, or fetch it "
            "first (`metaloom run` or `dvc pull`) to have yours beside it"
        )


def _say_added(addition: Addition, kind: Kind) -> None:
    """What is in data/ now, how it was read, and what lies beside it."""
    from metaloom.data.given import FILE
    from metaloom.system.terminal import say

    report = addition.report
    say(
        f"added {DATA / addition.name}: {several(report['used'], kind.one, kind.many)} of "
        f"{several(report['classes'], 'class', 'classes')} in {several(report['domains'], 'domain')} "
        f"({some(addition.domains, _SHOWN)})"
    )
    others = sorted(entry.name for entry in DATA.iterdir() if entry.name not in (addition.name, FILE))
    if others and "reading" in report:
        report["reading"] += f"; all of {DATA}/ decides (`metaloom data check` says how)"
    _say_read(addition.branches, report, given=addition.layout is not None)
    _say_problems(report)
    if others:
        say(f"beside it in {DATA}/: {some(others, _SHOWN)} (--only would have taken them out)")


def _say_read(branches: Sequence[Branch], report: dict[str, Any], given: bool = False) -> None:
    """How the files lie, and what one may not expect of how they were read."""
    from metaloom.data.layouts import in_words
    from metaloom.data.quality import said
    from metaloom.system.terminal import say

    for line in [*in_words(branches, given), *said(report)]:
        say(line)


def _say_problems(report: dict[str, Any]) -> None:
    from metaloom.system.terminal import say

    counts = [f"{len(found)} {kind.replace('_', ' ')}" for kind, found in report["problems"].items() if found]
    if counts:
        say(f"left out: {', '.join(counts)} (`metaloom data check` lists them)")


def _table(report: dict[str, Any], path: Path) -> Table:
    from rich.markup import escape
    from rich.table import Table

    from metaloom.data.problems import in_words

    table = Table(title=escape(shown(str(path))), show_header=True)
    table.add_column("")
    table.add_column("count", justify="right")
    table.add_column("which", overflow="fold")
    for kind in ("examples", "used", "classes", "domains"):
        table.add_row(kind, f"{report[kind]:,}", "")
    table.add_section()
    for kind, found in report["problems"].items():
        lines = [in_words(each) for each in found[:_SHOWN]]
        if len(found) > _SHOWN:
            lines.append(f"and {len(found) - _SHOWN} more")
        table.add_row(kind.replace("_", " "), f"{len(found):,}", escape("\n".join(map(on_one_line, lines))))
    return table
