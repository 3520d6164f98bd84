"""`metaloom fleet`: many tasks adapted and exported."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaloom.cli.project import TrainedMethod, ended_by_signals, enter_project, trained_or_champion
from metaloom.errors import FAILED, MetaloomError
from metaloom.system.plural import several
from metaloom.system.quantities import size
from metaloom.system.terminal import complain, say

if TYPE_CHECKING:
    from metaloom.handoff.adapting.fleet import Outcome

SHOWN = 10  # failures on the terminal
WEAK = 3  # tasks that are named as the weakest
SHARES, SMALL, LARGE = 10, 25, 100  # of a fleet; tasks in one: enough to share the work, few to lose when killed


def fleet(
    tasks: Annotated[Path, typer.Argument(help="A folder of tasks: DIR/task/class/1.png, or DIR/task.csv.")],
    out: Annotated[Path, typer.Option(help="Where the bundles go; those of unchanged tasks are kept.")],
    method: TrainedMethod = None,
    shared: Annotated[bool, typer.Option("--shared", help="One bundle of one network and all heads instead.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 1,
    runner: Annotated[
        str, typer.Option(help="What runs the tasks: process, or dask or ray where installed.")
    ] = "process",
) -> None:
    """Adapt to every task in a folder and write a bundle for each; one that fails does not stop the others.

    Ends with 0 when all went well, 1 when a task failed (fleet.json says which
    and why), 2 on bad input.
    """
    given, tasks, out = out, tasks.resolve(), out.resolve()
    root = enter_project()
    from metaloom.cli.prefect_server import prefect_server
    from metaloom.config import load_settings
    from metaloom.data.support import task_paths
    from metaloom.kinds import kind_of

    paths = [str(path) for path in task_paths(tasks, kind_of(load_settings()))]
    _check_out(out, shared)
    started = time.monotonic()
    with ended_by_signals():
        server = prefect_server(root)  # it starts while torch is imported
        model = str(trained_or_champion(method))
        from flows.fleet import RUNNERS
        from flows.fleet import fleet as flow
        from flows.fleet import runner as runner_of

        if runner not in RUNNERS:
            raise MetaloomError(f"--runner is {runner}: choose one of {', '.join(RUNNERS)}")
        server.wait()
        results = flow.with_options(task_runner=runner_of(runner, workers))(_parts(paths), str(out), model, shared)
        outcomes = _written(results, out, model, shared)
    if lost := _lost(paths, model):
        say(lost)
    _conclude(outcomes, out, shared, time.monotonic() - started)
    print(given)
    if any(each.failed for each in outcomes):
        raise typer.Exit(FAILED)


def _lost(paths: Sequence[str], model: str) -> str:
    """What the model does not read of the tasks, such as colours: one file of each is looked at, of some."""
    from metaloom.data.lost import lost_of
    from metaloom.data.support import files_of
    from metaloom.handoff.adapting.fleet import maker_of

    kind, files = maker_of(model).learner.encoding.kind, list[Path]()
    for path in map(Path, paths):
        with suppress(MetaloomError):  # said of the task
            files += files_of(path, kind)[:1]
    return lost_of(files, kind)


def _parts(paths: list[str]) -> list[list[str]]:
    tasks = min(max(len(paths) // SHARES, SMALL), LARGE)
    return [paths[start : start + tasks] for start in range(0, len(paths), tasks)]


def _written(results: list[Any], out: Path, model: str, shared: bool) -> list[Outcome]:
    """What became of each task, after what is written of all together: the one bundle, or the summary."""
    from metaloom.handoff.adapting.fleet import write_summary
    from metaloom.handoff.adapting.shared import write_shared

    outcomes = [outcome for each in results if isinstance(each, list) for outcome in each]
    if shared:
        parts = [each for each in results if not isinstance(each, list)]
        if not parts:
            raise MetaloomError(f"every process of the fleet died, so {out} is as it was: {outcomes[0].why}")
        return write_shared(parts, out, model, outcomes)
    write_summary(out, outcomes)
    return outcomes


def _check_out(out: Path, shared: bool) -> None:
    """Nothing of another kind is replaced or mixed with."""
    from metaloom.handoff.shipped.verify import FLEET, SUMS

    is_bundle, is_fleet = (out / SUMS).is_file(), (out / FLEET).is_file()
    if shared and out.exists() and not is_fleet:
        raise MetaloomError(f"{out} is there and is no bundle of a fleet: choose another --out")
    if not shared and (is_bundle or out.is_file()):
        raise MetaloomError(f"{out} is a {'bundle' if is_bundle else 'file'}: choose a folder for the bundles as --out")


def _conclude(outcomes: Sequence[Outcome], out: Path, shared: bool, seconds: float) -> None:
    from metaloom.handoff.adapting.fleet import Status

    count = {status: sum(each.status is status for each in outcomes) for status in Status}
    text = ", ".join(f"{number:,} {status}" for status, number in count.items() if number)
    if count[Status.MADE]:
        text += f", {60 * count[Status.MADE] / seconds:,.0f} per minute"
    say(f"{several(len(outcomes), 'task')}: {text}; {_sizes(outcomes, out, shared)}")
    if weakest := weak(outcomes):
        say(weakest)
    failed = [each for each in outcomes if each.failed]
    for each in failed[:SHOWN]:
        complain(f"failed: {each.task}: {each.why}")
    if len(failed) > SHOWN:
        complain(f"failed: {len(failed) - SHOWN} more")


def weak(outcomes: Sequence[Outcome]) -> str:
    """The mean accuracy and the tasks with the least, by cross-validation; "" with fewer than two that have one."""
    known = sorted((each.estimate, each.task) for each in outcomes if each.estimate is not None)
    if len(known) < 2:
        return ""
    mean, worst = sum(each for each, _ in known) / len(known), known[: min(WEAK, len(known) - 1)]
    named = ", ".join(f"{task} {estimate:.1%}" for estimate, task in worst)
    return f"by cross-validation {mean:.1%} right on average; weakest: {named}"


def _sizes(outcomes: Sequence[Outcome], out: Path, shared: bool) -> str:
    """In words, how large the bundles' graphs are, and for a shared bundle how large they would be apart."""
    from metaloom.handoff.shipped.verify import FLEET

    made = [each.size for each in outcomes if not each.failed]
    if not shared:
        return size(sum(made))
    whole = (out / FLEET).stat().st_size
    alone = len(made) * (whole - sum(made)) + sum(made)
    return f"{size(whole)} (a model.onnx each would be {size(alone)})"
