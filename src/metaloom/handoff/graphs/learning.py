"""Graphs that learn: a task's labelled examples go in beside the questions, or a head comes out for later questions.

`adapt.onnx` is the whole method: support, labels, query → probabilities. Where a method leaves the network as it is, it
also comes in two: `learn.onnx` gives the task's head, `classify.onnx` takes it. Labels are whole numbers below
`max_ways`; a class without an example gets probability zero, so one graph serves any number of classes up to that.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import onnx
import torch
from jaxtyping import Bool, Int
from onnx import compose, numpy_helper
from torch import Tensor

from metaloom.config import ExportSettings
from metaloom.handoff.graphs.novelty import Novelty
from metaloom.handoff.graphs.onnxfile import checked, exported, filled, kept, taking_raw
from metaloom.handoff.graphs.task import AUTO, batch_axes, body_tensors, centred, task_graph
from metaloom.handoff.shipped.verify import ADAPT, CLASSIFY, HEAD, INPUT, LEARN, OUTPUTS, QUERY, SUPPORT_X, SUPPORT_Y
from metaloom.kinds.encoding import Encoding
from metaloom.learner import Learner
from metaloom.learner.learner import AdaptedTask
from metaloom.learner.temperature import Temperature
from metaloom.methods import Head, TaskModel
from metaloom.methods.model import UNSEEN, classes_seen, one_hot

LABELS = {0: AUTO}  # the axis that may have another size
TRACED_WAYS = 4  # classes of the example that a graph is traced with; nothing of it stays in the graph


def learning_graphs(learner: Learner, export: ExportSettings, about: Mapping[str, str]) -> dict[str, bytes]:
    """By the names of their files: adapt.onnx, and where the method allows learn.onnx and classify.onnx."""
    if not learner.method.frozen:
        return {ADAPT: adapt_graph(learner, export, about)}
    learn, classify = (make(learner, export, about) for make in (learn_graph, classify_graph))
    return {ADAPT: joined(learn, classify, about), LEARN: learn, CLASSIFY: classify}


def learn_graph(learner: Learner, export: ExportSettings, about: Mapping[str, str]) -> bytes:
    """Support and labels → the task's head and what is known of its support set.

    Args:
        learner: whose method changes the head alone (`Method.frozen`).
        export: versions of ONNX and the largest number of ways.
        about: goes into the file's metadata_props.
    """
    method, params, encoding = learner.method, learner.params, learner.encoding
    numbers = list(encoding.tensors().values())

    def learn(support_x: Tensor, support_y: Tensor) -> tuple[Tensor, ...]:
        x = encoding.in_graph(support_x, numbers)
        z = method.embed(params, x).double()  # a head is little work, and in float64 none that can be seen is lost
        seen = classes_seen(support_y, export.max_ways)
        head = method.head(params, z, support_y, export.max_ways)
        head = tempered(centred(head, seen), learner.temperature, seen, support_y)
        return tuple(value.float() for value in (*head, *Novelty.of(z, support_y, export.max_ways)))

    def make() -> onnx.ModelProto:
        support = _example(encoding)[:2]
        axes = [batch_axes(encoding), LABELS]
        from metaloom.handoff.graphs.decompositions import traced

        return exported(traced(learn, *support), support, axes, [SUPPORT_X, SUPPORT_Y], HEAD, export)

    graph = kept("learn", _identity(learner, export), export, make)
    return filled(taking_raw(graph, encoding, export), {}, about)


def classify_graph(learner: Learner, export: ExportSettings, about: Mapping[str, str]) -> bytes:
    """Examples, and what learn.onnx gave → probabilities and novelty."""
    task = body_of(learner)
    return filled(task_graph(task, export), body_tensors(task), about)


def adapt_graph(learner: Learner, export: ExportSettings, about: Mapping[str, str]) -> bytes:
    """Support, labels and query → probabilities and novelty."""
    method, encoding = learner.method, learner.encoding
    numbers = list(encoding.tensors().values())

    def adapt(support_x: Tensor, support_y: Tensor, query_x: Tensor) -> tuple[Tensor, Tensor]:
        support, query = (encoding.in_graph(raw, numbers) for raw in (support_x, query_x))
        seen = classes_seen(support_y, export.max_ways)
        model = method.adapt(learner.params, support, support_y, export.max_ways)
        head = tempered(centred(model.head, seen), learner.temperature, seen, support_y)
        support_z, query_z = (method.network(model.weights, x, model.statistics)[0] for x in (support, query))
        novelty = Novelty.of(support_z, support_y, export.max_ways)
        return head.logits(query_z).softmax(dim=1), novelty.score(query_z)

    def make() -> onnx.ModelProto:
        example, axes = _example(encoding), [batch_axes(encoding), LABELS, batch_axes(encoding)]
        from metaloom.handoff.graphs.decompositions import traced

        return exported(traced(adapt, *example), example, axes, [SUPPORT_X, SUPPORT_Y, QUERY], OUTPUTS, export)

    graph = kept("adapt", _identity(learner, export), export, make)
    return filled(taking_raw(graph, encoding, export), {}, about)


def tempered(
    head: Head, temperature: Temperature, seen: Bool[Tensor, " n_way"], support_y: Int[Tensor, " support"]
) -> Head:
    """The head over metaloom.learner.temperature.Temperature.of_task."""
    ways = seen.to(head.weight.dtype).sum()
    counts = one_hot(support_y, seen.shape[0]).sum(dim=0).to(ways.dtype)
    log_shots = counts.clamp(min=1).log().sum() / ways
    log_t = torch.full_like(ways, temperature.level)
    for slope, log_value, (low, high) in (
        (temperature.shot, log_shots, temperature.shots),
        (temperature.way, ways.log(), temperature.ways),
    ):
        log_t = log_t + slope * log_value.clamp(math.log(low), math.log(high))
    factor = torch.exp(-log_t)
    return Head(head.weight * factor, torch.where(seen, head.bias * factor, UNSEEN))


def body_of(learner: Learner) -> AdaptedTask:
    """The learner's network as if it were a task's, without a head."""
    head = Head(torch.zeros(0, learner.method.network.embed), torch.zeros(0))
    model = TaskModel(learner.method.network, learner.params.weights, learner.params.task_statistics(), head)
    return AdaptedTask(model, learner.encoding, [])


def _example(encoding: Encoding) -> tuple[Tensor, Tensor, Tensor]:
    """Support, labels and query in sizes that occur nowhere else, so that none is taken for another."""
    generator = torch.Generator().manual_seed(0)
    taken = {*encoding.raw, *encoding.packed, *encoding.shape}
    many, few = [items for items in (13, 7, 17, 11, 19, 23) if items not in taken][:2]
    support, query = encoding.traceable(many, generator), encoding.traceable(few, generator, larger=1)
    return support, torch.arange(many) % TRACED_WAYS, query


def _identity(learner: Learner, export: ExportSettings) -> dict[str, Any]:
    """All that a graph holds of a learner."""
    digest = hashlib.sha256()
    for group in (learner.params.weights, learner.params.statistics):
        for name in sorted(group):
            digest.update(name.encode() + group[name].cpu().contiguous().numpy().tobytes())
    return {"learner": learner.config, "tensors": digest.hexdigest(), "max_ways": export.max_ways}


def joined(learn: bytes, classify: bytes, about: Mapping[str, str]) -> bytes:
    """One graph from two; what both hold stands in it once."""
    first, second = (onnx.load_model_from_string(data) for data in (learn, classify))
    compose.add_prefix(second, "classify.", rename_inputs=False, rename_outputs=False, inplace=True)
    model = compose.merge_models(first, second, io_map=[(name, name) for name in HEAD])
    same: dict[bytes, str] = {}
    renamed = {INPUT: QUERY}
    for tensor in list(model.graph.initializer):
        content = b"%d %r" % (tensor.data_type, list(tensor.dims)) + numpy_helper.to_array(tensor).tobytes()
        renamed[tensor.name] = same.setdefault(content, tensor.name)
        if renamed[tensor.name] != tensor.name:
            model.graph.initializer.remove(tensor)
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    for value in model.graph.input:
        value.name = renamed.get(value.name, value.name)
    return checked(model, about)
