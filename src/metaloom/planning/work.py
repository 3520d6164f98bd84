"""What follows from how much work an example is: the network's width, steps, and episodes of slow learners.

Work is counted, not timed, so that a plan agrees on every machine: the multiplications of one example through the
network, in units of what the same network of full width takes for an example of the embedded data.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from metaloom.config import MOST, NetworkSettings
from metaloom.networks import NETWORKS

EMBEDDED = (1, 28, 28)  # shape of an example of the embedded data
WIDTHS = (32, 48, 64, 96)  # that `auto` chooses from
ROOM = 1.7  # units of work that an example may take; the network gets narrower until it takes no more
LEAST = 0.25  # share of the steps that stays, however much work they are: fewer learn too little
FEWEST_ELSEWHERE = 2  # episodes that slow learners answer elsewhere


def times(network: NetworkSettings, width: int, shape: tuple[int, ...]) -> float:
    """Units of work of an example of this shape; 1 where the network does not take such examples."""
    if len(shape) not in NETWORKS[network.name].axes:
        return 1.0
    unit = multiplications(network.name, MOST["network.width"], EMBEDDED)
    return multiplications(network.name, width, shape) / unit


@cache
def multiplications(name: str, width: int, shape: tuple[int, ...]) -> int:
    """How many multiplications a network's products of matrices take for one example; at least 1: it is divided by."""
    network = NETWORKS[name](shape=shape, width=width, norm="none")
    weights = {key: weight.to("meta") for key, weight in network.init(torch.Generator()).items()}
    with FlopCounterMode(display=False) as counted:
        network(weights, torch.empty(1, *shape, device="meta"))
    return max(1, counted.get_total_flops() // 2)  # it counts the additions too


def width(network: NetworkSettings, shape: tuple[int, ...], effort: float) -> int:
    """The widest network that an example has room for; wider than usual only where more effort is wanted."""
    most = MOST["network.width"] if effort <= 1 else max(WIDTHS)
    fitting = [each for each in WIDTHS if each <= most and times(network, each, shape) <= ROOM * effort]
    return max(fitting, default=min(WIDTHS))


def steps(most: int, work: float, effort: float) -> int:
    """How many steps to train, in whole tens: fewer where a step is more work than usual.

    Args:
        most: where a step is no more work than usual.
        work: of a step, in units of what it usually is.
        effort: how much is wanted, see `metaloom.planning.budget`.
    """
    share = max(LEAST, min(1.0, 1 / work) * effort)
    return 10 * math.ceil(most * share / 10)


def episodes(most: int, fewest: int, effort: float) -> int:
    """How many episodes a slow single-task learner answers."""
    return max(fewest, round(most * effort))
