"""A task model as one ONNX graph: raw pixels of any size in, class probabilities and a score of strangeness out.

The graph is traced once for a kind of network, its weights and its head as inputs; those that a file is to hold
become constants afterwards. So a thousand tasks of one network share one tracing, and `classify.onnx`, which takes
the head as an input, is the same graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from metaloom.config import ExportSettings
from metaloom.handoff.graphs.novelty import Known
from metaloom.handoff.graphs.onnxfile import checked, exported, fill, filled, kept
from metaloom.handoff.shipped.verify import HEAD, INPUT, OUTPUTS, TASK
from metaloom.kinds.pictures.in_graph import resized
from metaloom.learner.learner import AdaptedTask
from metaloom.methods import Head
from metaloom.methods.base import UNSEEN
from metaloom.networks import Network, Tensors

WAYS, TASKS = "n_way", "task"


class TaskGraph(nn.Module):
    """What is deployed: resize, normalise, embed, classify. All tensors are arguments."""

    def __init__(self, network: Network, weights: list[str], statistics: list[str]) -> None:
        super().__init__()
        self.network, self.weights, self.statistics = network, weights, statistics

    def forward(
        self,
        images: UInt8[Tensor, "batch height width channel"],
        head_weight: Float[Tensor, "n_way embed"],
        head_bias: Float[Tensor, " n_way"],
        means: Float[Tensor, "n_way embed"],
        absent: Float[Tensor, " n_way"],
        spread: Float[Tensor, ""],
        shift: Float[Tensor, " channel"],
        scale: Float[Tensor, " channel"],
        *network: Tensor,
    ) -> tuple[Float[Tensor, "batch n_way"], Float[Tensor, " batch"]]:
        z = self.embedding(images, shift, scale, *network)
        probabilities = nn.functional.linear(z, head_weight, head_bias).softmax(dim=1)
        return probabilities, Known(means, absent, spread).score(z)

    def embedding(self, images: Tensor, shift: Tensor, scale: Tensor, *network: Tensor) -> Tensor:
        x = normalised(resized(images, self.network.shape[-1]), shift, scale)
        weights = dict(zip(self.weights, network, strict=False))
        statistics = dict(zip(self.statistics, network[len(self.weights) :], strict=True))
        return self.network(weights, x, statistics)[0]


class FleetGraph(TaskGraph):
    """The same for many tasks: each image names its own, whose head it gets."""

    def forward(
        self,
        images: UInt8[Tensor, "batch height width channel"],
        task_id: Int[Tensor, " batch"],
        head_weight: Float[Tensor, "task n_way embed"],
        head_bias: Float[Tensor, "task n_way"],
        means: Float[Tensor, "task n_way embed"],
        absent: Float[Tensor, "task n_way"],
        spread: Float[Tensor, " task"],
        shift: Float[Tensor, " channel"],
        scale: Float[Tensor, " channel"],
        *network: Tensor,
    ) -> tuple[Float[Tensor, "batch n_way"], Float[Tensor, " batch"]]:
        z = self.embedding(images, shift, scale, *network)
        logits = (head_weight[task_id] * z[:, None]).sum(dim=-1) + head_bias[task_id]
        distances = (means[task_id] - z[:, None]).square().sum(dim=-1) + absent[task_id]
        return logits.softmax(dim=1), distances.amin(dim=1).sqrt() / spread[task_id]


def normalised(
    images: UInt8[Tensor, "item height width channel"], shift: Float[Tensor, " channel"], scale: Tensor
) -> Float[Tensor, "item channel height width"]:
    """metaloom.learner.task.Normalisation with its numbers as tensors."""
    return ((images - shift) / scale).movedim(-1, -3)


def head_tensors(head: Head, known: Known) -> Tensors:
    """By the names of the graph's inputs."""
    exact = Head(*(tensor.detach().cpu().to(torch.float64) for tensor in head))
    values = (*centred(exact, torch.ones(len(head.bias), dtype=torch.bool)), known.means, known.absent, known.spread)
    return dict(zip(HEAD, (value.float() for value in values), strict=True))


def centred(head: Head, seen: Bool[Tensor, " n_way"]) -> Head:
    """The head less its mean over the classes that are there: softmax gives the same, with less rounding.

    Prototypes share most of their length; measured on 5 ways, this cuts the largest error from 9e-5 to 2e-6.
    """
    share = seen.to(head.weight.dtype) / seen.sum()
    bias = torch.where(seen, head.bias, 0.0)
    return Head(head.weight - share @ head.weight, torch.where(seen, bias - (share * bias).sum(), UNSEEN))


def body_tensors(task: AdaptedTask) -> Tensors:
    """The network's own weights and statistics, and how its input is normalised."""
    model = task.model
    weights = {f"weights.{name}": model.weights[name] for name in model.network.init(torch.Generator())}
    statistics = {f"statistics.{name}": value for name, value in model.statistics.items()}
    normalisation = {name: torch.tensor(value) for name, value in task.encoding.numbers().items()}
    return normalisation | weights | statistics


def task_graph(task: AdaptedTask, export: ExportSettings, kind: type[TaskGraph] = TaskGraph) -> bytes:
    """The graph for tasks of this kind, without any numbers."""
    body = body_tensors(task)
    about = {"network": repr(task.model.network), "tensors": {k: list(v.shape) for k, v in body.items()}}
    return kept(kind.__name__, about, export, lambda: _traced(task.model.network, body, export, kind))


def _traced(network: Network, body: Tensors, export: ExportSettings, kind: type[TaskGraph]) -> onnx.ModelProto:
    names = {
        group: [name.removeprefix(f"{group}.") for name in body if name.startswith(f"{group}.")]
        for group in ("weights", "statistics")
    }
    auto, way, tasks = torch.export.Dim.AUTO, torch.export.Dim(WAYS), torch.export.Dim(TASKS)
    lead: tuple[Any, ...] = (tasks,) if kind is FleetGraph else ()
    example: dict[Any, int] = {way: 3, tasks: 5}
    variable: list[tuple[Any, ...]] = [
        (*lead, *own) for own in ((way, network.embed), (way,), (way, network.embed), (way,), ())
    ]
    head = [torch.zeros(tuple(example[a] if a in example else int(a) for a in shape)) for shape in variable]
    of_head = [{place: axis for place, axis in enumerate(shape) if axis in example} for shape in variable]
    images = torch.zeros(2, 31, 37, network.shape[0], dtype=torch.uint8)
    asked = [torch.zeros(2, dtype=torch.int64)] if lead else []
    shift, scale, *network_tensors = body.values()
    axes = [
        {0: auto, 1: auto, 2: auto},
        *({0: auto} for _ in asked),
        *of_head,
        {},
        {},
        tuple({} for _ in network_tensors),
    ]
    module = kind(network, names["weights"], names["statistics"]).eval()
    inputs = [INPUT, *([TASK] if lead else []), *HEAD, *body]
    return exported(module, [images, *asked, *head, shift, scale, *network_tensors], axes, inputs, OUTPUTS, export)


def fleet_to_onnx(body: AdaptedTask, heads: Tensors, export: ExportSettings, about: Mapping[str, str]) -> bytes:
    """One network with the heads of many tasks.

    Args:
        body: any of the tasks.
        heads: from `head_tensors`, stacked; missing classes have a bias that leaves them no probability.
        export: versions of ONNX.
        about: goes into the file's metadata_props.
    """
    graph = task_graph(body, export, FleetGraph)
    sizes = {WAYS: heads[HEAD[0]].shape[1], TASKS: heads[HEAD[0]].shape[0]}
    return filled(graph, heads | body_tensors(body), about, sizes)


class Template:
    """The graph of one body, whose head alone is still to be filled in: for many tasks, checked once for each number
    of ways."""

    def __init__(self, body: AdaptedTask, export: ExportSettings) -> None:
        self._model = onnx.load_model_from_string(filled(task_graph(body, export), body_tensors(body), {}))
        self._checked: set[int] = set()

    def filled(self, head: Tensors, n_way: int, about: Mapping[str, str]) -> bytes:
        """A task's file.

        Args:
            head: from `head_tensors`.
            n_way: classes of the task.
            about: goes into the file's metadata_props.
        """
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        fill(model, head, {WAYS: n_way})
        data = checked(model, about, with_onnx=n_way not in self._checked)
        self._checked.add(n_way)
        return data


def to_onnx(task: AdaptedTask, known: Known, export: ExportSettings, about: Mapping[str, str]) -> bytes:
    """The task model as a self-contained ONNX file.

    Args:
        task: what `Learner.adapt` returned.
        known: of its support set.
        export: versions of ONNX.
        about: goes into the file's metadata_props.

    Raises:
        MetaloomError: the opset needs a newer IR version.
    """
    tensors = head_tensors(task.model.head, known) | body_tensors(task)
    return filled(task_graph(task, export), tensors, about, {WAYS: len(task.classes)})
