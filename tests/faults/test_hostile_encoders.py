"""Encoders from a stranger: each is refused in one line, within limits, and nothing of it is left in encoders/."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from metaloom.config import Settings
from metaloom.errors import MetaloomError
from metaloom.kinds import packed_encoder

VALUE = helper.make_tensor_value_info
OPSET = helper.make_opsetid("", 18)


def of_nodes(*nodes: onnx.NodeProto, side: int = 8, **constants: np.ndarray) -> onnx.ModelProto:
    """From the mean over pixels, `pooled`, to `out`."""
    mean = helper.make_node("ReduceMean", ["x", "axes"], ["pooled"], keepdims=0)
    weights = [numpy_helper.from_array(each, name) for name, each in ({"axes": np.array([2, 3])} | constants).items()]
    size, out = VALUE("x", TensorProto.FLOAT, ["b", 3, side, side]), VALUE("out", TensorProto.FLOAT, ["b", "e"])
    graph = helper.make_graph([mean, *nodes], "encoder", [size], [out], weights)
    return helper.make_model(graph, opset_imports=[OPSET, helper.make_opsetid("own", 1)], ir_version=9)


def hidden() -> TensorProto:
    tensor = TensorProto(name="hid", data_type=1, dims=[3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../secret")
    return tensor


def endless() -> onnx.ModelProto:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["going"]), helper.make_node("Identity", ["row"], ["still"])],
        "body",
        [VALUE("turn", TensorProto.INT64, []), VALUE("go", TensorProto.BOOL, []), VALUE("row", 1, ["b", "e"])],
        [VALUE("going", TensorProto.BOOL, []), VALUE("still", 1, ["b", "e"])],
    )
    loop = helper.make_node("Loop", ["turns", "yes", "pooled"], ["out"], body=body)
    return of_nodes(loop, turns=np.array(2**62), yes=np.array(True))


def huge() -> onnx.ModelProto:
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceMax", ["zeros"], ["zero"], keepdims=0),
        helper.make_node("Add", ["pooled", "zero"], ["out"]),
    ]
    return of_nodes(*nodes, shape=np.array([784 * 2**40 // 4]))


def with_function(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    model = of_nodes(helper.make_node("F", ["pooled"], ["out"], domain="own"))
    own = [OPSET, helper.make_opsetid("own", 1)]
    model.functions.append(helper.make_function("own", "F", ["a"], ["r"], nodes, own))
    return model


def hidden_in_a_function() -> onnx.ModelProto:
    constant = helper.make_node("Constant", [], ["c"], value=hidden())
    return with_function(constant, helper.make_node("Add", ["a", "c"], ["r"]))


def hidden_and_sparse() -> onnx.ModelProto:
    model = of_nodes(helper.make_node("Add", ["pooled", "hid"], ["out"]))
    values, places = hidden(), TensorProto(name="places", data_type=7, dims=[3], int64_data=[0, 1, 2])
    values.external_data[0].value = "weights.bin"
    model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=values, indices=places, dims=[3]))
    return model


PLAIN = helper.make_node("Identity", ["pooled"], ["out"])
HOSTILE: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "endless": (endless, "takes more than 3 s to try: a graph of it may have no end"),
    "784 TiB": (huge, "Failed to allocate memory"),
    "a function that calls itself": (
        lambda: with_function(helper.make_node("F", ["a"], ["r"], domain="own")),
        "cannot be used as an encoder: .*recursive",
    ),
    "weights elsewhere, in a function": (hidden_in_a_function, r"keeps weights in ../secret, outside its folder"),
    "weights elsewhere, sparse": (hidden_and_sparse, "keeps sparse weights .hid. in another file"),
    "a constant without a name": (
        lambda: of_nodes(PLAIN, helper.make_node("Constant", [], [], value=numpy_helper.from_array(np.zeros(2)))),
        "cannot be used as an encoder",
    ),
    "pictures of exabytes": (lambda: of_nodes(PLAIN, side=2**40), "pictures have 1 to 1024 pixels a side"),
    "pictures of less than nothing": (lambda: of_nodes(PLAIN, side=-3), "pictures have 1 to 1024 pixels a side"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_encoder_is_refused_in_one_line(name: str, tiny_settings: Settings, tmp_path: Path):
    make, said = HOSTILE[name]
    (tmp_path / "secret").write_bytes(bytes(12))
    (tmp_path / "from").mkdir()
    (tmp_path / "from/weights.bin").write_bytes(bytes(12))
    file = tmp_path / "from/strange.onnx"
    file.write_bytes(make().SerializeToString())
    settings = tiny_settings.encoder.model_copy(update={"file": str(file)})
    with pytest.raises(MetaloomError, match=said) as error:
        packed_encoder(settings, tiny_settings.export, tmp_path / "kept.onnx", seconds=3, gigabytes=3)
    assert "\n" not in str(error.value)
