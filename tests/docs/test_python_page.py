"""The Python that the documentation shows runs as written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from shown import blocks

from metaloom.kinds.pictures.encode import PictureEncoding
from metaloom.learner import Learner


@pytest.fixture
def after_a_run(tiny_settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that `make run` leaves and the page reads."""
    letters = np.random.default_rng(0).integers(0, 256, (6, 1, 28, 28, 1))
    images = letters.repeat(20, axis=1).reshape(120, 28, 28, 1).astype(np.uint8)
    (tmp_path / "artifacts/dataset").mkdir(parents=True)
    np.save(tmp_path / "artifacts/dataset/examples.npy", images)
    pd.DataFrame({"class": np.repeat(list("abcdef"), 20)}).to_parquet(tmp_path / "artifacts/dataset/items.parquet")
    learner = Learner.create("protonet", tiny_settings, PictureEncoding.of(images))
    (tmp_path / "artifacts/models/protonet").mkdir(parents=True)
    learner.save(tmp_path / "artifacts/models/protonet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_runs_as_written(repo, pages, after_a_run):
    (code,) = blocks(pages[repo / "docs/python.md"], "python")
    names: dict = {}
    exec(code, names)
    assert names["probabilities"].shape == (5, 5)
    assert names["task"].predict(names["query_x"]) == list("abcde")  # every drawing is its letter's only one
    assert (after_a_run / "artifacts/my_task/task.json").is_file()


def test_no_other_page_shows_python(repo, pages):
    assert [page.name for page, text in pages.items() if blocks(text, "python")] == ["python.md"]
