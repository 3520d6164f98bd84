"""A learner that needs no training, and one bundle that the tests copy before they harm it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import together
import torch
from projects import REPO, TINY

from metaloom.config import Settings, load_settings
from metaloom.handoff.adapting.one import adapt_to
from metaloom.kinds.pictures.encode import PictureEncoding
from metaloom.kinds.pictures.read import decode
from metaloom.learner import Learner
from metaloom.learner.learner import AdaptedTask
from metaloom.learner.temperature import Temperature
from metaloom.methods import Params
from metaloom.methods.embedding import EmbeddingMethod
from metaloom.system.files import write_json

VALIDATION = {"setting": "3w1s", "accuracy": 0.5, "ci95": 0.1, "nll": 1.5, "episodes": 12}
TEMPERATURE = Temperature(0.3, -0.2, 0.1, shots=(1.0, 20.0), ways=(2.0, 20.0))


def reseal(bundle: Path) -> None:
    """Make the checksums fit what is there now, as someone would who means to deceive, or edits by hand."""
    files = sorted(path for path in bundle.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.relative_to(bundle).as_posix()}\n" for f in files]
    (bundle / "SHA256SUMS").write_text("".join(lines))


def change_json(path: Path, change: Callable) -> None:
    value = json.loads(path.read_text())
    path.write_text(json.dumps(change(value) or value))


def change_model(bundle: Path, change: Callable[[onnx.ModelProto], object]) -> None:
    model = onnx.load(bundle / "model.onnx")
    change(model)
    (bundle / "model.onnx").write_bytes(model.SerializeToString())


@pytest.fixture(scope="session")
def few_steps() -> Settings:
    """Two inner steps are enough for a graph in which the network moves, and five take long to trace."""
    return load_settings(REPO / "params.yaml", TINY | {"reptile.inner_steps": 2})


@pytest.fixture(scope="session")
def pictures(shapes: Path) -> np.ndarray:
    """All pictures of the tiny data set: uint8 (picture, 28, 28, 1)."""
    return np.stack([decode(path.read_bytes(), 1) for path in sorted(shapes.rglob("*.png"))])


@pytest.fixture(scope="session")
def make_learner(pictures: np.ndarray, few_steps: Settings) -> Callable[[str], Learner]:
    """`make_learner("maml")`: random weights, but the normalisation and statistics of real pictures, and a temperature
    that is another one for every number of classes and examples."""

    def make(name: str, settings: Settings = few_steps) -> Learner:
        learner = Learner.create(name, settings, PictureEncoding.of(pictures)).tempered(TEMPERATURE)
        if not isinstance(learner.method, EmbeddingMethod):
            return learner
        weights = learner.params.weights
        _, statistics = learner.method.network(weights, learner.encoding(torch.as_tensor(pictures)))
        return replace(learner, params=Params(weights, learner.params.statistics | statistics))

    return make


@pytest.fixture(scope="session")
def make_task(make_learner: Callable[[str], Learner], pictures: np.ndarray) -> Callable[[str], AdaptedTask]:
    """`make_task("maml")`: a task model of 4 classes from 8 pictures."""
    return lambda name: make_learner(name).adapt(pictures[: 4 * 8 : 4], np.arange(4).repeat(2))


@pytest.fixture(scope="session")
def save_model() -> Callable[[Learner, Path], Path]:
    """`save_model(learner, folder)`: a model folder as the train stage writes it."""

    def save(learner: Learner, folder: Path) -> Path:
        folder.mkdir(parents=True)
        learner.save(folder)
        write_json(folder / "metrics.json", {"validation": VALIDATION, "best_step": 1, "steps": 1})
        return folder

    return save


@pytest.fixture(scope="session")
def model(
    make_learner: Callable[[str], Learner],
    save_model: Callable[[Learner, Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    return save_model(make_learner("protonet"), tmp_path_factory.mktemp("models") / "protonet")


@pytest.fixture(scope="session")
def whole_bundle(shapes: Path, model: Path, few_steps: Settings) -> Path:
    """A bundle for the four classes of one domain; read it, don't change it."""

    def make(folder: Path) -> None:
        adapt_to(shapes / "domain0", folder / "bundle", model, few_steps, lambda done, text: None)

    return together.once("whole_bundle", make) / "bundle"


@pytest.fixture
def bundle(whole_bundle: Path, tmp_path: Path) -> Path:
    """A bundle of the test's own."""
    return Path(shutil.copytree(whole_bundle, tmp_path / "bundle"))


def said_by_example(bundle: Path, *arguments: str) -> list[list[str]]:
    """What a bundle's own example.py says of files, a line each."""
    command = [sys.executable, "-I", str(bundle / "example.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [line.split("\t") for line in done.stdout.splitlines()]
