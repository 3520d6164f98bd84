"""The page as text: what it says, what it may not contain, how it fails."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_project import DATA_HASH, make_project, put, write_curve, write_quality
from PIL import Image

from metaloom.errors import MetaloomError
from metaloom.report.charts.marks import Curve, curve_plot, nice_ticks
from metaloom.report.page import LARGEST, build
from metaloom.stages import report as stage

VOID = {"meta", "link", "img", "br"}
REPO = Path(__file__).parents[2]


class Page(HTMLParser):
    """Elements with their attributes and the text below them; refuses tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[tuple[str, list[str]]] = []
        self.feed(text)
        assert not self._open, f"not closed: {[tag for tag, _ in self._open]}"

    def handle_starttag(self, tag, attrs):
        texts: list[str] = []
        self.elements.append((tag, dict(attrs), texts))
        if tag not in VOID:
            self._open.append((tag, texts))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        opened, _ = self._open.pop()
        assert opened == tag, f"</{tag}> closes <{opened}>"

    def handle_data(self, data):
        for _, texts in self._open:
            texts.append(data)

    def all(self, tag: str, **wanted: str) -> list[tuple[dict[str, str | None], str]]:
        return [
            (attrs, " ".join("".join(texts).split()))
            for found, attrs, texts in self.elements
            if found == tag and all(value in (attrs.get(name) or "").split() for name, value in wanted.items())
        ]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def text(project):
    return build(project)


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


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


def test_headline_and_every_figure_with_its_interval(project, page):
    raw = json.loads((project.metrics / "evaluation.json").read_text())
    first = raw["protonet"]["5w1s"]
    (_, title), *_ = page.all("h1")
    assert f"{100 * first['accuracy']:.1f}%" in title and f"± {100 * first['ci95']:.1f}" in title
    values = Counter(value for _, value in page.all("span", **{"class": "value"}))
    expected = Counter(
        f"{100 * figures['accuracy']:.1f} ± {100 * figures['ci95']:.1f}%"
        for by_setting in raw.values()
        for figures in by_setting.values()
    )
    assert values == expected
    table = " ".join(row for _, row in page.all("table", **{"class": "figures"}))
    for gap in json.loads((project.evaluation / "differences.json").read_text()):
        assert f"−{100 * gap['difference']:.1f} ± {100 * gap['ci95']:.1f}" in table
    assert table.count("30 episodes") == 8 and "95% interval" in table
    assert table.count("p < 0.001") == 16 and "NLL 0.065, ECE 1.2%" in table and "worst tenth 83.5%" in table
    assert table.count("2 failed") == 1


def test_the_answer_names_both_rivals_and_the_labels_that_they_need(page):
    first, second = (text for _, text in page.all("p", **{"class": "sentence"}))
    assert "the best learner that has the labels of the task alone (from scratch" in first
    assert "which needs 8.7 labels a class (95% interval 6.2 to more than 15) for that" in first
    assert "Pre-trained on the same training classes" in second and "(new head)" in second


def test_labels_charts_have_every_learner_and_their_numbers(project, page):
    (any_classes, domain, ways), raw = (
        page.all("svg", **{"class": "xy"})[1:4],
        pd.read_csv(project.evaluation / "labels.csv"),
    )
    for (attrs, drawn), kind in ((any_classes, "any"), (domain, "domain")):
        own = raw[(raw["kind"] == kind) & (raw["learner"] == "protonet")]
        assert f"ProtoNet {100 * own['accuracy'].iloc[0]:.1f}%" in (attrs["aria-label"] or "")
        assert "8.7 labels" in drawn and "From scratch" in drawn and "New head" in drawn
    assert "all (24)" in ways[1]
    tables = " ".join(text for _, text in page.all("table"))
    for accuracy in raw["accuracy"]:
        assert f"{100 * accuracy:.1f}% (" in tables
    assert "1 2 3 7 12 by class" in tables and "more than 15 labels a class, 95% interval from 6.2" in tables


def test_trust_shows_calibration_before_and_after_and_how_far_estimates_lie(project, page):
    text = " ".join(text for _, text in page.all("section", id="trust"))
    rows = pd.read_csv(project.evaluation / "calibration.csv").query("setting == '5w1s'")
    for _, bins in rows.groupby("temperature"):
        ece = (bins["share"] * (bins["confidence"] - bins["accuracy"]).abs()).sum()
        assert f"calibration error {100 * ece:.2f}%" in text
    assert "3.1 ± 0.3%" in text and "2.1 points too low" in text and "holds the truth in 94% of the tasks" in text


def test_heat_map_map_confusions_and_nearness(project, page):
    domains = pd.read_csv(project.evaluation / "domains.csv").query("setting == '5w1s'")
    (_, heat), *_ = page.all("table", **{"class": "heat"})
    assert all(domain in heat for domain in domains["domain"]) and "Fine" not in heat
    places = pd.read_parquet(project.evaluation / "map.parquet")
    (_, found), *_ = page.all("section", id="classes")
    dots = [attrs for attrs, _ in page.all("i") if (attrs.get("style") or "").startswith("left")]
    pictures = [attrs for attrs, _ in page.all("img") if (attrs.get("style") or "").startswith("left")]
    assert (len(dots), len(pictures)) == tuple((places["split"] == split).sum() for split in ("train", "test"))
    assert "taken for it 9 of 30 times" in found
    near = pd.read_parquet(project.evaluation / "nearness.parquet")["relative"]
    assert f"within {near.median():.2f} of a training class" in found and f"{near.max():.2f}" in found


def test_a_better_head_on_the_same_embedding_is_said(tmp_path):
    project = make_project(tmp_path, 4, settings=("5w1s",))
    records = json.loads((project.evaluation / "differences.json").read_text())
    next(r for r in records if r["rival"] == "svm_embedded").update(difference=-0.02, ci95=0.01)
    put(project.evaluation / "differences.json", records)
    text = " ".join(text for _, text in Page(build(project)).all("p"))
    assert "Another head on the champion's own embedding is clearly better in 5-way 1-shot, any classes" in text


def test_studies_that_were_not_made_are_left_out(tmp_path):
    project = make_project(tmp_path, 4, settings=("5w1s",))
    for name in ("ways", "balance"):
        path = project.evaluation / f"{name}.csv"
        pd.read_csv(path).head(0).to_csv(path, index=False)
    put(project.evaluation / "labels_saved.json", [])
    put(project.evaluation / "estimates.json", {"tasks": 0})
    put(project.evaluation / "confusions.json", [])
    text = build(project)
    assert "too few examples to compare estimates" in text
    assert not any(words in text for words in ("More classes at a time", "Uneven labels", "Labels saved", "Taken for"))


def test_gallery_counts_equal_the_table(project, page):
    table = pd.read_parquet(project.evaluation / "gallery.parquet")
    queries = table[table["role"] == "query"]
    right = (queries["way"] == queries["predicted"]).groupby(queries["setting"], sort=False).agg(["sum", "size"])
    shown = [int(value) for tag, attrs, texts in page.elements if "data-right" in attrs for value in texts]
    assert shown == list(right["sum"])
    assert len(page.all("li", **{"class": "wrong"})) == int((right["size"] - right["sum"]).sum()) > 0
    assert len(page.all("li", **{"class": "right"})) == int(right["sum"].sum())


def test_wrong_answers_say_what_was_said_and_how_surely(project, page):
    table = pd.read_parquet(project.evaluation / "gallery.parquet")
    items = pd.read_parquet(project.dataset / "items.parquet")["class"]
    wrong = table[(table["role"] == "query") & (table["way"] != table["predicted"])].iloc[0]
    episode = table[(table["setting"] == wrong["setting"]) & (table["episode"] == wrong["episode"])]
    support = episode[episode["role"] == "support"].groupby("way")["row"].first()
    p = wrong["probabilities"]
    expected = (
        f"{items[wrong['row']]}: wrong, taken for {items[support[wrong['predicted']]]} "
        f"({100 * p[wrong['predicted']]:.0f}%); its own class got {100 * p[wrong['way']]:.0f}%"
    )
    assert expected in [attrs["alt"] for attrs, _ in page.all("img")]


def test_pictures_are_the_items(project, page):
    images = np.load(project.dataset / "images.npy")
    table = pd.read_parquet(project.evaluation / "gallery.parquet")
    support = [attrs for attrs, _ in page.all("img") if (attrs["alt"] or "").endswith(": support")]
    rows = table[table["role"] == "support"]["row"]
    assert len(support) == len(rows)
    for attrs, row in list(zip(support, rows, strict=True))[:40]:
        encoded = (attrs["src"] or "").removeprefix("data:image/png;base64,")
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded)))), images[row, ..., 0])


def test_for_keyboard_and_screen_reader(page):
    assert all(attrs.get("alt") is not None for attrs, _ in page.all("img"))
    assert all(attrs.get("scope") for attrs, _ in page.all("th"))
    assert all(attrs.get("aria-label") for attrs, _ in page.all("svg") if attrs.get("role") == "img")
    assert len(page.all("main")) == len(page.all("h1")) == len(page.all("nav")) == 1
    assert all(attrs.get("tabindex") == "0" and attrs.get("aria-label") for attrs, _ in page.all("div", role="region"))
    ids = [attrs["id"] for _, attrs, _ in page.elements if attrs.get("id")]
    assert len(ids) == len(set(ids))
    for attrs, _ in page.all("a"):
        assert (attrs["href"] or "").removeprefix("#") in ids


def test_provenance_and_handoff(project, page):
    code = {text for _, text in page.all("code")}
    assert DATA_HASH in code
    assert any("metaloom verify artifacts/bundle" in text for text in code)
    assert any("image_size: 28" in text for text in code), "settings come from dvc.lock"
    stages = [text for _, text in page.all("th", scope="rowgroup")]
    assert stages[-6:] == ["prepare", "split", "train@protonet", "train@maml", "evaluate", "export"]
    assert any(text == "88.4%" for _, text in page.all("p", **{"class": "big"}))
    assert sum("letter" in text for _, text in page.all("li")) >= 24


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


def test_settings_that_a_learner_has_no_figure_for(tmp_path):
    project = make_project(tmp_path, 4, settings=("5w1s", "5w5s"))
    raw = json.loads((project.metrics / "evaluation.json").read_text())
    del raw["logistic"]["5w5s"]
    raw["scratch"]["5w1s"].update(accuracy=float("nan"), ci95=float("nan"))
    put(project.metrics / "evaluation.json", raw)
    table = " ".join(text for _, text in Page(build(project)).all("table", **{"class": "figures"}))
    assert "not measured" in table and "nan" not in table.lower()


def test_what_was_left_out_is_listed_with_its_reason(tmp_path):
    project = make_project(tmp_path, 4, settings=("5w1s",))
    problems = {
        "unreadable": [{"source": f"Greek/a/{n}.png", "reason": "truncated"} for n in range(40)],
        "duplicate": [{"source": "Greek/b/2.png", "of": "Greek/b/1.png"}],
        "conflict": [{"sources": ["Greek/c/1.png", "Lao/c/1.png"]}],
        "small_class": [{"class": "Lao/q", "examples": 3}],
        "empty_class": ["Lao/empty"],
        "ignored": ["notes.txt"],
    }
    write_quality(project, 900, problems)
    lines = {text for _, text in Page(build(project)).all("li")}
    assert {
        "Greek/a/0.png: truncated",
        "Greek/b/2.png = Greek/b/1.png",
        "Greek/c/1.png = Lao/c/1.png",
    } <= lines
    assert {"Lao/q: 3 images", "Lao/empty", "notes.txt"} <= lines
    assert any("and 15 more" in line for line in lines)


def test_many_domains_of_large_colour_pictures_stay_small(tmp_path):
    project = make_project(tmp_path, 60, 6, settings=("5w1s", "20w5s", "20w5s_domain"), size=72, channels=3)
    rng = np.random.default_rng(0)
    shape = np.load(project.dataset / "images.npy", mmap_mode="r").shape
    np.save(project.dataset / "images.npy", rng.integers(0, 256, shape, dtype=np.uint8))  # noise: the worst case
    text = build(project)
    assert len(text.encode()) <= LARGEST
    page = Page(text)
    assert len(page.all("table", **{"class": "domains"})) == 1 and "Script 059" in text
    assert any("episode of 4" in text or "episodes of 4" in text for _, text in page.all("summary"))


@pytest.mark.parametrize(
    ("file", "made_by"),
    [
        ("metrics/evaluation.json", "evaluate"),
        ("artifacts/evaluation/gallery.parquet", "evaluate"),
        ("artifacts/evaluation/rivals.json", "evaluate"),
        ("artifacts/evaluation/labels.csv", "evaluate"),
        ("artifacts/evaluation/labels_saved.json", "evaluate"),
        ("artifacts/evaluation/calibration.csv", "evaluate"),
        ("artifacts/evaluation/estimates.parquet", "evaluate"),
        ("artifacts/evaluation/map.parquet", "evaluate"),
        ("artifacts/evaluation/domains.csv", "evaluate"),
        ("metrics/speed.json", "evaluate"),
        ("artifacts/splits/classes.parquet", "split"),
        ("artifacts/dataset/quality.json", "prepare"),
        ("artifacts/models/maml/metrics.json", "train@maml"),
        ("artifacts/models/maml/curves/plots/metrics/train/loss.tsv", "train@maml"),
        ("artifacts/bundle/metadata.json", "export"),
        ("artifacts/bundle/SHA256SUMS", "export"),
    ],
)
def test_missing_artifact_names_its_stage(project, tmp_path, file, made_by):
    root = tmp_path / "copy"
    shutil.copytree(project.root, root)
    moved = {name: root / path.relative_to(project.root) for name, path in vars(project).items() if name != "methods"}
    (root / file).unlink()
    with pytest.raises(MetaloomError, match=f"{file.split('/')[-1]} not found: `dvc repro {made_by}` makes it"):
        build(replace(project, **moved))


def test_quality_report_without_its_counts_is_refused(tmp_path):
    project = make_project(tmp_path, 4, settings=("5w1s",))
    put(project.dataset / "quality.json", {"images": 3})
    with pytest.raises(MetaloomError, match="quality.json lacks problems, used: `dvc repro -f prepare`"):
        build(project)


def test_gallery_of_another_data_set_is_refused(tmp_path):
    project = make_project(tmp_path, 4, settings=("5w1s",))
    table = pd.read_parquet(project.evaluation / "gallery.parquet")
    table.loc[3, "row"] = 10**6
    table.to_parquet(project.evaluation / "gallery.parquet", index=False)
    with pytest.raises(MetaloomError, match="shows row 1000000, but the data set has 960"):
        build(project)


def test_curves_without_finite_values(tmp_path):
    project = make_project(tmp_path, 4, settings=("5w1s",))
    write_curve(project.models / "maml", "train", "loss", [100, 200, 300], [2.0, "nan", 1.0])
    assert "Training loss of MAML: 2 at step 100, 1 at step 300" in build(project)
    write_curve(project.models / "maml", "train", "loss", [100], ["nan"])
    with pytest.raises(MetaloomError, match=r"loss.tsv has no finite value: .* train@maml"):
        build(project)
    write_curve(project.models / "maml", "train", "loss", [100], ["much"])
    with pytest.raises(MetaloomError, match=r"loss.tsv is no table of steps and values"):
        build(project)


def test_ticks_say_where_they_are():
    assert nice_ticks(0.655, 0.752) == [0.65, 0.675, 0.7, 0.725, 0.75, 0.775]
    plot = str(curve_plot([Curve([100, 200], [0.655, 0.752])], "", percent=True))
    assert "67.5%" in plot and "72.5%" in plot and ">68%" not in plot


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_ticks_enclose_the_values(low, span):
    ticks = nice_ticks(low, low + span)
    slack = 1e-6 * (abs(low) + span) + 1e-9
    assert ticks[0] <= low + slack and ticks[-1] >= low + span - slack
    assert 2 <= len(ticks) <= 7 and ticks == sorted(set(ticks))


def test_stage_writes_the_page_whole_or_not_at_all(tmp_path, monkeypatch, capsys):
    project = make_project(tmp_path, 4, settings=("5w1s",))
    shutil.copy(REPO / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    folders = [
        "artifacts/dataset",
        "artifacts/splits",
        "artifacts/models",
        "artifacts/evaluation",
        "artifacts/bundle",
    ]
    stage.main(*folders, "metrics", "report")
    made = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert made == build(project)
    assert "report/index.html" in capsys.readouterr().out
    (project.evaluation / "gallery.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(MetaloomError, match="gallery.parquet cannot be read"):
        stage.main(*folders, "metrics", "report")
    assert (tmp_path / "report" / "index.html").read_text(encoding="utf-8") == made


def test_torch_is_not_imported(project):
    code = (
        "import sys, metaloom.cli.report, metaloom.stages.report\n"
        "from metaloom.report.page import Inputs, build; from pathlib import PosixPath, WindowsPath\n"
        f"build({project!r})\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_command_says_where_the_page_is(tmp_path, monkeypatch, capsys):
    from metaloom.cli import report as report_commands

    monkeypatch.chdir(tmp_path)
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
