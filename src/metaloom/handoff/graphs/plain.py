"""model.onnx for runtimes of devices: one example that is prepared already, float32, no size that varies.

What prepares raw examples is cut off; the kind of example says it in words, and its plain.py does it. What follows is
the same network and head, traced for one example, with all that only sizes depend on computed beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from metaloom.config import ExportSettings
from metaloom.handoff.graphs.novelty import Novelty
from metaloom.handoff.graphs.onnxfile import checked, exported, filled, kept
from metaloom.handoff.graphs.task import TaskGraph, body_tensors, head_tensors
from metaloom.handoff.shipped.verify import HEAD, OUTPUTS, PREPARED
from metaloom.learner.learner import AdaptedTask


class PlainGraph(TaskGraph):
    """The same for one prepared example."""

    def prepared(self, examples: Tensor, numbers: Sequence[Tensor]) -> Tensor:
        """The network's input of what the caller has prepared."""
        return self.encoding.scaled_in_graph(examples, numbers)


def plain_to_onnx(task: AdaptedTask, novelty: Novelty, export: ExportSettings, about: Mapping[str, str]) -> bytes:
    """The task model as an ONNX file that takes one prepared example.

    Args:
        task: what `Learner.adapt` returned.
        novelty: of its support set.
        export: versions of ONNX.
        about: goes into the file's metadata_props.

    Raises:
        MetaloomError: this kind of example has no such form, or the opset needs a newer IR version.
    """
    from onnxscript import optimizer

    body = body_tensors(task)
    tensors = head_tensors(task.model.head, novelty) | body
    known = {
        "network": repr(task.model.network),
        "input": task.encoding.kind.described(),
        "tensors": {name: list(tensor.shape) for name, tensor in tensors.items()},
    }

    def make() -> onnx.ModelProto:
        module = PlainGraph(task.model.network, task.encoding, list(body)).eval()
        given = [torch.zeros(1, *task.encoding.shape), *tensors.values()]
        axes: list[Any] = [{} for _ in range(1 + len(HEAD))]
        return exported(module, given, [*axes, tuple({} for _ in body)], [PREPARED, *tensors], OUTPUTS, export)

    graph = filled(kept(PlainGraph.__name__, known, export, make), tensors, {})
    folded = optimizer.optimize(onnx.load_model_from_string(graph), input_size_limit=2**40, output_size_limit=2**40)
    folded.ir_version = export.ir_version
    _store_constants(folded.graph)
    return checked(folded, about)


def _store_constants(graph: onnx.GraphProto) -> None:
    """Arrays of one value, which the optimiser leaves as operators, in place."""
    known = {tensor.name: tensor for tensor in graph.initializer}
    for node in [node for node in graph.node if node.op_type == "ConstantOfShape" and node.input[0] in known]:
        size = numpy_helper.to_array(known[node.input[0]])
        value = numpy_helper.to_array(node.attribute[0].t)
        graph.initializer.append(numpy_helper.from_array(np.full(size, value), node.output[0]))
        graph.node.remove(node)
    asked = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in asked]:
        graph.initializer.remove(tensor)
