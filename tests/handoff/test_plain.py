"""The form of a bundle's graph for runtimes of devices: one prepared example, float32, nothing that varies."""

from __future__ import annotations

import importlib.util
import json
import runpy
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from bundles import change_json, reseal
from PIL import Image

from metaloom.config import Settings
from metaloom.data.support import read_support
from metaloom.handoff.adapting.solve import solve
from metaloom.handoff.bundle.contents import Maker
from metaloom.handoff.bundle.write import write_bundle
from metaloom.handoff.shipped.verify import verify
from metaloom.kinds.pictures.kind import Pictures

PLAIN_TYPES = {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.UNDEFINED}
SIZES_ONLY = {"Shape", "Range", "Expand", "ConstantOfShape", "Gather", "If", "Loop"}  # operators of sizes that vary


@pytest.fixture(scope="module")
def plain_bundle(shapes: Path, model: Path, few_steps: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without the graphs that learn, which take longest to trace."""
    export = few_steps.export.model_copy(update={"variants": ["plain"], "page": False})
    maker = Maker.open(model, few_steps.model_copy(update={"export": export}))
    encoding, out = maker.learner.encoding, tmp_path_factory.mktemp("plain") / "bundle"
    (solved,) = solve(maker, {"some": read_support(shapes / "domain0", encoding.kind, encoding.packed)})
    write_bundle(out, replace(solved.contents(maker), learner=None), export)
    return out


def asked(bundle: Path, graph: str, examples: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(bundle / graph)
    return [np.asarray(each) for each in session.run(None, {session.get_inputs()[0].name: examples})]


def test_nothing_varies_and_nothing_is_float64(plain_bundle: Path):
    model = onnx.shape_inference.infer_shapes(onnx.load(plain_bundle / "model.plain.onnx"), data_prop=True)
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    assert len(values) > 10
    for value in values:
        assert value.type.tensor_type.elem_type in PLAIN_TYPES, value.name
        assert all(size.dim_value > 0 for size in value.type.tensor_type.shape.dim), value.name
    assert not SIZES_ONLY & {node.op_type for node in model.graph.node}
    (taken,) = model.graph.input
    assert [size.dim_value for size in taken.type.tensor_type.shape.dim] == [1, 1, 28, 28]


def test_prepared_as_the_bundle_says_it_answers_as_the_other_graph(plain_bundle: Path, tmp_path: Path):
    ours = runpy.run_path(str(plain_bundle / "plain.py"), run_name="plain")
    for height, width in ((28, 28), (20, 33), (105, 40), (1, 300), (2000, 700)):
        raw = np.random.default_rng(height).integers(0, 256, (height, width, 1), dtype=np.uint8)
        Image.fromarray(raw[..., 0]).save(tmp_path / "picture.png")
        found = asked(plain_bundle, "model.plain.onnx", ours["prepared"](ours["pixels"](tmp_path / "picture.png")))
        for one, other in zip(found, asked(plain_bundle, "model.onnx", raw[None]), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("changes", [{"fit": "crop"}, {"fit": "stretch"}, {"inverted": True}, {"channels": 3}], ids=str)
def test_the_shipped_code_prepares_as_training_does(changes: dict, plain_bundle: Path):
    kind = Pictures(28, changes.pop("channels", 1), **changes)
    ours = runpy.run_path(str(plain_bundle / "plain.py"), run_name="plain")["prepared"]
    ours.__globals__["about"].update(kind.described(), inverted=kind.inverted)
    raw = np.random.default_rng(0).integers(0, 256, (1, 61, 47, kind.channels), dtype=np.uint8)
    np.testing.assert_array_equal(ours(raw[0])[0].transpose(1, 2, 0), kind.packed(raw)[0])


def test_it_is_verified_and_said(plain_bundle: Path):
    verdict = verify(plain_bundle)
    assert not verdict.problems and "model.plain.onnx" in verdict.summary
    about = json.loads((plain_bundle / "metadata.json").read_text())["graphs"]["model.plain.onnx"]["input"]
    assert (about["name"], about["shape"]) == ("prepared", [1, 1, 28, 28])
    assert about["description"] in (plain_bundle / "MODEL_CARD.md").read_text()


def test_an_input_that_is_not_as_said_is_a_problem(plain_bundle: Path, tmp_path: Path):
    other = Path(shutil.copytree(plain_bundle, tmp_path / "bundle"))
    change_json(
        other / "metadata.json", lambda about: about["graphs"]["model.plain.onnx"]["input"].update(shape=[1, 3])
    )
    reseal(other)
    assert verify(other).problems == [
        "model.plain.onnx: its input is prepared tensor(float) [1, 1, 28, 28], not prepared tensor(float) [1, 3]"
    ]


def in_opencv(path: Path, prepared: np.ndarray) -> np.ndarray:
    import cv2

    network = cv2.dnn.readNetFromONNX(str(path))
    network.setInput(prepared, "prepared")
    return network.forward("probabilities")


def in_openvino(path: Path, prepared: np.ndarray) -> np.ndarray:
    import openvino

    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled({"prepared": prepared})["probabilities"]


def in_tract(path: Path, prepared: np.ndarray) -> np.ndarray:
    import tract

    model = tract.onnx().load(str(path)).into_model().into_runnable()
    return model.run([prepared])[0].to_numpy()


@pytest.mark.parametrize(("package", "asking"), [("cv2", in_opencv), ("openvino", in_openvino), ("tract", in_tract)])
def test_another_runtime_answers_alike(package: str, asking: Callable, plain_bundle: Path):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"the package {package} is not installed")
    prepared = np.load(plain_bundle / "samples/examples.prepared.npy")[:1]
    expected = np.load(plain_bundle / "samples/examples.probabilities.npy")[:1]
    np.testing.assert_allclose(asking(plain_bundle / "model.plain.onnx", prepared), expected, atol=1e-4)
