"""The page as a whole: what it may not contain, how it fails, how it is written."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_project import make_project, put, write_quality
from page_parser import Page
from projects import plan_for_plenty

from metaloom.errors import MetaloomError
from metaloom.report.page import LARGEST, build
from metaloom.report.verdict import verdict
from metaloom.stages import report as stage
from metaloom.system.files import read_json

REPO = Path(__file__).parents[2]


def test_nothing_outside_the_page(text, page):
    for tag, attrs, _ in page.elements:
        for name in ("src", "srcset", "poster", "data", "action", "background"):
            assert (attrs.get(name) or "data:").startswith("data:"), (tag, attrs)
        assert (attrs.get("href") or "#").startswith(("#", "data:")), (tag, attrs)
    assert not re.search(r"https?://|url\(|@import|//cdn", text)


def test_small_and_fast(project):
    started = time.perf_counter()
    size = len(build(project).encode())
    assert size <= LARGEST
    assert time.perf_counter() - started < 20


def test_the_same_inputs_make_the_same_page(project, text):
    assert build(project) == text


def test_for_keyboard_and_screen_reader(page):
    assert all(attrs.get("alt") is not None for attrs, _ in page.all("img"))
    assert all(attrs.get("scope") for attrs, _ in page.all("th"))
    assert all(attrs.get("aria-label") for attrs, _ in page.all("svg") if attrs.get("role") == "img")
    assert len(page.all("main")) == len(page.all("h1")) == len(page.all("nav")) == 1
    assert all(attrs.get("tabindex") == "0" and attrs.get("aria-label") for attrs, _ in page.all("div", role="region"))
    ids = [attrs["id"] for _, attrs, _ in page.elements if attrs.get("id")]
    assert len(ids) == len(set(ids))
    for attrs, _ in page.all("a"):
        assert attrs.get("download") or (attrs["href"] or "").removeprefix("#") in ids


def test_markup_in_names_stays_text(tmp_path):
    evil = '<script>alert("1")</script>'
    project = make_project(tmp_path, 6, settings=("5w1s",), class_name=evil)
    write_quality(project, 10, {"unreadable": [{"source": evil + ".png", "reason": "<b>cut off"}]})
    text = build(project)
    assert evil not in text and "<b>cut off" not in text
    page = Page(text)
    assert len(page.all("script")) == 1
    assert any(evil in (attrs["alt"] or "") for attrs, _ in page.all("img"))


def test_one_method_one_setting_no_single_task_learner(tmp_path):
    page = Page(build(make_project(tmp_path, 4, settings=("5w1s",), methods=("maml",), single_task=())))
    assert "No single-task learner was measured" in " ".join(text for _, text in page.all("p"))
    assert not any("within one domain" in text for _, text in page.all("th"))


def test_many_domains_of_large_colour_pictures_stay_small(tmp_path, monkeypatch):
    monkeypatch.setattr("metaloom.report.sections.tradeoffs.MOST_DOMAINS", 5)
    project = make_project(tmp_path, 40, 6, settings=("5w1s", "20w5s", "20w5s_domain"), size=72, channels=3)
    rng = np.random.default_rng(0)
    shape = np.load(project.dataset / "examples.npy", mmap_mode="r").shape
    np.save(project.dataset / "examples.npy", rng.integers(0, 256, shape, dtype=np.uint8))  # noise: the worst case
    write_quality(project, 10, {"unreadable": [{"source": f"{n}.png", "reason": "cut off"} for n in range(26)]})
    text = build(project)
    assert len(text.encode()) <= LARGEST
    page = Page(text)
    assert len(page.all("table", **{"class": "domains"})) == 1 and "Script 039" in text
    assert f"and 1 more in {project.dataset / 'quality.json'}" in text
    assert f"more domains in {project.evaluation / 'domains.csv'}" in text
    assert any("episode of 4" in text or "episodes of 4" in text for _, text in page.all("summary"))


@pytest.mark.parametrize(
    ("file", "made_by"),
    [
        ("artifacts/evaluation/figures.json", "evaluate"),
        ("artifacts/evaluation/gallery.parquet", "evaluate"),
        ("artifacts/evaluation/rivals.json", "evaluate"),
        ("artifacts/evaluation/labels.csv", "evaluate"),
        ("artifacts/evaluation/labels_saved.json", "evaluate"),
        ("artifacts/evaluation/calibration.csv", "evaluate"),
        ("artifacts/evaluation/estimates.parquet", "evaluate"),
        ("artifacts/evaluation/map.parquet", "evaluate"),
        ("artifacts/evaluation/domains.csv", "evaluate"),
        ("artifacts/evaluation/sizes.json", "evaluate"),
        ("artifacts/splits/classes.parquet", "split"),
        ("artifacts/dataset/quality.json", "prepare"),
        ("artifacts/models/maml/metrics.json", "train@maml"),
        ("artifacts/models/maml/curves/plots/metrics/train/loss.tsv", "train@maml"),
        ("artifacts/bundle/metadata.json", "export"),
        ("artifacts/bundle/SHA256SUMS", "export"),
    ],
)
def test_missing_artifact_names_its_stage(small, file, made_by):
    (small.root / file).unlink()
    with pytest.raises(MetaloomError, match=f"{file.split('/')[-1]} not found: `dvc repro {made_by}` makes it"):
        build(small)


def test_quality_report_without_its_counts_is_refused(small):
    put(small.dataset / "quality.json", {"examples": 3})
    with pytest.raises(MetaloomError, match="quality.json lacks problems, used: `dvc repro -f prepare`"):
        build(small)


def test_gallery_of_another_data_set_is_refused(small):
    table = pd.read_parquet(small.evaluation / "gallery.parquet")
    table.loc[3, "row"] = 10**6
    table.to_parquet(small.evaluation / "gallery.parquet", index=False)
    with pytest.raises(MetaloomError, match="shows row 1000000, but the data set has 960"):
        build(small)


def test_stage_writes_the_page_whole_or_not_at_all(tmp_path, monkeypatch, capsys, small):
    shutil.copy(REPO / "params.yaml", tmp_path)
    put(small.plan, read_json(plan_for_plenty(tmp_path)) | read_json(small.plan))
    monkeypatch.chdir(tmp_path)
    folders = [
        "artifacts/dataset",
        "artifacts/splits",
        "artifacts/plan.json",
        "artifacts/models",
        "artifacts/evaluation",
        "artifacts/bundle",
    ]
    stage.main(*folders, "report")
    made = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert made == build(small)
    assert (tmp_path / "report/verdict.txt").read_text(encoding="utf-8") == f"{verdict(small)}\n"
    assert "report/index.html" in capsys.readouterr().out
    (small.evaluation / "gallery.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(MetaloomError, match="gallery.parquet cannot be read"):
        stage.main(*folders, "report")
    assert (tmp_path / "report" / "index.html").read_text(encoding="utf-8") == made


def test_torch_is_not_imported(project):
    code = (
        "import sys, metaloom.cli.report, metaloom.stages.report\n"
        "from metaloom.report.page import Inputs, build; from pathlib import PosixPath, WindowsPath\n"
        f"build({project!r})\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_command_says_where_the_page_is(tmp_path, monkeypatch, capsys, repo):
    from metaloom.cli import report as report_commands

    monkeypatch.chdir(tmp_path)
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(repo / name, tmp_path)
    with pytest.raises(MetaloomError, match=r"report/index.html not found: `metaloom run` makes it"):
        report_commands.report()
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("<!doctype html>")
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda uri: opened.append(uri) or True)
    report_commands.report(open_=False)
    assert not opened and capsys.readouterr().out.strip() == str(tmp_path / "report" / "index.html")
    report_commands.report(open_=True)
    assert opened == [(tmp_path / "report" / "index.html").as_uri()]
    monkeypatch.setattr("webbrowser.open", lambda uri: False)
    with pytest.raises(MetaloomError, match="no browser found"):
        report_commands.report(open_=True)
