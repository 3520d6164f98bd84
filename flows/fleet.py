"""Many tasks adapted and exported, as a Prefect flow: a part of the fleet is a task of the flow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from flows.notes import FORGET, note
from metaloom.data.support import task_name
from metaloom.errors import MetaloomError
from metaloom.handoff.adapting.fleet import Outcome, Status, make_bundles
from metaloom.handoff.adapting.shared import SharedHeads, solve_part
from metaloom.system.terminal import bar
from metaloom.versioning.project import find_root

ATTRIBUTES: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}
RUNNERS = ("process", "dask", "ray")


@task(name="adapt", task_run_name="{first} and {more} more", **ATTRIBUTES)
def adapt(first: str, more: int, paths: list[str], out: str, model: str) -> list[Outcome]:
    """A bundle for each task."""
    one_thread_each()
    return make_bundles(paths, out, model)


@task(name="solve", task_run_name="{first} and {more} more", **ATTRIBUTES)
def solve(first: str, more: int, paths: list[str], out: str, model: str) -> SharedHeads:
    """Heads for a bundle of all."""
    one_thread_each()
    return solve_part(paths, model)


@flow(name="fleet", persist_result=False, validate_parameters=False, **FORGET)
def fleet(parts: list[list[str]], out: str, model: str, shared: bool) -> list[Any]:
    """Adapt every part of a fleet.

    Args:
        parts: folders or files of tasks, by part.
        out: where the bundles go.
        model: folder of the meta-learner.
        shared: learn the heads, for one bundle of all.

    Returns:
        Of each part its outcomes, or the heads that it has learned.
    """
    note(find_root())
    work = solve if shared else adapt
    with bar("fleet", sum(map(len, parts))) as progress:
        done, results = 0, []
        futures = [work.submit(task_name(Path(part[0])), len(part) - 1, part, out, model) for part in parts]
        for part, future in zip(parts, futures, strict=True):
            result = future.result(raise_on_failure=False)
            results.append(result if isinstance(result, list | SharedHeads) else _failed(part, result))
            done += len(part)
            progress.update(done)
    return results


def _failed(part: list[str], error: Any) -> list[Outcome]:
    """A part that ended as a whole, for example because its process died."""
    if isinstance(error, MetaloomError):
        raise error
    return [Outcome(task_name(Path(path)), Status.FAILED, f"{type(error).__name__}: {error}") for path in part]


def one_thread_each() -> None:
    """Workers share the processor."""
    import torch

    torch.set_num_threads(1)


def runner(kind: str, workers: int) -> TaskRunner[Any]:
    """Prefect's task runner for so many workers.

    Raises:
        MetaloomError: its package is not installed.
    """
    try:
        if kind == "dask":
            from prefect_dask import DaskTaskRunner  # pyright: ignore[reportMissingImports] (an extra)

            return DaskTaskRunner(cluster_kwargs={"n_workers": workers, "threads_per_worker": 1})
        if kind == "ray":
            from prefect_ray import RayTaskRunner  # pyright: ignore[reportMissingImports] (an extra)

            return RayTaskRunner(init_kwargs={"num_cpus": workers, "logging_level": "error"})
    except ImportError:
        raise MetaloomError(f"prefect-{kind} is not installed: `pip install 'metaloom[{kind}]'`") from None
    return ProcessPoolTaskRunner(max_workers=workers) if workers > 1 else ThreadPoolTaskRunner(max_workers=1)
