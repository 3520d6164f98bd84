"""Who takes part in the speed benchmark: we and the peers, each with a step that does the same work.

python benchmarks/contenders.py [--device cuda] [--quick] [--learn2learn learn2learn-0.2.0.tar.gz]

Loss and gradient of a step in turns, in IEEE's float32, on any device; on a GPU ours is one CUDA graph, as in
training. Peers that are not installed are named and left out.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import peers
import torch
from torch import Tensor

from metaloom.config import Settings, load_settings
from metaloom.methods import Episodes, Method, Params, build_method
from metaloom.networks import build_network
from metaloom.networks.engine import ENGINE
from metaloom.networks.layers import groups_of
from metaloom.system.device import choose_device, finish
from metaloom.training.graph import EAGER, captured

ROOT = Path(__file__).resolve().parents[1]
WIDTH, SIZE, RATE = 64, 28, 0.4
OURS = "metaloom"
PLAIN = "metaloom, plain layers"  # without machine code


@dataclass(frozen=True)
class Contender:
    """One side of a row.

    Args:
        step: the mean query loss of the meta-batch; adds its gradient to the leaves.
        forget: sets the gradients to None.
        gradients: of the last step, under our names.
    """

    name: str
    step: Callable[[], Tensor]
    forget: Callable[[], None]
    gradients: Callable[[], dict[str, Tensor]]


@dataclass(frozen=True)
class Work:
    """What a row does: which method, with which norm, on which meta-batch."""

    method: str
    norm: str
    tasks: int
    ways: int
    queries: int  # of a class
    inner_steps: int = 1
    first_order: bool = False
    recompute: bool = False
    rate: float = RATE
    width: int = WIDTH  # of our network; the peers' have WIDTH
    turns: bool = False  # whether our ProtoNet's examples take turns; the peers' do not
    device: str = "cpu"

    def settings(self) -> Settings:
        own = {"n_way": self.ways, "norm": self.norm, "tasks_per_step": self.tasks}
        if self.method == "maml":
            own |= {"inner_steps": self.inner_steps, "inner_rate": self.rate, "first_order": self.first_order}
            own |= {"recompute": self.recompute, "learned_rates": False, "multi_step": False, "beta": 1.0}
            own |= {"head": "zero", "take_turns": False}  # as the peers' starts and tasks
        else:
            own |= {"temperature": "fixed", "take_turns": self.turns}
        fixed = {"network.name": "conv4", "network.width": self.width, "network.dropout": 0.0, "pictures.test_shift": 0}
        return load_settings(ROOT / "params.yaml", fixed | {f"{self.method}.{name}": own[name] for name in own})

    def episodes(self, dtype: torch.dtype) -> Episodes:
        """One shot, and `queries` queries, of images that are noise."""
        generator = torch.Generator().manual_seed(0)
        counts = (self.ways, self.ways * self.queries)
        support, query = (torch.randn(self.tasks, n, 1, SIZE, SIZE, generator=generator).to(dtype) for n in counts)
        way = torch.arange(self.ways, device=self.device)
        support, query = support.to(self.device), query.to(self.device)
        return Episodes(support, way, query, way.repeat_interleave(self.queries), self.ways)


def present(work: Work, dtype: torch.dtype = torch.float32) -> tuple[list[Contender], dict[str, str]]:
    """We and the peers that are here, with the same weights and data; and why the others are not."""
    plain = [contender(PLAIN, work, dtype)] if work.device == "cpu" and work.width == WIDTH else []
    here, absent = [contender(OURS, work, dtype), *plain], {}
    for name in ["easyfsl"] if work.method == "protonet" else peers.MAML_PEERS:
        try:
            here.append(contender(name, replace(work, width=WIDTH), dtype))
        except peers.Absent as reason:
            absent[name] = str(reason)
    return here, absent


def contender(name: str, work: Work, dtype: torch.dtype = torch.float32) -> Contender:
    """One of them; raises peers.Absent."""
    settings = work.settings()
    network = build_network(settings.network, work.norm, (1, SIZE, SIZE))
    method = build_method(work.method, network, settings.method(work.method))
    params = method.init(torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    weights = {  # away from zeros and ones, where a mistake would not show
        name: (weight + 0.05 * torch.randn(weight.shape, generator=generator)).to(work.device, dtype)
        for name, weight in params.weights.items()
    }
    if name in (OURS, PLAIN):
        return _ours(name, method, replace(params.to(work.device), weights=weights), work.episodes(dtype))
    return _peer(name, work, weights, work.episodes(dtype))


def _ours(name: str, method: Method, params: Params, episodes: Episodes) -> Contender:
    weights = {name: weight.requires_grad_() for name, weight in params.weights.items()}
    device = episodes.support_x.device

    def forget() -> None:
        for weight in weights.values():
            weight.grad = None

    def step() -> Tensor:
        """As metaloom.training.trainer does it; on a GPU all tasks go through together."""
        total = torch.zeros((), dtype=torch.float64, device=device)
        engine = patch.dict(os.environ, {ENGINE: "torch"}) if name == PLAIN else nullcontext()
        with engine, method.network.threads(device):
            for chunk in method.chunks(episodes, *([len(episodes)] * (device.type == "cuda"))):
                loss, _ = method.loss(params, chunk)
                share = len(chunk) / len(episodes)
                (loss * share).backward()
                total += loss.detach() * share
        return total

    def gradients() -> dict[str, Tensor]:
        return {name: weight.grad for name, weight in weights.items()}

    if device.type != "cuda":
        return Contender(name, step, forget, gradients)

    def afresh() -> Tensor:
        forget()
        return step()

    for _ in range(EAGER):
        afresh()
    return Contender(name, captured(afresh, torch.Generator(device)), lambda: None, gradients)


def _peer(name: str, work: Work, weights: dict[str, Tensor], episodes: Episodes) -> Contender:
    ways = work.ways if work.method == "maml" else None
    network = peers.torch_network(weights, work.norm, groups_of(WIDTH), ways).to(work.device)
    if name == "easyfsl":
        task = peers.easyfsl(network)
    else:
        task = peers.MAML_PEERS[name](network, work.rate, work.inner_steps, work.first_order)

    def step() -> Tensor:
        share, total = 1 / len(episodes), torch.zeros((), dtype=torch.float64, device=episodes.support_x.device)
        for support_x, query_x in zip(episodes.support_x, episodes.query_x, strict=True):
            total += task(support_x, episodes.support_y, query_x, episodes.query_y, share) * share
        return total

    return Contender(name, step, network.zero_grad, lambda: peers.gradients_of(network))


def disagreement(one: Contender, other: Contender) -> float:
    """The largest relative difference: of the query loss, and of the meta-gradient as one vector."""
    losses = []
    for each in (one, other):
        each.forget()
        losses.append(float(each.step()))
    mine, theirs = one.gradients(), other.gradients()
    apart = sum(float((mine[name] - theirs[name]).square().sum()) for name in theirs)
    size = sum(float(theirs[name].square().sum()) for name in theirs)
    return max(abs(losses[0] - losses[1]) / abs(losses[1]), (apart / size) ** 0.5)


def seconds(one: Contender, device: torch.device) -> float:
    """Of a step, until the device has done it."""
    one.forget()
    finish(device)
    started = time.perf_counter()
    one.step()
    finish(device)
    return time.perf_counter() - started


def rates(work: Work, rounds: int) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Everyone's tasks a second, a figure a round, each round a turn of everyone; and why the others are not here."""
    here, absent = present(work)
    found, device = defaultdict(list), torch.device(work.device)
    for turn in range(rounds + 1):
        for each in here:
            taken = seconds(each, device)
            if turn:  # the first is to warm up
                found[each.name].append(work.tasks / taken)
    return dict(found), absent


def works(device: str, quick: bool) -> Iterator[tuple[str, Work]]:
    """What is timed on a device, by name."""
    tasks, ways = ((1,), 6) if quick else ((4, 32), 60)
    yield "ProtoNet", Work("protonet", "group", 1, ways, 5, device=device)
    for steps, count in itertools.product((2,) if quick else (1, 2, 5), tasks):
        work = Work("maml", "group", count, ways=5, queries=5, inner_steps=steps, rate=0.1, device=device)
        yield f"MAML second order, k={steps}, {count} tasks", work


def fastest(found: dict[str, list[float]]) -> float:
    """Of the peers, the median tasks a second; NaN without any."""
    middle = [statistics.median(values) for name, values in found.items() if name not in (OURS, PLAIN)]
    return max(middle, default=float("nan"))


def report(device: str, quick: bool) -> None:
    print("| row | who | tasks/s | × the fastest peer |\n|---|---|---|---|")
    for title, work in works(device, quick):
        found, absent = rates(work, 1 if quick else 12)
        for name, values in found.items():
            rate = statistics.median(values)
            print(
                f"| {title} | {name} | {rate:.1f} ({min(values):.1f}–{max(values):.1f}) | {rate / fastest(found):.2f} |"
            )
        for name, why in absent.items():
            print(f"| {title} | {name} | {why} | |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="a smoke test: one round of tiny steps")
    parser.add_argument("--learn2learn", type=Path, metavar="SDIST", help="learn2learn's source archive")
    options = parser.parse_args()
    device = choose_device(options.device).type
    with tempfile.TemporaryDirectory() as folder:
        if options.learn2learn:
            peers.place_learn2learn(options.learn2learn, Path(folder))
        report(device, options.quick)


if __name__ == "__main__":
    main()
