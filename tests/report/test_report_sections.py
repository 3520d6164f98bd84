"""What the parts of the page say, beside the artifacts that they are made from."""

from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from made_up_project import DATA_HASH, make_project, put, write_quality
from page_parser import Page
from PIL import Image

from metaloom.report.page import build
from metaloom.report.sections.figures import MEASURES
from metaloom.report.sections.labels import POINT, _balance, labels
from metaloom.report.sections.results import load_results


def shown(page, measure: str) -> Counter:
    """The cells of the figures table as they are while it shows a measure."""
    return Counter(text for attrs, text in page.all("span", **{"class": measure}) if text != MEANING[measure])


MEANING = {measure.name: measure.meaning for measure in MEASURES}


def test_headline_and_every_figure_with_its_interval(project, page):
    raw = json.loads((project.evaluation / "figures.json").read_text())
    first = raw["protonet"]["5w1s"]
    (_, title), *_ = page.all("h1")
    assert f"{100 * first['accuracy']:.1f}%" in title and f"± {100 * first['ci95']:.1f}" in title
    every = [figures for by_setting in raw.values() for figures in by_setting.values()]
    assert shown(page, "accuracy") == Counter(
        f"{100 * each['accuracy']:.1f} ± {100 * each['ci95']:.1f}%" for each in every
    )
    assert shown(page, "worst") == Counter(f"{100 * each['worst_decile']:.1f}%" for each in every)
    assert shown(page, "nll") == Counter(f"{each['nll']:.3f}" for each in every)
    assert shown(page, "ece") == Counter(f"{100 * each['ece']:.1f}%" for each in every)
    answered = Counter(
        f"n = {each['episodes']}" + (f"{each['failed']} failed" if each["failed"] else "") for each in every
    )
    assert shown(page, "episodes") == answered and answered["n = 2002 failed"] == 1


def test_every_distance_from_the_champion_with_its_interval(project, page):
    gaps = json.loads((project.evaluation / "differences.json").read_text())
    expected = Counter(
        f"−{100 * gap['difference']:.1f} ± {100 * gap['ci95']:.1f}" + ("p < 0.001" if gap["p_holm"] else "")
        for gap in gaps
    )
    found = shown(page, "behind")
    assert found.pop("–") == 8, "the champion itself, in each setting"
    assert found == expected


def test_one_best_learner_for_each_setting_and_measure(project, page):
    raw = json.loads((project.evaluation / "figures.json").read_text())
    best = Counter(text for _, text in page.all("span", **{"class": "best"}))
    for setting in raw["protonet"]:
        assert best[f"{min(row[setting]['nll'] for row in raw.values()):.3f}"] == 1, "lower is better"
        assert best[f"{100 * max(row[setting]['worst_decile'] for row in raw.values()):.1f}%"] >= 1
    assert sum(best.values()) == 4 * 8, "accuracy, worst tenth, NLL, calibration error"


def test_csv_has_every_figure_unrounded(project, page):
    (link,) = [attrs for attrs, _ in page.all("a") if attrs.get("download")]
    kind, _, content = (link["href"] or "").partition("base64,")
    assert kind == "data:text/csv;charset=utf-8;" and link["download"] == "metaloom-figures.csv"
    table = pd.read_csv(io.BytesIO(base64.b64decode(content))).set_index(["learner", "setting"])
    raw = json.loads((project.evaluation / "figures.json").read_text())
    assert len(table) == sum(map(len, raw.values()))
    for learner, setting in table.index:
        row, own = table.loc[(learner, setting)], raw[learner][setting]
        for name in ("accuracy", "ci95", "nll", "ece", "worst_decile", "episodes", "failed"):
            assert row[name] == own[name], (learner, setting, name)
        assert row["within_domain"] == setting.endswith("_domain") and row["champion"] == (learner == "protonet")
    for gap in json.loads((project.evaluation / "differences.json").read_text()):
        row = table.loc[(gap["rival"], gap["setting"])]
        assert (-row["difference"], row["difference_ci95"]) == (gap["difference"], gap["ci95"])


def test_too_few_episodes_for_an_interval(small):
    """Where evaluation has no interval, the number stands alone, and the table says why when asked."""
    few = {"ci95": None, "low95": None, "high95": None}
    scores = json.loads((small.evaluation / "figures.json").read_text())
    for learner in ("protonet", "scratch"):
        scores[learner]["5w1s"] |= few | {"episodes": 3}
    put(small.evaluation / "figures.json", scores)
    gaps = json.loads((small.evaluation / "differences.json").read_text())
    next(gap for gap in gaps if (gap["setting"], gap["rival"]) == ("5w1s", "scratch")).update(few | {"episodes": 3})
    put(small.evaluation / "differences.json", gaps)
    saved = json.loads((small.evaluation / "labels_saved.json").read_text())
    put(small.evaluation / "labels_saved.json", [each | {"low95": None, "high95": None} for each in saved])
    estimates = json.loads((small.evaluation / "estimates.json").read_text())
    put(small.evaluation / "estimates.json", estimates | {"low95": None, "high95": None})
    for name in ("labels", "ways", "balance", "domains"):
        path = small.evaluation / f"{name}.csv"
        pd.read_csv(path).assign(low95=None, high95=None, episodes=3).to_csv(path, index=False)
    text = build(small)
    page = Page(text)
    (_, title), *_ = page.all("h1")
    _, other = (text for _, text in page.all("p", **{"class": "sentence"}))
    assert "±" not in title and "50.5 points more (3 episodes, no interval) than" in other
    assert "catch up" not in other, "a lead that is not clear leaves nothing to catch up with"
    assert [attrs["title"] for attrs, _ in page.all("abbr")] == ["n = 3, no interval"] * 2
    assert shown(page, "episodes")["n = 3no interval"] == 2
    assert "<td>more than 15 (no interval from 3 episodes)</td>" in text and "3.1%" in text
    assert "<td>8.7 (no interval from 3 episodes)</td>" in text and "8.7 examples" not in text
    (chart, *_) = page.all("svg", **{"class": "dots"})
    assert "ProtoNet 93.5%; MAML 90.2\xa0±\xa01.2%" in (chart[0]["aria-label"] or "")
    assert not page.all("line", **{"class": "thin"}), "whiskers of studies"
    ((_, words),) = page.all("main")
    assert not re.search(r"\bnan\b|\bNone\b(?!:)|– to –", words)


def test_the_answer_names_both_rivals_and_the_labels_that_they_need(page):
    """First the gain over the best of what one would do otherwise; the other in smaller words."""
    best, other = (text for _, text in page.all("p", **{"class": "sentence"}))
    assert (
        "(new head, " in best and "pre-trained on the same training classes" in best and "the best alternative" in best
    )
    assert "the best learner that has only these examples (from scratch" in other and "For comparison" in other
    needs = "needs 8.7 labelled examples per class (95% interval 6.2 to more than 15)"
    assert f"In the studies the quickest of them to catch up (from scratch) {needs} to be as accurate as" in other
    assert "(new head) needs" in best


@pytest.mark.parametrize(
    ("changes", "episodes", "said"),
    [
        (
            {"low95": 6.2},
            20,
            "In the studies the quickest of them to catch up .from scratch. needs 8.7 labelled examples",
        ),
        ({"labels": None, "low95": None}, 20, "In the studies the quickest of .* needs more than 15 labelled examples"),
        ({"low95": 0.9}, 20, "Whether that saves labelled examples cannot be told: .* interval 1 to more than 15"),
        ({"low95": None}, 3, "cannot be told: the quickest of them .from scratch. answered 3 episodes of the studies"),
        (
            {"labels": None, "low95": None},
            3,
            "cannot be told: the quickest of them .from scratch. answered 3 episodes of the studies",
        ),
    ],
)
def test_labelled_examples_are_saved_where_an_interval_says_so(small, changes, episodes, said):
    """The chart, the table and the sentence agree: none of them counts on what 2 or 3 episodes gave."""
    saved = json.loads((small.evaluation / "labels_saved.json").read_text())
    put(small.evaluation / "labels_saved.json", [each | changes for each in saved])
    path = small.evaluation / "labels.csv"
    pd.read_csv(path).assign(episodes=episodes).to_csv(path, index=False)
    found = labels(small, load_results(small))
    task = found.of("any", 1, "task")
    assert task is not None and re.search(said, task.told(few_classes=False))
    charts = "".join(chart for _, chart, _ in found.panels)
    assert ("8.7 examples" in charts or "over 15" in charts) == said.startswith("In the studies")
    assert ("no interval from 3 episodes" in task.brief) == (episodes < 20)
    assert task.told(few_classes=True).endswith(", for these classes") == said.startswith("In the studies")


def test_where_one_kind_of_classes_was_asked_about_no_two_are_told_apart(tmp_path):
    """All test classes may be of one domain: then any classes are classes of one domain, and the page says neither."""
    project = make_project(tmp_path, n_domains=4, n_classes=3, settings=("3w1s",), single_task=("logistic",))
    for name in ("labels", "domains"):
        path = project.evaluation / f"{name}.csv"
        table = pd.read_csv(path)
        table[table["kind"] == "any" if name == "labels" else table["domain"] == table["domain"][0]].to_csv(path)
    text = build(project)
    assert "any classes" not in text and "any domain" not in text and "By domain" not in text
    assert "By labelled examples per class" in text


def test_labels_charts_have_every_learner_and_their_numbers(project, page):
    (any_classes, domain, ways), raw = (
        page.all("svg", **{"class": "xy"})[1:4],
        pd.read_csv(project.evaluation / "labels.csv"),
    )
    for (attrs, drawn), kind in ((any_classes, "any"), (domain, "domain")):
        own = raw[(raw["kind"] == kind) & (raw["learner"] == "protonet")]
        assert f"ProtoNet {100 * own['accuracy'].iloc[0]:.1f}%" in (attrs["aria-label"] or "")
        assert "8.7 examples" in drawn and "From scratch" in drawn and "New head" in drawn
    assert "all (24)" in ways[1]
    tables = " ".join(text for _, text in page.all("table"))
    for accuracy in raw["accuracy"]:
        assert f"{100 * accuracy:.1f}% (" in tables
    assert "(1 2 3 7 12)" in tables
    assert "more than 15 (95% interval from 6.2)" in tables


def test_trust_shows_calibration_before_and_after_and_how_far_estimates_lie(project, page):
    text = " ".join(text for _, text in page.all("section", id="trust"))
    rows = pd.read_csv(project.evaluation / "calibration.csv")
    rows = rows[(rows["learner"] == project.methods[0]) & (rows["setting"] == "5w1s")]
    for _, bins in rows.groupby("temperature"):
        ece = (bins["share"] * (bins["confidence"] - bins["accuracy"]).abs()).sum()
        assert f"calibration error {100 * ece:.2f}%" in text
    assert (
        "3.1 ± 0.3%" in text
        and "2.1 points too low" in text
        and "contains the true accuracy in 94% of the tasks" in text
    )


def test_heat_map_map_confusions_and_nearness(project, page):
    domains = pd.read_csv(project.evaluation / "domains.csv").query("setting == '5w1s'")
    (_, heat), *_ = page.all("table", **{"class": "heat"})
    assert all(domain in heat for domain in domains["domain"]) and "Fine" not in heat
    places = pd.read_parquet(project.evaluation / "map.parquet")
    (_, found), *_ = page.all("section", id="classes")
    dots = [attrs for attrs, _ in page.all("i") if (attrs.get("style") or "").startswith("left")]
    pictures = [attrs for attrs, _ in page.all("img") if (attrs.get("style") or "").startswith("left")]
    assert (len(dots), len(pictures)) == tuple((places["split"] == split).sum() for split in ("train", "test"))
    assert "confused 9 of 30 times" in found
    near = pd.read_parquet(project.evaluation / "nearness.parquet")["relative"]
    assert f"within {near.median():.2f} of a training class" in found and f"{near.max():.2f}" in found


def test_a_better_head_on_the_same_embedding_is_said(small):
    records = json.loads((small.evaluation / "differences.json").read_text())
    next(r for r in records if r["rival"] == "svm_embedded").update(difference=-0.02, ci95=0.01)
    put(small.evaluation / "differences.json", records)
    text = " ".join(text for _, text in Page(build(small)).all("p"))
    assert "Another head on the champion's embedding is clearly better in 5-way 1-shot" in text


def test_studies_that_were_not_made_are_left_out(small):
    for name in ("ways", "balance"):
        path = small.evaluation / f"{name}.csv"
        pd.read_csv(path).head(0).to_csv(path, index=False)
    put(small.evaluation / "labels_saved.json", [])
    put(small.evaluation / "estimates.json", {"tasks": 0})
    put(small.evaluation / "confusions.json", [])
    text = build(small)
    assert "too few examples to check estimates" in text
    assert not any(
        words in text for words in ("More classes per task", "Uneven examples", "examples saved", "Most often")
    )


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
    images = np.load(project.dataset / "examples.npy")
    table = pd.read_parquet(project.evaluation / "gallery.parquet")
    support = [attrs for attrs, _ in page.all("img") if (attrs["alt"] or "").endswith(": support")]
    rows = table[table["role"] == "support"]["row"]
    assert len(support) == len(rows)
    for attrs, row in list(zip(support, rows, strict=True))[:40]:
        encoded = (attrs["src"] or "").removeprefix("data:image/png;base64,")
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded)))), images[row, ..., 0])


def test_provenance_and_handoff(project, page):
    code = {text for _, text in page.all("code")}
    assert DATA_HASH in code
    assert any("metaloom verify artifacts/bundle" in text for text in code)
    assert any("image_size: 28" in text for text in code), "settings come from dvc.lock"
    stages = [text for _, text in page.all("th", scope="rowgroup")]
    assert stages[-6:] == ["prepare", "split", "train@protonet", "train@maml", "evaluate", "export"]
    assert any(text == "88.4%" for _, text in page.all("p", **{"class": "big"}))
    assert sum("letter" in text for _, text in page.all("li")) >= 24


def test_settings_that_a_learner_has_no_figure_for(small):
    raw = json.loads((small.evaluation / "figures.json").read_text())
    del raw["logistic"]["20w1s"]
    raw["scratch"]["5w1s"].update(accuracy=float("nan"), ci95=float("nan"))
    put(small.evaluation / "figures.json", raw)
    table = " ".join(text for _, text in Page(build(small)).all("table", **{"class": "figures"}))
    assert "not measured" in table and "nan" not in table.lower()


def test_what_was_left_out_is_listed_with_its_reason(small):
    problems = {
        "unreadable": [{"source": f"Greek/a/{n}.png", "reason": "is truncated"} for n in range(40)],
        "duplicate": [{"source": "Greek/b/2.png", "of": "Greek/b/1.png"}],
        "conflict": [{"sources": ["Greek/c/1.png", "Lao/c/1.png"]}],
        "small_class": [{"class": "Lao/q", "examples": 3}],
        "empty_class": ["Lao/empty"],
        "ignored": ["notes.txt"],
    }
    write_quality(small, 900, problems)
    lines = {text for _, text in Page(build(small)).all("li")}
    assert {
        "Greek/a/0.png is truncated",
        "Greek/b/2.png = Greek/b/1.png",
        "Greek/c/1.png = Lao/c/1.png",
    } <= lines
    assert {"Lao/q: 3 usable", "Lao/empty", "notes.txt"} <= lines
    assert any("and 15 more" in line for line in lines)


def test_classes_that_were_shared_out_one_by_one(small):
    classes = pd.read_parquet(small.splits / "classes.parquet")
    domain = classes["domain"].iloc[0]
    classes.loc[classes.index[0], "split"] = "test"
    classes.to_parquet(small.splits / "classes.parquet", index=False)
    quality = json.loads((small.dataset / "quality.json").read_text())
    put(small.dataset / "quality.json", quality | {"notes": ["mine has <the same> classes"]})
    page = Page(build(small))
    texts = [text for _, text in page.all("p")]
    assert any("Classes are shared out one by one, so a domain can be in several splits." in text for text in texts)
    assert "Mine has <the same> classes." in texts
    assert [text for _, text in page.all("th", scope="row")].count(domain) >= 2
    assert any("whole" in text or "stretched to one" in text for text in texts)


def test_what_was_fitted_to_the_data_is_listed_once(page):
    said = [text for _, text in page.all("li") if "3 ways of your 4 classes" in text]
    assert said == ["episodes: 3 ways of your 4 classes"]


def test_what_the_network_sees_stands_beside_what_came(small, text):
    part = text[text.index("What the network sees") : text.index("Every domain with its split")]
    assert "900 × 400" in part and part.count("<img") == 2 and "28 × 28 pixels in grey" in part
    (small.dataset / "preview.json").unlink()
    assert "What the network sees" not in build(small)


def test_figures_of_few_episodes_are_marked_under_uneven_examples():
    columns = ["learner", "balance", *POINT, "fewest", "most"]
    rows = [("protonet", "even", 0.9, 0.8, 0.95, 40, 0.9, 0.9), ("scratch", "even", 0.5, np.nan, np.nan, 3, 0.5, 0.5)]
    many, few = _balance(pd.DataFrame(rows, columns=columns))
    assert many.even.startswith("90.0% (80.0") and "n =" not in many.even
    assert few.even == "50.0% (n = 3, no interval)"


def test_where_times_are_of_another_run_sizes_are_shown_alone(small):
    """They stand beside the outputs, and name the result that they were measured on."""
    assert "examples/s" in build(small) and "Time to adapt against accuracy" in build(small)
    figures = small.evaluation / "figures.json"
    figures.write_text(figures.read_text() + "\n")
    for method in small.methods:
        (small.models / method / "model.safetensors").write_text("trained again")
    text = build(small)
    assert "examples/s" not in text and "Time to adapt against accuracy" not in text
    page = Page(text)
    assert "metaloom run --force" in " ".join(told for _, told in page.all("caption"))
    assert "437.5 KiB" in text or "448.0 kB" in text or "448 kB" in text
