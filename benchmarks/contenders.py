"""Who takes part in the speed benchmark: we and the peers, each with a step that does the same work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import peers
import torch
from torch import Tensor

from metaloom.config import Settings, load_settings
from metaloom.methods import Episodes, Method, Params, build_method
from metaloom.networks import build_network
from metaloom.networks.layers import groups_of

ROOT = Path(__file__).resolve().parents[1]
WIDTH, SIZE, RATE = 64, 28, 0.4
OURS = "metaloom"


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

    def settings(self) -> Settings:
        own = {"n_way": self.ways, "norm": self.norm, "tasks_per_step": self.tasks}
        if self.method == "maml":
            own |= {"inner_steps": self.inner_steps, "inner_rate": self.rate, "first_order": self.first_order}
            own |= {"recompute": self.recompute, "learned_rates": False, "multi_step": False, "beta": 1.0}
        else:
            own |= {"temperature": "fixed", "take_turns": self.turns}
        fixed = {"network.name": "conv4", "network.width": self.width, "network.dropout": 0.0, "pictures.test_shift": 0}
        return load_settings(ROOT / "params.yaml", fixed | {f"{self.method}.{name}": own[name] for name in own})

    def episodes(self, dtype: torch.dtype) -> Episodes:
        """One shot, and `queries` queries, of images that are noise."""
        generator = torch.Generator().manual_seed(0)
        counts = (self.ways, self.ways * self.queries)
        support, query = (torch.randn(self.tasks, n, 1, SIZE, SIZE, generator=generator).to(dtype) for n in counts)
        way = torch.arange(self.ways)
        return Episodes(support, way, query, way.repeat_interleave(self.queries), self.ways)


def present(work: Work, dtype: torch.dtype = torch.float32) -> tuple[list[Contender], dict[str, str]]:
    """We and the peers that are here, with the same weights and data; and why the others are not."""
    here, absent = [contender(OURS, work, dtype)], {}
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
        name: (weight + 0.05 * torch.randn(weight.shape, generator=generator)).to(dtype)
        for name, weight in params.weights.items()
    }
    if name == OURS:
        return _ours(method, replace(params, weights=weights), work.episodes(dtype))
    return _peer(name, work, weights, work.episodes(dtype))


def _ours(method: Method, params: Params, episodes: Episodes) -> Contender:
    weights = {name: weight.requires_grad_() for name, weight in params.weights.items()}

    def step() -> Tensor:
        """As metaloom.training.trainer does it."""
        total = torch.zeros((), dtype=torch.float64)
        with method.network.threads(torch.device("cpu")):
            for chunk in method.chunks(episodes):
                loss, _ = method.loss(params, chunk)
                share = len(chunk) / len(episodes)
                (loss * share).backward()
                total += loss.detach() * share
        return total

    def forget() -> None:
        for weight in weights.values():
            weight.grad = None

    return Contender(OURS, step, forget, lambda: {name: weight.grad for name, weight in weights.items()})


def _peer(name: str, work: Work, weights: dict[str, Tensor], episodes: Episodes) -> Contender:
    ways = work.ways if work.method == "maml" else None
    network = peers.torch_network(weights, work.norm, groups_of(WIDTH), ways)
    if name == "easyfsl":
        task = peers.easyfsl(network)
    else:
        task = peers.MAML_PEERS[name](network, work.rate, work.inner_steps, work.first_order)

    def step() -> Tensor:
        share, total = 1 / len(episodes), torch.zeros((), dtype=torch.float64)
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
