"""How far the numbers of training may go: the plan asks, and so does training itself."""

from __future__ import annotations

from metaloom.errors import MetaloomError
from metaloom.system.plural import several


def check_ways(name: str, n_way: int, classes: int, examples: int) -> None:
    """Raises MetaloomError where a training task has more ways than there are classes.

    Args:
        name: of the method.
        n_way: of its tasks.
        classes: of the training split with enough examples, each counted in every view.
        examples: that a task takes of a class.
    """
    if n_way > classes:
        raise MetaloomError(
            f"params.yaml: {name}.n_way is {n_way}, but the training split has {classes} classes with {examples} "
            f"examples (train.n_shot + train.n_query); the largest that works is {classes}"
        )


def check_shares(processes: int, name: str, tasks: int) -> None:
    """Raises MetaloomError where a step's tasks cannot be shared out equally."""
    if tasks % processes:
        raise MetaloomError(
            f"params.yaml: {name}.tasks_per_step is {tasks}, which {processes} processes (train.processes) cannot "
            f"share out equally; the nearest that works is {nearest_share(processes, tasks)}"
        )


def nearest_share(processes: int, tasks: int) -> int:
    """Tasks that can be shared out, as near to so many as may be."""
    return max(round(tasks / processes), 1) * processes


def check_window(window: int, domains: int) -> None:
    """Raises MetaloomError where a bank's window is larger than the training split."""
    if window > domains:
        raise MetaloomError(
            f"params.yaml: bank.window is {window}, but the training split has {several(domains, 'domain')}; "
            f"the largest that works is {domains}"
        )


def check_stride(stride: int, window: int) -> None:
    """Raises MetaloomError where a bank's stride leaves gaps between its windows."""
    if stride > window:
        raise MetaloomError(
            f"params.yaml: bank.stride is {stride}, which is more than bank.window ({window}): some domains would be "
            f"in no window; the largest that works is {window}"
        )
