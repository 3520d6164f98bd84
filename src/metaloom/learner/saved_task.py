"""A learned task on disk: task.safetensors, and task.json beside it, which names the other's SHA-256."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError

from metaloom.config import first_problem
from metaloom.errors import MetaloomError
from metaloom.kinds import Kind, kind_from
from metaloom.kinds.encoding import Encoding
from metaloom.methods.model import Head, TaskModel
from metaloom.networks import NETWORKS, Network, Tensors
from metaloom.networks.bank import BIAS, GAIN, BankNetwork
from metaloom.system.files import atomic_file, read_json, write_json

FORMAT = 2  # of saved tasks, the newest that this file knows
MODEL, ABOUT = "task.safetensors", "task.json"
BANK, AUGMENTED = "bank", "looks"  # beside the names of networks: several of one shape; with test-time augmentation


def write_task(folder: Path, model: TaskModel, encoding: Encoding, classes: list[Any]) -> None:
    """Write both files; arguments and errors of `AdaptedTask.save`."""
    network = model.network
    kinds = {type(label) for label in classes} - {str, int, float, bool}
    if kinds:
        raise MetaloomError(f"classes of type {kinds.pop().__name__} cannot be saved: label with texts or numbers")
    if type(model) is not TaskModel:
        raise MetaloomError(
            f"a {type(model).__name__} over a {type(network).__name__} cannot be saved: "
            "save its learner and the support set, and adapt again"
        )
    tensors = safetensors.torch.save(_tensors_of(model))
    about = {
        "format": FORMAT,
        "network": _described(network),
        "input": encoding.saved(),
        "classes": classes,
        "sha256": hashlib.sha256(tensors).hexdigest(),
    }
    with atomic_file(folder / MODEL) as temporary:
        temporary.write_bytes(tensors)
    write_json(folder / ABOUT, about)


def read_task(folder: Path, device: torch.device | str) -> tuple[TaskModel, Encoding, list[Any]]:
    """What `write_task` was given; arguments and errors of `AdaptedTask.load`."""
    about = _read_about(folder / ABOUT)
    encoding = _encoding(about.input, folder / ABOUT)
    network = _network(about.network, encoding.kind, folder / ABOUT)
    groups = _read_tensors(folder / MODEL, about.sha256, device)
    return _model(network, groups, len(about.classes), folder), encoding, about.classes


def _encoding(saved: dict[str, Any], path: Path) -> Encoding:
    try:
        return kind_from(saved, path, "save the task again").encoding(saved)
    except ValueError as error:  # the numbers that were fitted
        raise MetaloomError(f"{path} is damaged: {error}; save the task again") from None


class _About(BaseModel):
    """task.json."""

    model_config = ConfigDict(extra="forbid")
    format: Literal[2]
    network: dict[str, Any]
    input: dict[str, Any]
    classes: list[bool | int | float | str]
    sha256: str


def _read_about(path: Path) -> _About:
    raw = read_json(path)
    found = raw.get("format") if isinstance(raw, dict) else None
    if isinstance(found, int) and found > FORMAT:
        raise MetaloomError(f"{path} has format {found}; this metaloom reads {FORMAT}: update metaloom")
    try:
        return _About.model_validate(_upgraded(raw) if found == 1 else raw)
    except (KeyError, TypeError):
        raise MetaloomError(f"{path} is damaged: save the task again") from None
    except ValidationError as error:
        raise MetaloomError(f"{path} is damaged: {first_problem(error)}; save the task again") from None


def _upgraded(about: dict[str, Any]) -> dict[str, Any]:
    """Format 1, which knew pictures alone, as format 2."""
    own: dict[str, Any] = {"kind": "pictures"}

    def upgraded(network: dict[str, Any]) -> dict[str, Any]:
        if network["name"] == BANK:
            return {**network, "member": upgraded(network["member"])}
        if network["name"] == "shifted":
            own["test_shift"] = network["shift"]
            return {"name": AUGMENTED, "plain": upgraded(network["plain"])}
        rest = {key: value for key, value in network.items() if key not in ("channels", "image_size")}
        own["channels"], own["image_size"] = network["channels"], network["image_size"]
        return {**rest, "shape": [own["channels"], own["image_size"], own["image_size"]]}

    network = upgraded(about["network"])
    return {**about, "format": 2, "network": network, "input": {**about["input"], **own}}


def _described(network: Network) -> dict[str, Any]:
    """Name and shape; those of the network that a bank has several of, or that has test-time augmentation."""
    if isinstance(network, BankNetwork):
        return {"name": BANK, "members": network.members, "member": _described(network.member)}
    if network.plain is not network:
        return {"name": AUGMENTED, "plain": _described(network.plain)}
    name = next(name for name, kind in NETWORKS.items() if kind is type(network))
    return {"name": name, **asdict(network)}


def _network(about: dict[str, Any], kind: Kind, path: Path) -> Network:
    try:
        if about["name"] == BANK:
            return BankNetwork.of(_network(about["member"], kind, path), about["members"])
        if about["name"] == AUGMENTED:
            return kind.with_test_augmentation(_network(about["plain"], kind, path))
        return TypeAdapter(NETWORKS[about["name"]]).validate_python(about)
    except (KeyError, TypeError, AttributeError, ValidationError, RecursionError):
        raise MetaloomError(f"{path}: this metaloom has no network {about}: save the task again") from None


def _tensors_of(model: TaskModel) -> Tensors:
    """All that the model's answers depend on; a method's own weights are in the head already."""
    named = {f"weights/{name}": model.weights[name] for name in model.network.init(torch.Generator())}
    named |= {f"statistics/{name}": value for name, value in model.statistics.items()}
    named |= {f"head/{name}": value for name, value in model.head._asdict().items()}
    return {k: v.detach().clone(memory_format=torch.contiguous_format) for k, v in named.items()}


def _read_tensors(path: Path, sha256: str, device: torch.device | str) -> dict[str, Tensors]:
    """The groups of tensors in the file, whose bytes must be those that were written."""
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise MetaloomError(f"{path} is not the file that {ABOUT} beside it was written with: save the task again")
        tensors = safetensors.torch.load(data)
    except (OSError, SafetensorError) as error:
        raise MetaloomError(f"{path} cannot be read ({error}): save the task again") from None
    groups: dict[str, Tensors] = {"weights": {}, "statistics": {}, "head": {}}
    for name, tensor in tensors.items():
        group, _, key = name.partition("/")
        groups.setdefault(group, {})[key] = tensor.to(device)
    return groups


def _model(network: Network, groups: dict[str, Tensors], n_way: int, folder: Path) -> TaskModel:
    """Raises MetaloomError unless network, tensors and classes are of one task."""
    if {name: _shapes(group) for name, group in groups.items()} != _expected(network, n_way):
        raise MetaloomError(
            f"{folder / MODEL} holds another network or other classes than {ABOUT}: save the task again"
        )
    return TaskModel(network, groups["weights"], groups["statistics"], Head(**groups["head"]))


def _expected(network: Network, n_way: int) -> dict[str, dict[str, torch.Size]]:
    weights = network.init(torch.Generator())
    _, statistics = network(weights, torch.zeros(2, *network.shape))
    if isinstance(network, BankNetwork):
        statistics |= {name: torch.empty(network.members, network.shape[0]) for name in (GAIN, BIAS)}
    head = {"weight": torch.empty(n_way, network.embed), "bias": torch.empty(n_way)}
    return {"weights": _shapes(weights), "statistics": _shapes(statistics), "head": _shapes(head)}


def _shapes(tensors: Tensors) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}
