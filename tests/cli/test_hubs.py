"""`metaloom encoder add HUB/NAME`: with stand-ins for the hubs' packages that have the same interface."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from encoders import Tiny
from test_encoder import here  # noqa: F401 (a fixture)
from text_encoders import ids_of, rows_of, write_tokenizer

from metaloom.cli import encoder
from metaloom.config import load_settings
from metaloom.errors import MetaloomError

TIMM = """
from encoders import Tiny

def is_model(name):
    return name.split(".")[0] in ("tiny", "lost")

def create_model(name, pretrained, num_classes):
    assert pretrained and num_classes == 0
    if name == "lost":
        raise RuntimeError("No pretrained weights exist for lost. Use `pretrained=False`")
    return Tiny().train()
"""
DATA = """
def resolve_model_data_config(model):
    return {"input_size": (3, 24, 24), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
"""
SENTENCES = """
import os
import torch
from tokenizers import Tokenizer
from text_encoders import weights

class Fast:
    backend_tokenizer = Tokenizer.from_file(os.environ["WORDS"])

class SentenceTransformer(torch.nn.Module):
    max_seq_length = 32

    def __init__(self, name, device):
        super().__init__()
        if name != "sentence-transformers/tiny":
            raise OSError(f"{name} is not a local folder and is not a valid model identifier")
        self.table, self.places, self.mixing = (torch.nn.Parameter(torch.from_numpy(each)) for each in weights())
        self.tokenizer = Fast()

    def tokenize(self, texts):
        made = [self.tokenizer.backend_tokenizer.encode(text).ids for text in texts]
        ids = torch.zeros(len(made), max(map(len, made)), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, own in enumerate(made):
            ids[row, : len(own)], mask[row, : len(own)] = torch.tensor(own), 1
        return {"input_ids": ids, "attention_mask": mask}

    def forward(self, features):
        ids, mask = features["input_ids"], features["attention_mask"]
        weight = mask[..., None].float()
        word = self.table[ids] + self.places[: ids.shape[1]]
        mean = (word * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
        hidden = torch.tanh(word + mean @ self.mixing)
        return {**features, "token_embeddings": hidden, "sentence_embedding": (hidden * weight).sum(1) / weight.sum(1)}
"""


@pytest.fixture
def hubs(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    for name, code in (("timm", TIMM), ("sentence_transformers", SENTENCES)):
        (here / "packages" / name).mkdir(parents=True)
        (here / "packages" / name / "__init__.py").write_text(code)
    (here / "packages/timm/data.py").write_text(DATA)
    monkeypatch.setenv("WORDS", str(write_tokenizer(here / "words.json")))
    monkeypatch.syspath_prepend(str(here / "packages"))
    for name in ("timm", "timm.data", "sentence_transformers"):
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)
    return here


@pytest.mark.slow
def test_a_model_of_timm_is_exported_and_its_normalisation_told(hubs: Path, capsys: pytest.CaptureFixture[str]):
    encoder.add(Path("timm/tiny.in1k"))
    said = capsys.readouterr().out
    assert "encoders/tiny.in1k.onnx" in said and "12 numbers each" in said
    given = re.findall(r"--set (encoder\.\w+)=(\S+?)[`\s]", said)
    assert dict(given) == {
        "encoder.file": "encoders/tiny.in1k.onnx",
        "encoder.mean": "[0.5,0.5,0.5]",
        "encoder.deviation": "[0.5,0.5,0.5]",
    }
    load_settings(overrides={name: json.loads(value) for name, value in given if value[0] == "["})
    x = np.random.default_rng(0).normal(size=(5, 3, 24, 24)).astype(np.float32)
    found = onnxruntime.InferenceSession(hubs / "encoders/tiny.in1k.onnx").run(None, {"pixels": x})[0]
    np.testing.assert_allclose(found, Tiny().eval()(torch.from_numpy(x)).detach().numpy(), atol=1e-5)


@pytest.mark.slow
def test_a_model_of_sentence_transformers_brings_its_tokenizer(hubs: Path, capsys: pytest.CaptureFixture[str]):
    encoder.add(Path("sentence-transformers/tiny"), name="words")
    assert "encoders/words.onnx" in capsys.readouterr().out
    tokenizer = json.loads((hubs / "encoders/words.tokenizer.json").read_text())
    assert tokenizer["truncation"]["max_length"] == 32
    texts = ["open the door", "please close my window ?", "door"]
    ids = [ids_of(text) for text in texts]
    longest = max(map(len, ids))
    given = {"input_ids": np.array([each + [0] * (longest - len(each)) for each in ids])}
    given["attention_mask"] = np.array([[1] * len(each) + [0] * (longest - len(each)) for each in ids])
    session = onnxruntime.InferenceSession(hubs / "encoders/words.onnx")
    assert [each.name for each in session.get_outputs()] == ["sentence_embedding"]
    np.testing.assert_allclose(session.run(None, given)[0], rows_of(texts), atol=1e-5)


def test_names_that_no_hub_has(hubs: Path):
    for name, said in (
        ("timm/unknown", r"timm has no model 'unknown': timm.list_models"),
        ("timm/lost", r"timm/lost cannot be had: No pretrained weights exist for lost"),
        ("sentence-transformers/absent", r"cannot be had: sentence-transformers/absent is not a local folder"),
    ):
        with pytest.raises(MetaloomError, match=said):
            encoder.add(Path(name))
    with pytest.raises(MetaloomError, match="brings its own tokenizer: leave out --tokenizer"):
        encoder.add(Path("sentence-transformers/tiny"), tokenizer=Path("words.json"))
    assert not (hubs / "encoders").exists()


def test_a_hub_whose_package_is_not_installed(here: Path, monkeypatch: pytest.MonkeyPatch):  # noqa: F811
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(MetaloomError, match=r"need the package timm \(.+\): `pip install 'metaloom\[timm\]'`"):
        encoder.add(Path("timm/resnet18"))
    with pytest.raises(MetaloomError, match=r"`pip install 'metaloom\[sentence-transformers\]'`"):
        encoder.add(Path("sentence-transformers/all-MiniLM-L6-v2"))


def test_a_file_in_a_folder_of_that_name_is_a_file(here: Path):  # noqa: F811
    (here / "timm").mkdir()
    (here / "timm/mine.onnx").write_text("no")
    with pytest.raises(MetaloomError, match="mine.onnx is no ONNX file"):
        encoder.add(Path("timm/mine.onnx"))
