from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from metaloom.config import Settings
from metaloom.errors import MetaloomError
from metaloom.handoff.adapting.one import adapt_to
from metaloom.handoff.graphs.novelty import novelty_of
from metaloom.handoff.graphs.task import to_onnx
from metaloom.handoff.shipped.verify import verify
from metaloom.kinds.pictures.encode import PictureEncoding
from metaloom.kinds.pictures.in_graph import resize_units, resized
from metaloom.kinds.pictures.kind import Pictures
from metaloom.kinds.pictures.resize import Fit, Span, resize, resize_matrix
from metaloom.learner import Learner
from metaloom.learner.learner import AdaptedTask
from metaloom.methods import METHOD_CLASSES, Head
from metaloom.networks import NETWORKS

ABOUT = {"metaloom.method": "protonet"}
MakeTask = Callable[[str], AdaptedTask]
GraphOf = Callable[..., bytes]


@pytest.fixture(scope="module")
def graph_of(pictures: np.ndarray, tiny_settings: Settings) -> GraphOf:
    """`graph_of(task, opset=21)`: model.onnx of a task from `make_task`."""

    def make(task: AdaptedTask, **versions: int) -> bytes:
        known = novelty_of(task, pictures[: 4 * 8 : 4], np.arange(4).repeat(2))
        return to_onnx(task, known, tiny_settings.export.model_copy(update=versions), ABOUT)

    return make


def answer(model: bytes, images: np.ndarray) -> np.ndarray:
    return np.asarray(onnxruntime.InferenceSession(model).run(None, {"examples": images})[0])


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def protonet(make_task: MakeTask, graph_of: GraphOf) -> bytes:
    return graph_of(make_task("protonet"))


@pytest.mark.parametrize("name", ["protonet", "maml"])
def test_probabilities_are_those_of_torch(
    name: str, make_task: MakeTask, pictures: np.ndarray, protonet: bytes, graph_of: GraphOf
):
    task = make_task(name)
    model = protonet if name == "protonet" else graph_of(task)
    for batch in (1, 2, 64):
        images = pictures[40 : 40 + batch]
        for raw in (images, images.repeat(2, axis=1)[:, 3:], images.repeat(3, axis=2), images[:, :1, :1]):
            found = answer(model, raw)
            assert found.shape == (batch, 4) and found.dtype == np.float32
            np.testing.assert_allclose(found, task.predict_proba(resize(raw, 28)), atol=1e-5, rtol=0)


@pytest.mark.sweep
@pytest.mark.parametrize(
    "network",
    [pytest.param(name, marks=pytest.mark.slow if name == "resnet12" else pytest.mark.sweep) for name in NETWORKS],
)
def test_every_method_over_every_network(
    network: str, make_learner: Callable, pictures: np.ndarray, tiny_settings: Settings, graph_of: GraphOf
):
    own = tiny_settings.network.model_copy(update={"name": network})
    for name in METHOD_CLASSES:
        learner = make_learner(name, tiny_settings.model_copy(update={"network": own}))
        task = learner.adapt(pictures[: 4 * 8 : 4], np.arange(4).repeat(2))
        exact = replace(task, model=task.model.double())
        session = onnxruntime.InferenceSession(graph_of(task))
        for batch in (1, 2, 64):
            for raw in (pictures[40 : 40 + batch], pictures[40 : 40 + batch].repeat(2, axis=1)[:, 3:]):
                probabilities, novelty = (np.asarray(each) for each in session.run(None, {"examples": raw}))
                expected, in_torch = (each.predict_proba(resize(raw, 28)) for each in (exact, task))
                loss = np.abs(in_torch - expected).max()  # over resnet12 float32 itself loses more than 1e-5
                np.testing.assert_allclose(probabilities, expected, atol=max(1e-5, 2 * loss), rtol=0, err_msg=name)
                assert novelty.shape == (batch,) and np.isfinite(novelty).all()


@pytest.mark.slow
def test_a_graph_sees_shifted_pictures_as_torch_does(
    make_learner, pictures: np.ndarray, tiny_settings: Settings, graph_of: GraphOf
):
    encoding = replace(PictureEncoding.of(pictures), kind=Pictures(28, 1, test_shift=1))
    learner = Learner.create("protonet", over_mlp(tiny_settings), encoding)
    task = learner.adapt(pictures[: 4 * 8 : 4], np.arange(4).repeat(2))
    for images in (pictures[40:41], pictures[40:104], pictures[40:43].repeat(2, axis=1)):
        expected = task.predict_proba(resize(images, 28))
        np.testing.assert_allclose(answer(graph_of(task), images), expected, atol=1e-5, rtol=0)


def test_an_answer_does_not_depend_on_its_batch(protonet: bytes, pictures: np.ndarray):
    together = answer(protonet, pictures[:64])
    alone = np.concatenate([answer(protonet, image[None]) for image in pictures[:5]])
    np.testing.assert_allclose(together[:5], alone, atol=1e-6, rtol=0)


def test_what_all_classes_share_costs_no_precision(make_task: MakeTask, pictures: np.ndarray, graph_of: GraphOf):
    """A head with a large common part, against float64, where rounding does not matter."""
    task = make_task("protonet")
    weight, bias = task.model.head
    head = Head(weight + 1000 * torch.rand(weight.shape[1], generator=torch.Generator().manual_seed(0)), bias + 9)
    task = replace(task, model=replace(task.model, head=head))
    exact = replace(task, model=task.model.double()).predict_proba(pictures)
    assert np.abs(task.predict_proba(pictures) - exact).max() > 5e-5  # so there is something to lose
    np.testing.assert_allclose(answer(graph_of(task), pictures), exact, atol=3e-6, rtol=0)


@pytest.mark.slow
def test_a_model_that_rounds_much_still_verifies(
    make_learner, save_model, pictures: np.ndarray, shapes, tiny_settings, tmp_path
):
    """Its golden samples are exact: what float32 loses in torch is not held against the graph."""
    learner = make_learner("protonet")
    weights = learner.params.weights
    far = replace(learner, params=replace(learner.params, weights=weights | {"3.shift": weights["3.shift"] + 100}))
    task = far.adapt(pictures[: 4 * 8 : 4], np.arange(4).repeat(2))
    exact = replace(task, model=task.model.double()).predict_proba(pictures)
    assert np.abs(task.predict_proba(pictures) - exact).max() > 2e-4
    model = save_model(far, tmp_path / "model")
    adapt_to(shapes / "domain0", tmp_path / "bundle", model, tiny_settings, lambda done, text: None)
    assert not verify(tmp_path / "bundle").problems


SQUARES = [(28, 28), (105, 105), (1, 1)]
SIZES = [*SQUARES, (64, 48), (28, 60), (100, 33), (1, 300), (199, 2), (27, 29), (640, 480)]


@pytest.mark.parametrize("height, width", SIZES)
def test_resized_pixels_inside_the_graph_are_those_of_training(height: int, width: int, protonet: bytes):
    images = np.concatenate([noise(3, height, width, 1), (noise(3, height, width, 1) // 128) * 255])
    np.testing.assert_array_equal(pixels_inside(protonet, images), resize(images, 28))


def test_a_graph_has_no_float64(protonet: bytes):
    """Many runtimes have none."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(protonet))
    values = [value.type.tensor_type.elem_type for value in (*model.graph.value_info, *model.graph.output)]
    assert len(values) > 100 and onnx.TensorProto.DOUBLE not in values
    assert onnx.TensorProto.DOUBLE not in {each.data_type for each in model.graph.initializer}


def test_pixels_are_the_same_where_matrices_are_multiplied_in_bfloat16(monkeypatch: pytest.MonkeyPatch):
    """Factors rounded to 8 bits and sums in float32, as some processors do it by themselves."""
    exact = torch.Tensor.__matmul__

    def in_bfloat16(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return exact(a.bfloat16().float(), b.bfloat16().float())

    images = noise(2, 105, 77, 1)
    monkeypatch.setattr(torch.Tensor, "__matmul__", in_bfloat16)
    np.testing.assert_array_equal(resized(torch.as_tensor(images), 28), resize(images, 28))


def over_mlp(settings: Settings) -> Settings:
    """For what happens before the network: through convolutions a graph takes three times as long to trace."""
    return settings.model_copy(update={"network": settings.network.model_copy(update={"name": "mlp"})})


def pixels_inside(graph: bytes, images: np.ndarray) -> np.ndarray:
    """Resized pixels, once they are bytes."""
    model = onnx.load_from_string(graph)
    to_bytes = onnx.helper.make_attribute("to", onnx.TensorProto.UINT8)
    pixels = next(node.output[0] for node in model.graph.node if to_bytes in node.attribute)
    model.graph.output.append(onnx.helper.make_tensor_value_info(pixels, onnx.TensorProto.UINT8, None))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return np.asarray(session.run([pixels], {"examples": images})[0])


def test_resize_weights_are_equal_for_every_size():
    for n_in in [*range(1, 400), 4095, 8000, 65_535]:
        for turned in (False, True):
            whole = Span(0, n_in, 0, 28)
            found = resize_units(whole, n_in, 28, torch.device("cpu"), turned).numpy()
            np.testing.assert_array_equal(found.T if turned else found, resize_matrix(n_in, 28) * 2**20)


@pytest.mark.parametrize("fit", get_args(Fit))
@pytest.mark.parametrize("height, width", [(31, 90), (90, 31), (1, 200), (64, 64)])
def test_colour_pictures_resize_alike(height: int, width: int, fit: Fit):
    images = noise(4, height, width, 3)
    np.testing.assert_array_equal(resized(torch.as_tensor(images), 32, fit), resize(images, 32, fit))
    negative = resized(torch.as_tensor(images), 32, fit, inverted=True)
    np.testing.assert_array_equal(negative, resize(255 - images, 32, fit))


@pytest.mark.parametrize(
    "changes",
    [{"fit": "crop"}, *(pytest.param(each, marks=pytest.mark.slow) for each in ({"fit": "pad"}, {"inverted": True}))],
)
def test_a_graph_makes_squares_as_training_does(
    changes: dict, make_learner, pictures: np.ndarray, tiny_settings: Settings, graph_of: GraphOf
):
    learner, kind = make_learner("protonet", over_mlp(tiny_settings)), Pictures(28, 1, **changes)
    task = learner.reading(replace(learner.encoding, kind=kind)).adapt(pictures[: 4 * 8 : 4], np.arange(4).repeat(2))
    graph = graph_of(task)
    for height, width in SIZES:
        images = noise(3, height, width, 1)
        np.testing.assert_array_equal(pixels_inside(graph, images), kind.packed(images))
        np.testing.assert_allclose(answer(graph, images), task.predict_proba(kind.packed(images)), atol=1e-5, rtol=0)


def test_whole_numbers_in_a_graph_stay_below_two_to_the_31(protonet: bytes):
    """Some runtimes hold them in 32 bits, and then a Clip that is open to one side gives zero."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(protonet))
    whole = [value for value in model.graph.value_info if value.type.tensor_type.elem_type == onnx.TensorProto.INT64]
    assert len(whole) > 20
    model.graph.output.extend(whole)
    names = {value.name for value in whole}
    assert not [node for node in model.graph.node if node.op_type == "Clip" and node.output[0] in names]
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for height, width in ((2, 65_535), (65_535, 1), (700, 700)):
        found = session.run([value.name for value in whole], {"examples": noise(1, height, width, 1)})
        assert max(np.abs(each).max(initial=0) for each in map(np.asarray, found)) < 2**31


@pytest.mark.slow
def test_versions_are_those_asked_for(make_task: MakeTask, protonet: bytes, pictures: np.ndarray, graph_of: GraphOf):
    for opset, ir_version, data in (
        (18, 9, protonet),
        (21, 10, graph_of(make_task("protonet"), opset=21, ir_version=10)),
    ):
        model = onnx.load_from_string(data)
        assert [(each.domain, each.version) for each in model.opset_import] == [("", opset)]
        assert model.ir_version == ir_version
        np.testing.assert_allclose(answer(data, pictures[:9]), answer(protonet, pictures[:9]), atol=1e-5)


def test_an_ir_version_older_than_the_opset_is_refused(make_task: MakeTask, graph_of: GraphOf):
    with pytest.raises(MetaloomError, match=r"ir_version is 9, but opset 21 needs 10"):
        graph_of(make_task("protonet"), opset=21, ir_version=9)


def test_the_file_stands_alone_and_says_nothing_of_its_maker(make_task: MakeTask, protonet: bytes, graph_of: GraphOf):
    model = onnx.load_from_string(protonet)
    assert {each.key: each.value for each in model.metadata_props} == ABOUT
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer)
    assert not model.functions and all(node.domain == "" and not node.metadata_props for node in model.graph.node)
    assert b".py" not in protonet and b"/home" not in protonet and b"site-packages" not in protonet
    assert graph_of(make_task("protonet")) == protonet
