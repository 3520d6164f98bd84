"""The peers' own ways of a MAML task and a ProtoNet step, over one network of torch's modules.

Each peer's function gets the network, the inner rate and the number of inner steps, and returns what does one task:
from a support and a query set it adds the gradient of the query loss, times `share`, to the parameters' `.grad`.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import tarfile
import types
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEARN2LEARN = "0.2.0"
Task = Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]  # support x, y, query x, y, share → query loss


class Absent(Exception):
    """A peer that is not here, and why."""


def torch_network(weights: dict[str, Tensor], norm: str, groups: int, ways: int | None) -> nn.Sequential:
    """conv → norm → ReLU → 2×2 max-pool, four times, with our weights; `ways` adds a linear head that starts at zero.

    For images of 16 to 31 pixels a side, whose last maps are a single pixel.
    """
    layers: list[nn.Module] = []
    for block in range(4):
        kernel = weights[f"{block}.conv"]
        conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1, bias=False)
        size = kernel.shape[0]
        # a batch's own statistics: running ones would be written in place, while the graph still needs them
        normalise = nn.BatchNorm2d(size, track_running_stats=False) if norm == "batch" else nn.GroupNorm(groups, size)
        layers += [conv, normalise, nn.ReLU(), nn.MaxPool2d(2)]
        with torch.no_grad():
            conv.weight.copy_(kernel)
            normalise.weight.copy_(weights[f"{block}.scale"])
            normalise.bias.copy_(weights[f"{block}.shift"])
    layers.append(nn.Flatten())
    if ways is not None:
        head = nn.Linear(len(weights["3.conv"]), ways)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        layers.append(head)
    return nn.Sequential(*layers).to(weights["0.conv"].dtype)


def gradients_of(network: nn.Sequential) -> dict[str, Tensor]:
    """Under our names; the head's start is no weight of ours."""
    named = {}
    for block in range(4):
        conv, norm = network[4 * block], network[4 * block + 1]
        named |= {
            f"{block}.conv": conv.weight.grad,
            f"{block}.scale": norm.weight.grad,
            f"{block}.shift": norm.bias.grad,
        }
    return named


def higher(network: nn.Sequential, rate: float, steps: int, first_order: bool) -> Task:
    """First order: its inner loop without a graph, and the gradient at the fast weights."""
    library = _imported("higher")
    optimiser = torch.optim.SGD(network.parameters(), lr=rate)

    def task(support_x: Tensor, support_y: Tensor, query_x: Tensor, query_y: Tensor, share: float) -> Tensor:
        with library.innerloop_ctx(
            network, optimiser, copy_initial_weights=False, track_higher_grads=not first_order
        ) as (fast, inner):
            for _ in range(steps):
                inner.step(F.cross_entropy(fast(support_x), support_y))
            loss = F.cross_entropy(fast(query_x), query_y)
            if first_order:
                _add(network, torch.autograd.grad(loss * share, list(fast.parameters())))
            else:
                (loss * share).backward()
        return loss.detach()

    return task


def torchopt(network: nn.Sequential, rate: float, steps: int, first_order: bool) -> Task:
    """Second order: MetaSGD, as in its MAML example. First order: its functional SGD with gradients without a graph."""
    library = _imported("torchopt")
    return (_torchopt_first if first_order else _torchopt_second)(library, network, rate, steps)


def _torchopt_second(library: types.ModuleType, network: nn.Sequential, rate: float, steps: int) -> Task:
    inner = library.MetaSGD(network, lr=rate)

    def task(support_x: Tensor, support_y: Tensor, query_x: Tensor, query_y: Tensor, share: float) -> Tensor:
        start, state = (library.extract_state_dict(each, by="reference") for each in (network, inner))
        for _ in range(steps):
            inner.step(F.cross_entropy(network(support_x), support_y))
        loss = F.cross_entropy(network(query_x), query_y)
        (loss * share).backward()
        library.recover_state_dict(network, start)
        library.recover_state_dict(inner, state)
        return loss.detach()

    return task


def _torchopt_first(library: types.ModuleType, network: nn.Sequential, rate: float, steps: int) -> Task:
    optimiser = library.sgd(lr=rate)
    call = torch.func.functional_call

    def task(support_x: Tensor, support_y: Tensor, query_x: Tensor, query_y: Tensor, share: float) -> Tensor:
        fast = dict(network.named_parameters())
        names, state = list(fast), optimiser.init(tuple(fast.values()))
        for _ in range(steps):
            values = tuple(fast.values())
            gradients = torch.autograd.grad(F.cross_entropy(call(network, fast, (support_x,)), support_y), values)
            updates, state = optimiser.update(gradients, state, inplace=False)
            fast = dict(zip(names, library.apply_updates(values, updates, inplace=False), strict=True))
        loss = F.cross_entropy(call(network, fast, (query_x,)), query_y)
        (loss * share).backward()
        return loss.detach()

    return task


def learn2learn(network: nn.Sequential, rate: float, steps: int, first_order: bool) -> Task:
    library = _imported("learn2learn.algorithms.maml")
    maml = library.MAML(network, lr=rate, first_order=first_order)

    def task(support_x: Tensor, support_y: Tensor, query_x: Tensor, query_y: Tensor, share: float) -> Tensor:
        learner = maml.clone()
        for _ in range(steps):
            learner.adapt(F.cross_entropy(learner(support_x), support_y))
        loss = F.cross_entropy(learner(query_x), query_y)
        (loss * share).backward()
        return loss.detach()

    return task


def easyfsl(network: nn.Sequential) -> Task:
    """PrototypicalNetworks; its scores are distances, the paper's and ours their squares, which is put right here."""
    for name in ("torchvision", "torchvision.models", "torchvision.models.resnet"):
        # its ResNets are made of torchvision's, which comes with one build of torch only: nothing here uses them
        sys.modules[name] = types.ModuleType(name)
    for name in ("BasicBlock", "Bottleneck", "conv1x1", "conv3x3"):
        setattr(sys.modules["torchvision.models.resnet"], name, None)
    classifier = _imported("easyfsl.methods").PrototypicalNetworks(network)

    def step(support_x: Tensor, support_y: Tensor, query_x: Tensor, query_y: Tensor, share: float) -> Tensor:
        classifier.process_support_set(support_x, support_y)
        loss = F.cross_entropy(-classifier(query_x).square(), query_y)
        (loss * share).backward()
        return loss.detach()

    return step


MAML_PEERS = {"higher": higher, "torchopt": torchopt, "learn2learn": learn2learn}


def download_learn2learn(folder: str) -> Path | None:
    """The source archive from the package index, or None (and why, on stderr)."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "learn2learn"]
    try:
        subprocess.run([*command, "--dest", folder, f"learn2learn=={LEARN2LEARN}"], check=True, timeout=180)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"learn2learn cannot be downloaded: {error}", file=sys.stderr)
        return None
    return Path(folder) / f"learn2learn-{LEARN2LEARN}.tar.gz"


def place_learn2learn(archive: Path, folder: Path) -> None:
    """Make learn2learn's MAML importable from its source archive: the package as a whole does not build.

    MAML and what it imports are taken out into `folder`; the packages above become empty ones, as their own
    __init__ imports everything else.
    """
    with tarfile.open(archive) as opened:
        for name in ("algorithms/base_learner.py", "algorithms/maml.py", "utils/__init__.py"):
            content = opened.extractfile(f"learn2learn-{LEARN2LEARN}/learn2learn/{name}")
            path = folder / "learn2learn" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.read() if content else b"")
    for name in ("learn2learn", "learn2learn.algorithms"):
        package = types.ModuleType(name)
        package.__path__ = [str(folder / name.replace(".", "/"))]
        sys.modules[name] = package


def _imported(name: str) -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Absent(f"not available ({error})") from None


def _add(network: nn.Sequential, gradients: tuple[Tensor, ...]) -> None:
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
