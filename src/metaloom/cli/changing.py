"""`metaloom data rename`, `merge`, `export` and `purge`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metaloom.cli.project import go_to_root
from metaloom.system.escaping import on_one_line
from metaloom.system.plural import several
from metaloom.system.provenance import DATA

if TYPE_CHECKING:
    from metaloom.config import Settings
    from metaloom.data.sources import Listing
    from metaloom.versioning.renaming import Renamed


def rename(
    old: Annotated[str, typer.Argument(help="A domain, or domain/class, as `metaloom data list` has it.")],
    new: Annotated[str, typer.Argument(help="Its new name.")],
) -> None:
    """Give a domain or a class in data/ another name, and make a new data version.

    What has the new name already is refused: `metaloom data merge` puts both together. splits.yaml takes the new name
    too, so that it stays in its split.
    """
    from metaloom.versioning.renaming import rename_in_data

    _change(rename_in_data, old, new, "renamed {} to {}")


def merge(
    source: Annotated[str, typer.Argument(help="A domain, or domain/class: it is gone afterwards.")],
    target: Annotated[str, typer.Argument(help="Another one, that gets all its examples.")],
) -> None:
    """Put one domain in data/ into another one, or one class, and make a new data version.

    Of two domains, classes of one name become one. Where both have a file of one name, the one that comes gets another.
    """
    from metaloom.versioning.renaming import merge_in_data

    _change(merge_in_data, source, target, "merged {} into {}")


def export(
    folder: Annotated[Path, typer.Argument(help="Where to: empty, or not there yet.")],
    version: Annotated[
        str | None,
        typer.Option(metavar="REV", help="The data of a commit, a tag or a version of the model; without it: data/."),
    ] = None,
) -> None:
    """Copy the data into plain folders, domain/class/file, whatever layout and archives they lie in.

    Texts and rows of numbers become a table for each domain. `metaloom data add` takes all of it again.
    """
    from metaloom.config import load_settings
    from metaloom.system.terminal import say
    from metaloom.versioning.data import data_lock
    from metaloom.versioning.exporting import check_target, export_data, listed_at

    folder = go_to_root()(folder)
    check_target(folder, Path(DATA))
    settings = load_settings()
    root = Path.cwd()
    if version is None:
        with data_lock(root):
            done = export_data(_listed(settings)(), folder)
    else:
        with listed_at(root, version) as listing:
            done = export_data(listing, folder)
    for line in (*done.renamed, *(f"left out {each}" for each in done.unreadable)):
        say(on_one_line(line))
    counts = several(done.examples, "example"), several(done.classes, "class", "classes")
    say(f"exported {counts[0]} of {counts[1]} in {several(done.domains, 'domain')}")
    print(folder)


def purge(
    example: Annotated[
        str,
        typer.Argument(
            help="A path in data/, also of an older version: of one, a class or a domain; or a file's MD5 or SHA-256."
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
) -> None:
    """Take an example out of data/, DVC's cache and the remotes, for the day when somebody asks to be forgotten.

    A class (domain/class) or a domain goes with all its examples, those of older versions too. Says first where it is
    and what was made of it, and asks. Versions of data/ that have it cannot be checked out whole afterwards:
    purged.yaml names the hashes, so that nobody takes that for damage. It cannot be undone.
    """
    from metaloom.config import load_settings
    from metaloom.system.terminal import say
    from metaloom.versioning.purged import PURGED
    from metaloom.versioning.purging import find_purge, told
    from metaloom.versioning.purging import purge as do_purge

    go_to_root()
    root, listed = Path.cwd(), _listed(load_settings())
    found = find_purge(root, example, listed)
    for line in told(found):
        print(on_one_line(line))
    if not yes and not typer.confirm("Purge it? This cannot be undone"):
        return
    version = do_purge(root, found, listed)
    print(f"purged: {found.oids[0] if found.folder is None else several(len(found.oids), 'file')}")
    if version is not None:
        say(f"data/ is now version {version.md5[:8]}")
    say(f"commit {PURGED}{' and data.dvc' if version else ''}; in other clones `metaloom doctor --fix`, after a pull")


def list_versions(root: Path, as_json: bool) -> None:
    """`metaloom data list --versions`."""
    from dataclasses import asdict

    from metaloom.system.files import strict_json
    from metaloom.system.provenance import data_version
    from metaloom.system.quantities import size
    from metaloom.versioning.holding import data_versions
    from metaloom.versioning.objects import short

    found, present = data_versions(root), data_version(root)
    if as_json:
        print(strict_json({"present": present, "versions": [asdict(each) for each in found]}))
        return
    words = {"whole": "in DVC's cache", "purged": "some of it was purged", "not here": "not all in DVC's cache"}
    for each in found:
        what = [short(each.version), each.date, each.commit[:8], several(each.files, "file"), size(each.size)]
        here = ", data.dvc" if each.version == present else ""
        print("\t".join([*what, f"{words[each.state]}{here}", on_one_line(", ".join(each.names))]).rstrip("\t"))
    if present and present not in {each.version for each in found}:
        print(f"{short(present)} in data.dvc is in no commit yet")
    elif not present and found:
        print("data.dvc is not here: `git checkout data.dvc`")
    elif not present:
        print("no version yet: `metaloom run` makes one")


def _listed(settings: Settings) -> Callable[[], Listing]:
    from metaloom.data.sources import list_sources
    from metaloom.kinds import packing_of

    kind = packing_of(settings)
    return lambda: list_sources(Path(DATA), kind)


def _change(change: Callable[[Path, str, str, Callable[[], Listing]], Renamed], old: str, new: str, words: str) -> None:
    """Change names in data/, and say what was done."""
    from metaloom.config import load_settings
    from metaloom.system.terminal import say

    go_to_root()
    settings = load_settings()
    done = change(Path.cwd(), old, new, _listed(settings))
    say(words.format(done.old, done.new))
    _say_done(done, settings)


def _say_done(done: Renamed, settings: Settings) -> None:
    from metaloom.config import SPLITS
    from metaloom.system.git import committed
    from metaloom.system.terminal import say
    from metaloom.tasks.kept import SPLITS_FILE

    for line in done.notes:
        say(line)
    for split in SPLITS:
        named = getattr(settings.split, split)
        for each in named if isinstance(named, list) else []:
            own = each.removeprefix("!")
            if f"{own}/".startswith(f"{done.old}/"):
                say(f"params.yaml: split.{split} names {own}: write {done.new}{own.removeprefix(done.old)} there")
    say(done.version.message)
    if done.splits:
        back = f"; to go back, `git checkout {SPLITS_FILE}` too" if committed(Path.cwd(), str(SPLITS_FILE)) else ""
        say(f"{SPLITS_FILE} has {done.new} in the place of {done.old}: commit it with data.dvc{back}")
