"""Retrainings in MLflow: a run for each, its bundle as a version of a model, and the alias `champion`."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from metaloom.config import PARAMS
from metaloom.config.retraining import RetrainSettings
from metaloom.errors import MetaloomError
from metaloom.handoff.shipped.verify import METADATA
from metaloom.retraining.git import file_at
from metaloom.retraining.nights import FOLDER, Night
from metaloom.system.files import load_yaml, read_json, write_text
from metaloom.system.terminal import say
from metaloom.versioning.paths import Outputs
from metaloom.versioning.registry import in_stage
from metaloom.versioning.revisions import at_revision

ALIAS = "champion"  # of the model's version that is in the stage
KNOWN = f"{FOLDER}/mlflow-champion"  # server and version that the alias was last given to
NAME, VERSION = "metaloom.retraining", "metaloom.version"  # tags by which runs and versions are found again
AT_ONCE, LONGEST = 100, 500  # settings in a request, and characters of one
ENVIRONMENT = {  # what we want of MLflow, unless the environment says otherwise
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def track(root: Path, night: Night, settings: RetrainSettings) -> bool:
    """Log a retraining that has ended; what was logged of it before is completed.

    Args:
        root: the project's.
        night: the retraining.
        settings: with the server's URL.

    Returns:
        Whether it is logged; the next run tries again otherwise.
    """
    return _reached(lambda: _log(root, night, settings))


def follow(root: Path, settings: RetrainSettings) -> None:
    """Give the alias to the version that is in the stage, where it has another, as after `metaloom rollback`.

    Args:
        root: the project's.
        settings: with the server's URL.
    """
    present = in_stage(root, settings.stage) if settings.mlflow and Outputs(root).known("bundle") else None
    if present is None:
        return
    now, path = f"{settings.mlflow} {present[0]}\n", root / KNOWN
    if path.is_file() and path.read_text(encoding="utf-8") == now:
        return

    def give() -> None:
        client = _client(settings)
        wanted = f"name = '{settings.name}' and tags.`{VERSION}` = '{present[0]}'"
        for found in client.search_model_versions(wanted):
            client.set_registered_model_alias(settings.name, ALIAS, found.version)
            write_text(path, now)

    _reached(give)


def _reached(do: Any) -> bool:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # of its tries we say the last
    from mlflow.exceptions import MlflowException  # pyright: ignore[reportMissingImports] (an extra)

    try:
        do()
    except (MlflowException, OSError) as error:
        why = str(error).splitlines()[0][:200]
        say(f"the server of retrain.mlflow does not take it ({why}): the next run tries again")
        return False
    return True


def _client(settings: RetrainSettings) -> Any:
    from mlflow import MlflowClient  # pyright: ignore[reportMissingImports] (an extra)

    return MlflowClient(settings.mlflow, settings.mlflow)


def _log(root: Path, night: Night, settings: RetrainSettings) -> None:
    from mlflow.entities import Metric, Param, RunTag  # pyright: ignore[reportMissingImports] (an extra)

    client = _client(settings)
    run, now = _run(client, night, settings.name), int(1000 * night.ended)
    with tempfile.TemporaryDirectory() as folder:
        bundle = _bundle(root, night, Path(folder))
        measured = read_json(bundle / METADATA).get("metrics") if bundle else None
        numbers = dict(_numbers(measured or {})) | {"seconds": night.seconds, "kwh": night.kwh, "co2": night.co2}
        metrics = [Metric(name, value, now, 0) for name, value in numbers.items()]
        client.log_batch(run, metrics[: 10 * AT_ONCE], [], [RunTag(*each) for each in _tags(night).items()])
        used = [Param(name, str(value)[:LONGEST]) for name, value in _settings(root, night)]
        for first in range(0, len(used), AT_ONCE):
            client.log_batch(run, [], used[first : first + AT_ONCE])
        if bundle:
            client.log_artifacts(run, str(bundle), "bundle")
    if night.version:
        _make_version(client, run, night, settings.name)
    client.set_terminated(run, "FINISHED", now)


def _run(client: Any, night: Night, name: str) -> str:
    """The id of the retraining's run, which is made where there is none."""
    found = client.get_experiment_by_name(name)
    experiment = found.experiment_id if found else client.create_experiment(name)
    for run in client.search_runs([experiment], f"tags.`{NAME}` = '{night.name}'"):
        return run.info.run_id
    tags, began = {NAME: night.name}, int(1000 * night.began)
    return client.create_run(experiment, start_time=began, tags=tags, run_name=night.name).info.run_id


def _make_version(client: Any, run: str, night: Night, name: str) -> None:
    from mlflow.exceptions import MlflowException  # pyright: ignore[reportMissingImports] (an extra)

    if client.search_model_versions(f"run_id = '{run}'"):
        return
    with suppress(MlflowException):  # it is there
        client.create_registered_model(name)
    tags = {VERSION: night.version}
    client.create_model_version(name, f"runs:/{run}/bundle", run, tags, description=night.reason, await_creation_for=0)


def _bundle(root: Path, night: Night, folder: Path) -> Path | None:
    """A copy of the retraining's bundle; None where there is none, or it is no longer to be had."""
    if not night.commit or not Outputs(root).known("bundle"):
        return None
    try:
        with at_revision(root, night.commit) as revision:
            return revision.get(Outputs(root).bundle, folder / "bundle")
    except MetaloomError as error:
        say(f"{night.branch} goes to MLflow without its bundle: {error}")
        return None


def _tags(night: Night) -> dict[str, str]:
    return {
        "outcome": night.outcome,
        "reason": night.reason,
        "verdict": str(night.verdict.get("outcome", "")),
        "data": night.data,
        "commit": night.commit,
        "branch": night.branch,
        "champion": night.champion,
        VERSION: night.version,
    }


def _settings(root: Path, night: Night) -> Iterator[tuple[str, Any]]:
    yield from _leaves(load_yaml(file_at(root, night.commit, PARAMS)))


def _numbers(found: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in _leaves(found):
        if isinstance(value, int | float):
            yield name, float(value)


def _leaves(found: dict[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    """What is in sections, by dotted keys."""
    for name, value in found.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{place}{name}.")
        else:
            yield f"{place}{name}", value
