"""`metaloom models`, `promote` and `rollback`: which model version is in which stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaloom.system.files import strict_json

if TYPE_CHECKING:
    from metaloom.versioning.registry import ModelVersion

Stage = Annotated[str, typer.Option(help="prod, or a name of your own, such as candidate.")]
SHARE = "share it: `dvc push --all-tags`, then `git push --tags`"


def models(json_: Annotated[bool, typer.Option("--json", help="The same as JSON.")] = False) -> None:
    """List model versions: stage, data version, accuracy with its interval, date."""
    from metaloom.versioning.project import find_root
    from metaloom.versioning.registry import model_versions

    rows = [_row(each) for each in model_versions(find_root())]
    if json_:
        print(strict_json(rows))
    elif not rows:
        print("no version yet: `metaloom promote` makes the present commit the first one")
    else:
        print(f"{'version':<10}{'stage':<12}{'data':<10}{'accuracy':<28}{'date':<12}commit")
        for row in rows:
            stages, data = ",".join(row["stages"]) or "-", (row["data"] or "not here")[:8]
            print(
                f"{row['version']:<10}{stages:<12}{data:<10}{_accuracy(row['accuracy']):<28}"
                f"{row['date'][:10]:<12}{row['commit'][:8]}"
            )


def promote(
    version: Annotated[
        str | None,
        typer.Argument(help="A version such as v0.2.0. A new name, or none, makes the present commit a version."),
    ] = None,
    stage: Stage = "prod",
) -> None:
    """Put a model version into a stage, if its bundle verifies."""
    from metaloom.versioning.project import find_root
    from metaloom.versioning.registry import promote as promoted

    print(f"{promoted(find_root(), version, stage)} is {stage}; {SHARE}")


def rollback(stage: Stage = "prod") -> None:
    """Put the previous version back into a stage."""
    from metaloom.versioning.project import find_root
    from metaloom.versioning.registry import rollback as rolled_back

    left, back = rolled_back(find_root(), stage)
    print(f"{back} is {stage} again, instead of {left}; {SHARE}")


def _row(each: ModelVersion) -> dict[str, Any]:
    metadata = each.metadata or {}
    return {
        "version": each.version,
        "stages": each.stages,
        "data": metadata.get("provenance", {}).get("data"),
        "accuracy": metadata.get("metrics", {}).get("task"),
        "date": each.date.isoformat(),
        "commit": each.commit,
    }


def _accuracy(measured: dict[str, Any] | None) -> str:
    if measured is None:
        return "not known here"
    return f"{measured['accuracy']:.1%} ({measured['low95']:.1%} to {measured['high95']:.1%})"
