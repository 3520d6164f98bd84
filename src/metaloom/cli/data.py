"""`metaloom data`: `add`, `check`, `list` and `remove`; `changing` has the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaloom.cli import changing
from metaloom.cli.project import go_to_root
from metaloom.errors import FAILED, MetaloomError
from metaloom.system.escaping import on_one_line, shown
from metaloom.system.plural import several, some
from metaloom.system.provenance import DATA, POINTER

if TYPE_CHECKING:
    from rich.table import Table

    from metaloom.config import Settings
    from metaloom.data.add import Addition
    from metaloom.data.layouts import Branch
    from metaloom.data.sources import Item
    from metaloom.kinds import Kind

FOLDER = Path(DATA)
Layout = Annotated[
    str | None, typer.Option(help="How its files lie: domains, flat, splits or table; detected where it is not given.")
]
KindOf = Annotated[str | None, typer.Option(help="pictures, text or vectors; without it: found out.")]
TextColumn = Annotated[str | None, typer.Option(help="The column of texts, if it is not found.")]
LabelColumn = Annotated[str | None, typer.Option(help="The column of classes, if it is not found.")]
DomainColumn = Annotated[str | None, typer.Option(help="The column of domains, if it is not found.")]
_SHOWN = 10
_PLACES = 3  # entries of data/ that a line names

app = typer.Typer(
    help="Add data, see what is there and what is wrong with it, change it, take some out.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


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
    kind: KindOf = None,
    text: TextColumn = None,
    label: LabelColumn = None,
    domain: DomainColumn = None,
) -> None:
    """Check a folder or archive of examples, copy it into data/ as it is, and make a new data version.

    Pictures lie in domain/class/ (domains), in class/ (flat: the name is the domain), in train/class/ beside
    validation/ or test/ (splits), or a metadata.csv or labels.csv names them (table). Of vectors and texts each file
    is a domain, and a column names the classes. Which kind it is, and which column is for what, is found out and
    written into params.yaml where nothing else is in data/. What is in data/ stays, the embedded glyphs too (as further
    domains), unless --only says otherwise. Versions that were replaced stay in DVC's cache.
    """
    from metaloom.config import PARAMS, load_settings
    from metaloom.config.editing import write_params
    from metaloom.data.add import inspect_addition, install_addition
    from metaloom.data.detect import in_yaml, refuse_changes
    from metaloom.system.terminal import say
    from metaloom.versioning.data import ADDING, data_lock, version_data

    path = go_to_root()(path)
    root, settings = Path.cwd(), load_settings()
    with data_lock(root):
        _refuse_absent_version(only)
        alone = only or _alone(name or path.name)
        found, values, words = _found(path, settings, kind, alone, text=text, label=label, domain=domain)
        refuse_changes(values, settings, path, FOLDER, alone, chosen=kind is not None)
        addition = inspect_addition(path, FOLDER, name, found, settings.prepare, replace, layout, only)
        if (replace or only) and FOLDER.is_dir() and any(FOLDER.iterdir()):
            version_data(root)  # what goes out of data/ stays in the cache
        install_addition(addition, FOLDER, Path(ADDING), only)
        if values:
            write_params(PARAMS, values)
            words.append(f"written into {PARAMS}: {', '.join(in_yaml(*each) for each in values.items())}")
        version = version_data(root)
    _say_added(addition, found)
    for line in words:
        say(line)
    say(version.message)
    say("next: `metaloom plan` shows what a run will do and how long it takes, `metaloom run` does it")


@app.command()
def check(
    path: Annotated[
        Path | None, typer.Argument(help="A folder or an archive that is not in data/ yet; without it: data/.")
    ] = None,
    layout: Layout = None,
    kind: KindOf = None,
    text: TextColumn = None,
    label: LabelColumn = None,
    domain: DomainColumn = None,
) -> None:
    """Print what `prepare` would use and what is wrong with the rest; writes nothing.

    Exits with 1 when more is unusable than prepare.max_bad_share.
    """
    from metaloom.config import load_settings
    from metaloom.data.add import list_elsewhere
    from metaloom.data.quality import judge
    from metaloom.data.scan import scan
    from metaloom.data.sources import list_sources
    from metaloom.kinds import packing_of
    from metaloom.system.terminal import say

    at_root = go_to_root()
    everything = load_settings()
    prepare, own = everything.prepare, packing_of(everything)
    path = _elsewhere(path and at_root(path))
    columns = {"text": text, "label": label, "domain": domain}
    if path is None:
        _refuse_given({"layout": layout, "kind": kind, **columns})
    else:
        own, _, words = _found(path, everything, kind, _alone(path.name), **columns)
        for line in words:
            say(line)
    listing = list_sources(FOLDER, own) if path is None else list_elsewhere(path, own, layout)
    report = judge(scan(listing), prepare.min_examples).report
    _say_read(listing.branches, report, given=layout is not None)
    _print_report(report, path or FOLDER, own, prepare.max_bad_share)
    if report["bad_share"] > prepare.max_bad_share or not report["used"]:
        raise typer.Exit(FAILED)


@app.command("list")
def list_(
    domain: Annotated[str | None, typer.Argument(help="Of this domain list the classes.")] = None,
    versions: Annotated[
        bool, typer.Option("--versions", help="List the versions of data/ that commits name, instead of domains.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="All domains and classes with their counts, as JSON.")] = False,
) -> None:
    """List the domains in data/, or the classes of one: how many examples, and in which file or folder they lie.

    Counted by names and rows: what `data check` finds wrong is counted too.
    """
    if versions:
        if domain is not None:
            raise MetaloomError(f"--versions are of all of {DATA}/: leave {domain} out")
        go_to_root()
        changing.list_versions(Path.cwd(), json_)
        return
    from metaloom.config import load_settings
    from metaloom.data.sources import list_sources
    from metaloom.kinds import packing_of
    from metaloom.system.files import strict_json
    from metaloom.system.meant import meant
    from metaloom.system.provenance import data_version
    from metaloom.versioning.data import absent

    go_to_root()
    kind = packing_of(load_settings())
    if not FOLDER.is_dir():
        raise absent(Path.cwd())
    counts = _counts(list_sources(FOLDER, kind).items)
    if domain is not None and domain not in counts:
        ends = [name for name in counts if name.endswith(f"/{domain}")]  # a table names it so
        asked = f"; did you mean {ends[0]!r}?" if ends else meant(domain, counts)
        raise MetaloomError(f"there is no domain {domain!r}: there are {some(list(counts), _SHOWN)}{asked}")
    version = data_version()
    if json_:
        found = counts if domain is None else {domain: counts[domain]}
        print(strict_json({"version": version, "domains": {name: own.classes for name, own in found.items()}}))
        return
    if domain is None:
        for name, own in counts.items():
            classes, examples = several(len(own.classes), "class", "classes"), sum(own.classes.values())
            print(f"{on_one_line(name)}\t{classes}\t{several(examples, kind.one, kind.many)}\t{own.places()}")
        total = sum(sum(own.classes.values()) for own in counts.values())
        print(f"{several(len(counts), 'domain')}, {several(total, kind.one, kind.many)}; {_version_in_words(version)}")
        return
    for name, number in counts[domain].classes.items():
        print(f"{on_one_line(name)}\t{several(number, kind.one, kind.many)}")


def _version_in_words(version: str | None) -> str:
    """Of data/, where data.dvc names this one or none."""
    from metaloom.versioning.data import held_version
    from metaloom.versioning.objects import short

    if version is None:
        return "no version yet: `metaloom run` makes one"
    if held_version(Path.cwd()) == version:
        return f"version {short(version)} in {POINTER}"
    return f"{DATA}/ differs from version {short(version)} in {POINTER}: `metaloom run` makes a new one"


@app.command()
def remove(
    name: Annotated[
        str,
        typer.Argument(
            help="What lies in data/: a domain, domain/class, one file, or an archive or a table as a whole."
        ),
    ],
) -> None:
    """Take a domain, a class or a single file out of data/, and make a new data version of the rest.

    What was there stays in DVC's cache: the last line says how to go back. Killed midway, it is either out or not; of a
    class that lies in several folders (train/, test/), the same again takes out the rest.
    """
    from metaloom.config import load_settings
    from metaloom.data.sources import list_sources
    from metaloom.kinds import packing_of
    from metaloom.system.terminal import say
    from metaloom.versioning.removing import remove_from_data

    go_to_root()
    kind = packing_of(load_settings())
    gone = remove_from_data(Path.cwd(), name, lambda: list_sources(FOLDER, kind))
    say(f"removed {' and '.join(map(str, gone.paths))}")
    for each in gone.classes:
        say(f"that was the last example of {each}: the class is gone")
    say(gone.version.message)


app.command()(changing.rename)
app.command()(changing.merge)
app.command()(changing.export)
app.command()(changing.purge)


@dataclass
class _Counts:
    """Of one domain: examples of each class, and what they lie in."""

    classes: dict[str, int] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)

    def places(self) -> str:
        """The entries of data/, for a person."""
        return on_one_line(some(sorted(self.files), _PLACES))


def _counts(items: Iterable[Item]) -> dict[str, _Counts]:
    found: dict[str, _Counts] = {}
    for item in items:
        own = found.setdefault(item.domain, _Counts())
        name = item.class_name.removeprefix(f"{item.domain}/")
        own.classes[name] = own.classes.get(name, 0) + 1
        own.files.add(str(FOLDER / item.file.relative_to(FOLDER).parts[0]))
    return found


def _alone(name: str) -> bool:
    """Whether nothing would be in data/ beside what gets this name there."""
    from metaloom.data.given import FILE

    return not FOLDER.is_dir() or {each.name for each in FOLDER.iterdir()} <= {FILE, name}


def _elsewhere(path: Path | None) -> Path | None:
    """The path; None where data/ itself is meant, whose layouts are given when data are added."""
    return None if path is not None and path.exists() and path.resolve() == FOLDER.resolve() else path


def _print_report(report: dict[str, Any], path: Path, kind: Kind, most: float) -> None:
    """The table, and whether the share of what is unusable is over the most that is allowed."""
    from rich.console import Console

    console = Console(highlight=False)
    console.print(_table(report, path))
    verdict = "over" if report["bad_share"] > most else "within"
    console.print(
        f"{report['bad_share']:.1%} of the {kind.many} are unusable, {verdict} prepare.max_bad_share ({most:.1%})"
    )


def _refuse_given(options: dict[str, str | None]) -> None:
    for name, value in options.items():
        if value is not None:
            raise MetaloomError(
                f"--{name} {value}: give a PATH with it; what is in {DATA}/ has its own, from `data add`"
            )


def _found(
    path: Path, settings: Settings, kind: str | None, alone: bool, **columns: str | None
) -> tuple[Kind, dict[str, Any], list[str]]:
    """The kind that a path holds, settings that have to be others for it, and what was found in words."""
    from metaloom.data.detect import changes, detect
    from metaloom.kinds import KINDS, packing_of

    if kind not in (None, *KINDS):
        raise MetaloomError(f"--kind {kind}: there are {', '.join(KINDS)}")
    given = {what: name for what, name in columns.items() if name is not None}
    found = detect(path, settings, given, kind, alone) if path.exists() else None
    if found is None:
        return packing_of(settings.model_copy(update={"kind": kind or settings.kind})), {}, []
    values = changes(found, settings)
    return found.kind, values, [found.in_words()] if found.columns or values else []


def _refuse_absent_version(only: bool) -> None:
    if Path(POINTER).exists() and not FOLDER.exists() and not only:
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
        f"added {FOLDER / addition.name}: {several(report['used'], kind.one, kind.many)} of "
        f"{several(report['classes'], 'class', 'classes')} in {several(report['domains'], 'domain')} "
        f"({some(addition.domains, _SHOWN)})"
    )
    others = sorted(entry.name for entry in FOLDER.iterdir() if entry.name not in (addition.name, FILE))
    if others and "reading" in report:
        report["reading"] += f"; all of {DATA}/ decides (`metaloom data check` says how)"
    _say_read(addition.branches, report, given=addition.layout is not None)
    _say_problems(report)
    if addition.already is not None:
        say(f"{addition.already.in_words(kind)}: `metaloom data check` says which of them are left out")
    if others:
        say(f"beside it in {DATA}/: {some(others, _SHOWN)} (--only would have taken them out)")


def _say_read(branches: Sequence[Branch], report: dict[str, Any], given: bool = False) -> None:
    """How the files lie, and what one may not expect of how they were read."""
    from metaloom.data.layouts import layout_lines
    from metaloom.data.quality import said
    from metaloom.system.terminal import say

    for line in [*layout_lines(branches, given), *said(report)]:
        say(line)


def _say_problems(report: dict[str, Any]) -> None:
    from metaloom.system.terminal import say

    counts = [f"{len(found)} {problem.replace('_', ' ')}" for problem, found in report["problems"].items() if found]
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
    for what in ("examples", "used", "classes", "domains"):
        table.add_row(what, f"{report[what]:,}", "")
    table.add_section()
    for problem, found in report["problems"].items():
        lines = [in_words(each) for each in found[:_SHOWN]]
        if len(found) > _SHOWN:
            lines.append(f"and {len(found) - _SHOWN} more")
        table.add_row(problem.replace("_", " "), f"{len(found):,}", escape("\n".join(map(on_one_line, lines))))
    return table
