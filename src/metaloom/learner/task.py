"""A task that has been learned: predicts, and goes to disk and back."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Float, Shaped, UInt8
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from metaloom.errors import MetaloomError
from metaloom.methods.base import Head, TaskModel
from metaloom.networks import NETWORKS, Network, Shifted, Tensors
from metaloom.networks.bank import BIAS, GAIN, BankNetwork
from metaloom.system.files import atomic_file, read_json, write_json

FORMAT = 1  # of saved tasks, the newest that this file knows
MODEL, ABOUT = "task.safetensors", "task.json"
BANK, SHIFTED = "bank", "shifted"  # beside the names of networks: several of one shape, and one that looks five times
BATCH = 512  # images that pass the network at a time when nothing is learned: bounds memory


@dataclass(frozen=True)
class Normalisation:
    """Raw pixels to network input, (pixel - shift) / scale for each channel, in units of pixel values 0–255."""

    shift: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def of(cls, images: UInt8[np.ndarray, "item height width channel"]) -> Normalisation:
        """Shift to the most frequent value (the paper, which then equals the padding), scale to unit deviation."""
        shift, scale = [], []
        for channel in range(images.shape[-1]):
            histogram = np.bincount(images[..., channel].ravel(), minlength=256)
            values, share = np.arange(256), histogram / histogram.sum()
            mean = float((values * share).sum())
            shift.append(float(histogram.argmax()))
            scale.append(max(float(np.sqrt(((values - mean) ** 2 * share).sum())), 1.0))
        return cls(tuple(shift), tuple(scale))

    def __call__(
        self, images: UInt8[Tensor, "*item height width channel"]
    ) -> Float[Tensor, "*item channel height width"]:
        shift = torch.tensor(self.shift, device=images.device)
        scale = torch.tensor(self.scale, device=images.device)
        return ((images - shift) / scale).movedim(-1, -3)


@dataclass(frozen=True)
class AdaptedTask:
    """A task model together with the labels of its classes and the way pixels go in."""

    model: TaskModel
    normalisation: Normalisation
    classes: list[Any]

    def predict_proba(self, query_x: Shaped[np.ndarray | Tensor, "query ..."]) -> Float[np.ndarray, "query n_way"]:
        """Class probabilities, columns in the order of `classes`.

        Args:
            query_x: raw pixels, uint8 (query, height, width, channel), at the network's own size.

        Raises:
            MetaloomError: they are of another size or type.
        """
        weight = self.model.head.weight
        images = checked_images(query_x, self.model.network, "query").to(weight.device)
        with torch.no_grad():
            parts = [self.model.logits(self.normalisation(part).to(weight.dtype)) for part in images.split(BATCH)]
        return torch.cat(parts).softmax(dim=1).cpu().numpy()

    def predict(self, query_x: Shaped[np.ndarray | Tensor, "query ..."]) -> list[Any]:
        return [self.classes[way] for way in self.predict_proba(query_x).argmax(axis=1)]

    def save(self, folder: str | Path) -> None:
        """Write task.safetensors and task.json, which names the other's SHA-256; a folder is made where there is none.

        Raises:
            MetaloomError: the classes are neither texts nor numbers, or the model has more than a task model has.
        """
        folder, network = Path(folder), self.model.network
        kinds = {type(label) for label in self.classes} - {str, int, float, bool}
        if kinds:
            raise MetaloomError(f"classes of type {kinds.pop().__name__} cannot be saved: label with texts or numbers")
        if type(self.model) is not TaskModel:
            raise MetaloomError(
                f"a {type(self.model).__name__} over a {type(network).__name__} cannot be saved: "
                "save its learner and the support set, and adapt again"
            )
        tensors = safetensors.torch.save(_tensors_of(self.model))
        about = {
            "format": FORMAT,
            "network": _described(network),
            "input": asdict(self.normalisation),
            "classes": self.classes,
            "sha256": hashlib.sha256(tensors).hexdigest(),
        }
        with atomic_file(folder / MODEL) as temporary:
            temporary.write_bytes(tensors)
        write_json(folder / ABOUT, about)

    @classmethod
    def load(cls, folder: str | Path, device: torch.device | str = "cpu") -> AdaptedTask:
        """Read what `save` wrote.

        Raises:
            MetaloomError: a file is absent, damaged or of a newer format, or they do not fit each other.
        """
        folder = Path(folder)
        about = _read_about(folder / ABOUT)
        network = _network(about.network, folder / ABOUT)
        groups = _read_tensors(folder / MODEL, about.sha256, device)
        model = _model(network, groups, len(about.classes), folder)
        return cls(model, Normalisation(about.input.shift, about.input.scale), about.classes)


def checked_images(
    images: Shaped[np.ndarray | Tensor, "item ..."], network: Network, what: str
) -> UInt8[Tensor, "item height width channel"]:
    """The images as a tensor.

    Args:
        images: uint8 pixels at the network's own size.
        network: that is going to take them.
        what: they are, for the message.

    Raises:
        MetaloomError: another size or type.
    """
    expected = (network.image_size, network.image_size, network.channels)
    kind = str(images.dtype).removeprefix("torch.")
    if tuple(images.shape[1:]) != expected or kind != "uint8":
        raise MetaloomError(
            f"{what} images are {kind} {tuple(images.shape)}; this learner takes uint8 "
            f"({what}, {', '.join(map(str, expected))})"
        )
    if isinstance(images, Tensor):
        return images
    return torch.as_tensor(np.require(images, requirements=["C", "W"]))  # a copy of what torch cannot share


class _Input(BaseModel):
    shift: tuple[float, ...]
    scale: tuple[float, ...]


class _About(BaseModel):
    """task.json."""

    model_config = ConfigDict(extra="forbid")
    format: Literal[1]
    network: dict[str, Any]
    input: _Input
    classes: list[bool | int | float | str]
    sha256: str


def _read_about(path: Path) -> _About:
    raw = read_json(path)
    found = raw.get("format") if isinstance(raw, dict) else None
    if isinstance(found, int) and found > FORMAT:
        raise MetaloomError(f"{path} has format {found}; this metaloom reads {FORMAT}: update metaloom")
    try:
        return _About.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise MetaloomError(f"{path} is damaged: {where}: {first['msg']}; save the task again") from None


def _described(network: Network) -> dict[str, Any]:
    """Name and shape; those of the network that a bank has several of, or that looks at shifted pictures."""
    if isinstance(network, BankNetwork):
        return {"name": BANK, "members": network.members, "member": _described(network.member)}
    if isinstance(network, Shifted):
        return {"name": SHIFTED, "shift": network.shift, "plain": _described(network.plain)}
    name = next(name for name, kind in NETWORKS.items() if kind is type(network))
    return {"name": name, **asdict(network)}


def _network(about: dict[str, Any], path: Path) -> Network:
    try:
        if about["name"] == BANK:
            return BankNetwork.of(_network(about["member"], path), about["members"])
        if about["name"] == SHIFTED:
            return Shifted.of(_network(about["plain"], path), about["shift"])
        return TypeAdapter(NETWORKS[about["name"]]).validate_python(about)
    except (KeyError, ValidationError):
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
    _, statistics = network(weights, torch.zeros(2, network.channels, network.image_size, network.image_size))
    if isinstance(network, BankNetwork):
        statistics |= {name: torch.empty(network.members, network.channels) for name in (GAIN, BIAS)}
    head = {"weight": torch.empty(n_way, network.embed), "bias": torch.empty(n_way)}
    return {"weights": _shapes(weights), "statistics": _shapes(statistics), "head": _shapes(head)}


def _shapes(tensors: Tensors) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}
