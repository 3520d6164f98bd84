"""All that a training run is, and its checkpoint: a run that is killed goes on from it to the same bits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from metaloom.errors import MetaloomError
from metaloom.methods.base import TASKS_AT_A_TIME
from metaloom.methods.model import Params
from metaloom.system.files import atomic_file
from metaloom.system.terminal import say

ABOUT = ("step", "seconds", "tasks_at_a_time", "history")  # what of a state is no tensor


@dataclass
class State:
    """All that a run is, so that a checkpoint of it goes on as if nothing had happened."""

    params: Params
    optimiser: torch.optim.Optimizer
    generator: torch.Generator
    step: int = 0
    seconds: float = 0.0
    best: Params | None = None
    tasks_at_a_time: int = TASKS_AT_A_TIME  # part of the state, as sums depend on it
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def best_record(self) -> dict[str, Any]:
        """The validation with the best accuracy."""
        return max(self.history, key=lambda record: record["accuracy"])

    @property
    def looks(self) -> int:
        """How often the validation episodes have been answered, of which the best counts."""
        return len(self.history)

    @property
    def steps_run(self) -> int:
        """Steps that `seconds` went on."""
        return self.step


def save(state: State, path: Path, fingerprint: str) -> None:
    """Whole, or not at all.

    Args:
        state: of a run.
        path: the checkpoint.
        fingerprint: of everything that the run depends on.
    """
    tensors = {"generator": state.generator.get_state()}
    for group, params in (("now", state.params), ("best", state.best)):
        if params is not None:
            tensors |= {f"{group}/weights/{k}": v for k, v in params.weights.items()}
            tensors |= {f"{group}/statistics/{k}": v for k, v in params.statistics.items()}
    for index, moments in state.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{name}": value for name, value in moments.items()}
    about = json.dumps({name: getattr(state, name) for name in ABOUT})
    kept = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    metadata = {"fingerprint": fingerprint, "state": about, "sha256": _digest(kept, about)}
    with atomic_file(path) as temporary:
        save_file(kept, temporary, metadata)


class Saved(NamedTuple):
    """A checkpoint as it was read, on the host.

    Args:
        tensors: weights, statistics, moments and the generator's state, by name.
        about: JSON of the rest.
    """

    tensors: dict[str, Tensor]
    about: str


def read(path: Path, fingerprint: str) -> Saved | None:
    """The checkpoint of this very run, or None where there is none.

    One of other settings, data or code, of another engine, torch or device, or of another program will be written over;
    so will a damaged one. A line says so.

    Raises:
        MetaloomError: what is there is no file, or may not be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("fingerprint") != fingerprint:
                say(f"{path} is of other settings, data, code, torch, engine or device: training starts again")
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MetaloomError(f"{path} cannot be read ({error}): remove it, and training starts again") from None
    except SafetensorError:
        tensors, metadata = {}, {}
    about = metadata.get("state", "")
    if metadata.get("sha256") != _digest(tensors, about):
        say(f"{path} is damaged: training starts again")
        return None
    return Saved(tensors, about)


def _digest(tensors: dict[str, Tensor], about: str) -> str:
    """Of all that a checkpoint holds: its own format has no checksum, and training would go on from a flipped byte."""
    hashed = hashlib.sha256(about.encode())
    for name, tensor in sorted(tensors.items()):
        hashed.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        hashed.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return hashed.hexdigest()


def restored(
    saved: Saved, device: torch.device, fresh: Callable[[], State], optimiser: Callable[[Params], torch.optim.Optimizer]
) -> State:
    """The state that was saved, on the device."""
    tensors = saved.tensors
    state = fresh()
    state.params, state.best = (_params(tensors, group).to(device) for group in ("now/", "best/"))
    state.optimiser = optimiser(state.params)
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser/"):
            _, index, moment = name.split("/")
            moments.setdefault(int(index), {})[moment] = value
    groups = state.optimiser.state_dict()["param_groups"]
    # it takes the moments to the weights' device; Adam's count of steps goes with them on CUDA, else stays on the host
    state.optimiser.load_state_dict({"state": moments, "param_groups": groups})
    state.generator.set_state(tensors["generator"])
    for name, value in json.loads(saved.about).items():
        setattr(state, name, value)
    return state


def _params(tensors: dict[str, Tensor], prefix: str) -> Params:
    groups: dict[str, Any] = {"weights": {}, "statistics": {}}
    for name, value in tensors.items():
        if name.startswith(prefix):
            group, _, key = name.removeprefix(prefix).partition("/")
            groups[group][key] = value
    return Params(**groups)
