"""fp16 and int8 forms of a bundle behind an encoder: the encoder is smaller, and what that costs is measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from encoders import write_encoder
from test_encoded_text_bundles import OWN, learner  # noqa: F401 (a fixture)
from test_variants import make, with_export
from text_encoders import tried_here
from torch import nn

from metaloom.config import ExportSettings, Settings
from metaloom.handoff.graphs import costs
from metaloom.handoff.graphs.novelty import novelty_of
from metaloom.handoff.graphs.task import to_onnx
from metaloom.handoff.shipped.verify import verify
from metaloom.kinds import seen_by
from metaloom.kinds.encoded import trial
from metaloom.kinds.pictures.kind import Pictures
from metaloom.learner import Learner
from metaloom.tasks import EpisodeTable

pytestmark = pytest.mark.slow
PRECISIONS = {"fp16": onnx.TensorProto.FLOAT16, "int8": onnx.TensorProto.INT8}


class Wide(nn.Module):
    """Most of its file are weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 64, 3, 2), nn.ReLU(), nn.Conv2d(64, 64, 3, 2), nn.ReLU())

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.layers(pictures).mean(dim=(2, 3))


@pytest.fixture(scope="module")
def coloured(pictures: np.ndarray) -> np.ndarray:
    return pictures.repeat(3, axis=-1)


@pytest.fixture(scope="module")
def behind(coloured: np.ndarray, tiny_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Learner:
    """Nearest mean behind an encoder of pictures of 28 pixels."""
    folder = tmp_path_factory.mktemp("wide")
    write_encoder(folder / "wide.onnx", Wide(), size=coloured.shape[1])
    given = tiny_settings.encoder.model_copy(update={"file": str(folder / "wide.onnx")})
    (folder / "embedded").mkdir()
    kind = Pictures(image_size=coloured.shape[1], channels=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "tried", tried_here)
        file = str(folder / "embedded/encoder.onnx")
        seen = seen_by(kind, given, tiny_settings.export, folder / "embedded", file)
    network = tiny_settings.network.model_copy(update={"name": "identity"})
    settings = tiny_settings.model_copy(update={"network": network})
    return Learner.create("protonet", settings, seen.fitted(coloured[:160]))


@pytest.fixture(scope="module")
def asked(coloured: np.ndarray) -> costs.Trial:
    rng = np.random.default_rng(0)
    rows = np.stack([160 + (rng.choice(20, 3, replace=False) * 8)[:, None] + rng.permutation(8)[:5] for _ in range(8)])
    return costs.Trial(coloured, coloured[:160:10], {"3w2s": EpisodeTable(rows[..., :2], rows[..., 2:])})


def test_a_bundle_behind_an_encoder_with_variants(
    behind: Learner, save_model: Callable, tiny_settings: Settings, asked, coloured: np.ndarray, tmp_path: Path
):
    """What the card says is what the graphs themselves answer: of each form, on the same episodes."""
    settings = with_export(tiny_settings, variants=list(PRECISIONS), max_loss=1.0)
    out = tmp_path / "bundle"
    make(behind, settings, asked, save_model(behind, tmp_path / "protonet"), out, coloured)
    assert verify(out).problems == []
    said = json.loads((out / "metadata.json").read_text())["variants"]
    whole = (out / "model.onnx").stat().st_size
    for precision, stored in PRECISIONS.items():
        cost, file = said[f"model.{precision}.onnx"], out / f"model.{precision}.onnx"
        kernels = [each for each in onnx.load(file).graph.initializer if len(each.dims) == 4 and each.dims[0] == 64]
        assert len(kernels) == 2 and all(each.data_type == stored for each in kernels)
        assert whole / file.stat().st_size > (1.5 if precision == "fp16" else 2.2)
        assert cost["episodes"] == 8 and cost["difference"] == pytest.approx(
            np.mean(differences(behind, asked, precision, settings.export))
        )
    assert "Smaller forms of model.onnx" in (out / "MODEL_CARD.md").read_text()


def differences(behind: Learner, asked: costs.Trial, precision: str, export: ExportSettings) -> list[float]:
    """A graph for each episode and form, asked about raw pictures."""
    found = []
    (table,) = asked.episodes.values()
    for support, query in zip(table.support_rows, table.query_rows, strict=True):
        task = behind.adapt(asked.examples[support], table.labels)
        novelty = novelty_of(task, asked.examples[support], table.labels)
        whole = to_onnx(task, novelty, export, {})
        trial_of_one = costs.Trial(asked.examples, asked.calibration, {"one": table.first(1)})
        chosen = export.model_copy(update={"variants": [precision]})
        made = costs.variants_of_encoder(whole, task, novelty, behind, trial_of_one, chosen, {})
        graphs = (whole, made[f"model.{precision}.onnx"][0])
        answers = [
            onnxruntime.InferenceSession(each).run(None, {"examples": asked.examples[query]})[0] for each in graphs
        ]
        right = [(np.asarray(each).argmax(axis=1) == table.answers).mean() for each in answers]
        found.append(right[1] - right[0])
    return found


def test_an_encoder_of_texts_is_made_smaller(learner: Learner, tiny_settings: Settings):  # noqa: F811
    texts, labels = [text for text, _ in OWN], [label for _, label in OWN]
    packed = learner.encoding.taken(texts)
    task = learner.adapt(packed, labels)
    ways = np.unique(labels, return_inverse=True)[1]
    novelty = novelty_of(task, packed, ways)
    rows = np.arange(len(packed)).reshape(1, -1, 5)
    trial_of_one = costs.Trial(packed, packed[:8], {"6w2s": EpisodeTable(rows[..., :2], rows[..., 2:])})
    model = to_onnx(task, novelty, tiny_settings.export, {})
    settings = with_export(tiny_settings, variants=["fp16", "int8"], max_loss=1.0)
    made = costs.variants_of_encoder(model, task, novelty, learner, trial_of_one, settings.export, {})
    ids = learner.encoding.unpacked(packed[:4])
    expected = np.asarray(onnxruntime.InferenceSession(model).run(None, {"examples": ids})[0])
    for data, cost in made.values():
        found = np.asarray(onnxruntime.InferenceSession(data).run(None, {"examples": ids})[0])
        assert 0 < np.abs(found - expected).max() < 0.1 and cost.episodes == 1
