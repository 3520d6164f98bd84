"""The figures and the sentence at the top."""

from __future__ import annotations

import json

import pytest
from made_up_project import put

from metaloom.errors import MetaloomError
from metaloom.report.sections.headline import hardest, headline
from metaloom.report.sections.results import load_results
from metaloom.report.words import points, setting_words, with_interval
from metaloom.system.plural import several


def rewrite(path, change):
    value = json.loads(path.read_text())
    change(value)
    put(path, value)


def test_headline_takes_the_first_setting_and_the_best_single_task_learner(small):
    raw = json.loads((small.evaluation / "figures.json").read_text())
    answer = headline(load_results(small))
    assert (answer.setting.name, answer.champion) == ("5w1s", "protonet")
    assert (
        answer.rival and answer.transfer and (answer.rival.name, answer.transfer.name) == ("scratch", "finetune_head")
    )
    assert answer.score.accuracy == raw["protonet"]["5w1s"]["accuracy"]
    gap = raw["protonet"]["5w1s"]["accuracy"] - raw["scratch"]["5w1s"]["accuracy"]
    ci95 = 0.8 * raw["scratch"]["5w1s"]["ci95"]
    assert answer.rival.verdict == f"{100 * gap:.1f}\xa0±\xa0{100 * ci95:.1f} points more than"


@pytest.mark.parametrize(
    ("difference", "ci95", "words"),
    [
        (0.012, 0.02, "not clearly different (+1.2\xa0±\xa02.0 points) from"),
        (-0.1, 0.02, "10.0\xa0±\xa02.0 points less than"),
        (0.442, None, "44.2 points more (30 episodes, no interval) than"),
        (0.442, 0.02, "44.2\xa0±\xa02.0 points more than"),
        (None, None, "to be compared with"),
    ],
)
def test_verdict_is_honest(small, difference, ci95, words):
    new = {"difference": difference, "ci95": ci95, "episodes": 30}

    def change(records):
        next(r for r in records if (r["setting"], r["rival"]) == ("5w1s", "scratch")).update(new)

    rewrite(small.evaluation / "differences.json", change)
    rival = headline(load_results(small)).rival
    assert rival is not None and rival.verdict == words
    assert rival.is_behind == (words == "44.2\xa0±\xa02.0 points more than"), "clearly, or nothing is to be caught up"


def test_no_single_task_learner(small):
    put(small.evaluation / "rivals.json", {})
    answer = headline(load_results(small))
    assert answer.rival is None and answer.transfer is None


def test_a_setting_that_the_champion_lacks_is_passed_over(small):
    nothing = {"accuracy": None, "ci95": None, "nll": None, "episodes": 0}
    rewrite(small.evaluation / "figures.json", lambda raw: raw["protonet"].update({"5w1s": nothing}))
    assert headline(load_results(small)).setting.name == "20w1s"


def test_hardest_setting(small):
    assert hardest(load_results(small)).name == "20w1s_domain"


@pytest.mark.parametrize("name", ["champion.json", "differences.json", "rivals.json", "learners.json"])
def test_missing_file_names_its_stage(small, name):
    (small.evaluation / name).unlink()
    with pytest.raises(MetaloomError, match=f"{name} not found: `dvc repro evaluate` makes it"):
        load_results(small)


def test_unexpected_format_is_refused(small):
    put(small.evaluation / "figures.json", {"protonet": {"5w1s": 0.9}})
    with pytest.raises(MetaloomError, match=r"figures.json is not in the expected format"):
        load_results(small)


def test_champion_without_figures_is_refused(small):
    put(small.evaluation / "champion.json", {"method": "reptile"})
    with pytest.raises(MetaloomError, match="the champion reptile has no figures"):
        load_results(small)


def test_numbers_as_written():
    assert with_interval(0.9612, 0.0043) == "96.1\xa0±\xa00.4%"
    assert with_interval(0.9996, 0.0002) == "99.96\xa0±\xa00.02%"
    assert with_interval(float("nan"), None) == "–"
    assert points(-0.031, 0.01) == "−3.1\xa0±\xa01.0"
    assert (several(1, "class", "classes"), several(1200, "class", "classes")) == ("1 class", "1,200 classes")
    assert setting_words("20w5s_domain").full == "20-way 5-shot, within one domain"
