from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.main import get_command

from metaloom.cli.app import app
from metaloom.config import METHODS, load_settings, parse_override
from metaloom.kinds.pictures.encode import PictureEncoding
from metaloom.learner import Learner


@pytest.fixture(scope="module")
def readme(repo) -> str:
    return (repo / "README.md").read_text()


def test_every_command_it_names_exists(readme):
    known = set(get_command(app).commands)
    named = set(re.findall(r"`metaloom (\w+)", readme)) | set(re.findall(r"^metaloom (\w+)", readme, re.MULTILINE))
    assert named <= known
    assert known <= named


def test_every_override_it_shows_is_legal(repo, readme):
    shown = re.findall(r"--set '?([\w.]+=[^\s'`]+)", readme)
    assert shown
    load_settings(repo / "params.yaml", dict(map(parse_override, shown)))


def test_links_and_files_exist(repo, readme):
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", readme):
        assert (repo / target).exists(), target
    for name in re.findall(r"`(src/[\w/]+|[\w.]+\.(?:yaml|toml))`", readme):
        assert (repo / name).exists(), name


def test_every_method_and_make_target_is_there(repo, readme):
    assert all(f"`{name}`" in readme for name in METHODS)
    targets = set(re.findall(r"^(\w+):", (repo / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make (\w+)|`make (\w+)`", readme, re.MULTILINE)) <= {
        pair for target in targets for pair in ((target, ""), ("", target))
    }


def test_ci_calls_exactly_the_test_command(repo, readme):
    commands = [
        line for line in (repo / ".ci/run").read_text().splitlines() if line and not line.startswith(("#", "set", "cd"))
    ]
    assert commands == [".ci/install", "make test", "make test-slow"]
    assert "\nmake test " in readme


def test_the_schedule_is_the_one_in_prefect_yaml(repo, readme):
    deployment = yaml.safe_load((repo / "prefect.yaml").read_text())["deployments"][0]
    assert deployment["schedules"][0]["cron"] == "0 3 * * *"
    assert "03:00 UTC every day" in readme


def test_its_python_runs_as_written(readme, tiny_settings, tmp_path, monkeypatch):
    letters = np.random.default_rng(0).integers(0, 256, (6, 1, 28, 28, 1))
    images = letters.repeat(20, axis=1).reshape(120, 28, 28, 1).astype(np.uint8)
    (tmp_path / "artifacts/dataset").mkdir(parents=True)
    np.save(tmp_path / "artifacts/dataset/images.npy", images)
    pd.DataFrame({"class": np.repeat(list("abcdef"), 20)}).to_parquet(tmp_path / "artifacts/dataset/items.parquet")
    learner = Learner.create("protonet", tiny_settings, PictureEncoding.of(images))
    (tmp_path / "artifacts/models/protonet").mkdir(parents=True)
    learner.save(tmp_path / "artifacts/models/protonet")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    names: dict = {}
    exec(code, names)
    assert names["probabilities"].shape == (5, 5)
    assert names["task"].predict(names["query_x"]) == list("abcde")  # every drawing is its letter's only one
    assert (tmp_path / "artifacts/my_task/task.json").is_file()
