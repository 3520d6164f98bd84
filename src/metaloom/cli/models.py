"""`metaloom models`, `promote`, `rollback` and `gc`: which model version is in which stage, and what none needs."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaloom.errors import MetaloomError
from metaloom.system.columns import columns
from metaloom.system.escaping import on_one_line
from metaloom.system.files import strict_json
from metaloom.system.plural import several
from metaloom.system.terminal import show

if TYPE_CHECKING:
    from metaloom.judging.ledger import Entry
    from metaloom.versioning.registry import ModelVersion

COLUMNS = ("version", "stage", "data", "accuracy", "verdict", "date", "commit")
Stage = Annotated[str, typer.Option(help="prod, or a name of your own, such as candidate.")]
SHARE = "share it: `dvc push --all-tags`, then `git push --tags`"


def models(json_: Annotated[bool, typer.Option("--json", help="The same as JSON.")] = False) -> None:
    """List model versions: stage, data version, accuracy with its interval, verdict of the judge, date."""
    from metaloom.judging.records import read_ledger
    from metaloom.versioning.project import find_root
    from metaloom.versioning.registry import model_versions

    root = find_root()
    versions = model_versions(root)
    entries = read_ledger(root) if versions else []
    judged, shadowed = ({each.challenger: each for each in entries if each.of_shadow is of} for of in (False, True))
    rows = [
        _row(each, *(_verdict(said.get(each.commit), versions) for said in (judged, shadowed))) for each in versions
    ]
    if json_:
        print(strict_json(rows))
    elif not rows:
        print("no version yet: `metaloom promote` makes the present commit the first one")
    else:
        print("\n".join(columns([COLUMNS, *map(_cells, rows)])))
        if worn := _worn([each for each in entries if not each.of_shadow]):
            print(worn)
        if entries:
            print(_spent(root, entries))


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    """What a row shows, in the order of COLUMNS."""
    stages, data = ",".join(row["stages"]) or "-", on_one_line(row["data"] or "not here")[:8]
    said = _said(row["verdict"], row["shadow"])
    return row["version"], stages, data, _accuracy(row), said, row["date"][:10], row["commit"][:8]


def _worn(entries: list[Entry]) -> str:
    """How worn the questions of the last judgement are; "" where they are not."""
    from metaloom.judging.ledger import worn_out

    last = entries[-1] if entries else None
    if last is None or not last.worn:
        return ""
    return f"the judge: {worn_out(sum(each.test == last.test for each in entries), last.worn)}"


def _spent(root: Path, entries: list[Entry]) -> str:
    """How much of the error that the judge may make in a year has been used up."""
    from metaloom.config import PARAMS, load_settings
    from metaloom.judging.ledger import spent

    alpha, used = load_settings(root / PARAMS).judge.alpha, spent(entries, datetime.now(UTC))
    return f"the judge has spent {used / alpha:.1%} of the year's error ({used:.2g} of alpha {alpha:g})"


def promote(
    version: Annotated[
        str | None,
        typer.Argument(help="A version such as v0.2.0. A new name, or none, makes the present commit a version."),
    ] = None,
    stage: Stage = "prod",
    force: Annotated[bool, typer.Option("--force", help="Also one that is worse at the task handed off.")] = False,
) -> None:
    """Put a model version into a stage, if its bundle verifies, and its files into the remote, if there is one.

    One that the judge finds worse than the version in that stage, or whose bundle is where they cannot be judged, needs
    --force.
    """
    from metaloom.cli.judge import before_promotion
    from metaloom.versioning.project import find_root
    from metaloom.versioning.registry import promote as promoted

    root = find_root()
    name, commit, compared = promoted(root, version, stage, force, partial(before_promotion, root))
    print(f"{name} is {stage}; {_kept(root, name, commit, stage)}")
    if compared:
        show(compared)


def _kept(root: Path, version: str, commit: str, stage: str) -> str:
    """What becomes of its files; the stage is as it should be, whatever the remote says."""
    from metaloom.versioning.remotes import push_version

    try:
        files = push_version(root, commit)
    except MetaloomError as error:
        raise MetaloomError(
            f"the stage has changed, but its files are in this cache alone: {error}; then `metaloom promote {version}` "
            f"sends them{'' if stage == 'prod' else f' (with --stage {stage})'}"
        ) from None
    if files is None:
        return f"its files are in this cache alone: `dvc remote add -d NAME URL`; {SHARE}"
    return f"its {several(files, 'file')} are in the remote; share it: `git push --tags`"


def rollback(stage: Stage = "prod") -> None:
    """Put the previous version back into a stage."""
    from metaloom.versioning.project import find_root
    from metaloom.versioning.registry import rollback as rolled_back

    left, back = rolled_back(find_root(), stage)
    print(f"{back} is {stage} again, instead of {left}; {SHARE}")


def gc(yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """Delete what no version needs from DVC's cache: kept are tags, the last commit of each branch, and what is here.

    Prints what would go, and asks. Remotes stay as they are. (`dvc gc -w` keeps no model version.)
    """
    from metaloom.system.quantities import size
    from metaloom.versioning.gc import collect_garbage, find_unused
    from metaloom.versioning.project import find_root

    root = find_root()
    found = find_unused(root)
    if not found.objects:
        print("every file in the cache belongs to a tag, to the last commit of a branch, or to what is here")
        return
    for path, versions in found.outputs.items():
        show(f"{path:<32}{several(versions, 'version')} of earlier commits")
    if found.unnamed:
        print(f"{several(found.unnamed, 'folder')} of runs that were never committed")
    if not found.outputs and not found.unnamed:
        print("copies of single files, such as metrics, by which DVC restores a stage that has run before")
    what = f"{several(found.objects, 'file')} in DVC's cache, {size(found.size)}"
    if yes or typer.confirm(f"Delete {what}?"):
        collect_garbage(root)
        print(f"deleted: {what}")


def _row(each: ModelVersion, verdict: dict[str, Any] | None, shadow: dict[str, Any] | None) -> dict[str, Any]:
    from metaloom.versioning.quality import Told, told

    found = told(each.metadata)
    known = found or Told()
    measured = known.metrics.task
    return {
        "version": each.version,
        "stages": each.stages,
        "data": known.provenance.data,
        "accuracy": None if measured is None else measured.model_dump(),
        "verdict": verdict,
        "shadow": shadow,
        "damaged": each.metadata is not None and found is None,
        "date": each.date.isoformat(),
        "commit": each.commit,
    }


def _verdict(judged: Entry | None, versions: list[ModelVersion]) -> dict[str, Any] | None:
    """The last one about it; the champion by its version, where it has one."""
    if judged is None:
        return None
    names = {each.commit: each.version for each in versions}
    told = {"outcome": judged.outcome, "than": names.get(judged.champion, judged.champion[:8]), "gain": judged.gain}
    told |= {"low95": judged.low95, "high95": judged.high95, "episodes": judged.episodes, "held": list(judged.held)}
    return told | {"alpha": judged.alpha, "test": judged.test, "worn": judged.worn, "when": judged.when.isoformat()}


def _said(verdict: dict[str, Any] | None, shadow: dict[str, Any] | None) -> str:
    parts = [f"{_in_words(verdict)}{', held' if verdict['held'] else ''}"] if verdict else []
    parts += [f"in shadow {_in_words(shadow)}"] if shadow else []
    return "; ".join(parts) or "-"


def _in_words(verdict: dict[str, Any]) -> str:
    return f"{verdict['outcome']} than {verdict['than']}" if verdict["outcome"] != "undecided" else "undecided"


def _accuracy(row: dict[str, Any]) -> str:
    measured = row["accuracy"]
    if measured is None:
        return "metadata.json is damaged" if row["damaged"] else "not known here"
    return f"{measured['accuracy']:.1%} ({measured['low95']:.1%} to {measured['high95']:.1%})"
