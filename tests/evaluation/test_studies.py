"""Studies of learners whose accuracy is known by construction."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from metaloom.config import StudySettings
from metaloom.evaluation.figures import Answers
from metaloom.evaluation.shown import confusions
from metaloom.evaluation.studies import balance_rows, label_rows, labels_saved, way_rows
from metaloom.evaluation.tables import (
    Everyone,
    calibration_rows,
    differences,
    domain_rows,
    episode_rows,
    rivals,
    summarise,
)
from metaloom.tasks import EpisodeTable

SETTINGS = StudySettings(
    kinds=["any"],
    episodes=20,
    n_way=3,
    labels=[1, 2, 4],
    uneven=[1, 1, 4],
    ways=[2],
    estimates={"tasks": 1, "n_shot": 2},  # type: ignore[arg-type]
)
CURVES = {
    "protonet": (0.9, 1.0, 1.0),
    "scratch": (0.3, 0.6, 0.9),
    "svm": (0.4, 0.5, 0.6),
    "finetune_head": (0.8, 0.9, 1.0),
}
GROUPS = {"protonet": "meta", "scratch": "task", "svm": "task", "finetune_head": "transfer"}


def of_accuracy(share: float, ways: int = 3, episodes: int = 20, queries: int = 10) -> Answers:
    """In every episode the first so many queries of each way are right."""
    rows = np.arange(episodes * ways * (1 + queries)).reshape(episodes, ways, -1)
    table = EpisodeTable(rows[:, :, :1], rows[:, :, 1:])
    right = np.tile(np.arange(queries) < round(share * queries), ways)
    said = np.where(right, table.answers, (table.answers + 1) % ways)
    log_p = np.log(np.where(np.eye(ways)[said] == 1, 0.8, 0.2 / (ways - 1)))
    return Answers(np.broadcast_to(log_p, (episodes, *log_p.shape)).copy(), table)


@pytest.fixture
def everyone() -> Everyone:
    answers = {}
    for name, curve in CURVES.items():
        own = {f"labels/any/{shots}": of_accuracy(share) for shots, share in zip((1, 2, 4), curve, strict=True)}
        own |= {
            "uneven/any": of_accuracy(curve[0]),
            "ways/2/x": of_accuracy(curve[0], 2),
            "ways/2/y": of_accuracy(1.0, 2),
        }
        own |= {"ways/all/x": of_accuracy(0.5, 3), "ways/all/y": of_accuracy(0.5, 5), "3w1s": own["labels/any/1"]}
        answers[name] = own
    return Everyone(answers, GROUPS, "protonet", 200, np.arange(2000) // 11)


def test_label_curves(everyone):
    rows = label_rows(everyone, SETTINGS)
    for name, curve in CURVES.items():
        assert rows[rows["learner"] == name]["accuracy"].tolist() == pytest.approx(curve)
    assert rows["n_shot"].tolist() == [1, 2, 4] * 4 and (rows["episodes"] == 20).all()


def test_labels_saved_name_the_learner_that_needs_the_fewest(everyone):
    found = {(each["n_shot"], each["against"]): each for each in labels_saved(everyone, SETTINGS)}
    assert set(found) == {(1, "task"), (1, "transfer")}
    task, transfer = found[1, "task"], found[1, "transfer"]
    assert (task["rival"], task["labels"], task["most"]) == ("scratch", pytest.approx(4.0), 4)
    assert (transfer["rival"], transfer["labels"]) == ("finetune_head", pytest.approx(2.0))
    assert transfer["low95"] == pytest.approx(2.0) == transfer["high95"]  # every episode is alike
    everyone.answers["scratch"]["labels/any/4"] = of_accuracy(0.8)  # type: ignore[index]
    never = {(e["n_shot"], e["against"]): e for e in labels_saved(everyone, SETTINGS)}[1, "task"]
    assert never["labels"] is None and never["low95"] is None and never["high95"] is None


def test_labels_saved_by_a_rival_of_few_episodes_have_no_interval(everyone):
    for shots, share in zip((1, 2, 4), CURVES["scratch"], strict=True):
        everyone.answers["scratch"][f"labels/any/{shots}"] = of_accuracy(share, episodes=3)  # type: ignore[index]
    few = {(e["n_shot"], e["against"]): e for e in labels_saved(everyone, SETTINGS)}[1, "task"]
    assert (few["rival"], few["labels"]) == ("scratch", pytest.approx(4.0))
    assert few["low95"] is None and few["high95"] is None


def test_ways_put_the_domains_together(everyone):
    rows = way_rows(everyone, SETTINGS)
    two = rows[(rows["learner"] == "svm") & (rows["n_way"] == "2")].iloc[0]
    assert two["accuracy"] == pytest.approx(0.7) and two["episodes"] == 40
    every = rows[(rows["learner"] == "svm") & (rows["n_way"] == "all")].iloc[0]
    assert every["mean_ways"] == 4 and every["accuracy"] == pytest.approx(0.5)


def test_balance(everyone):
    rows = balance_rows(everyone, SETTINGS).set_index(["learner", "balance"])
    assert rows.loc[("scratch", "even"), "accuracy"] == pytest.approx(0.6)  # two labels each
    assert rows.loc[("scratch", "uneven"), "accuracy"] == pytest.approx(0.3)
    assert rows.loc[("scratch", "uneven"), "shots"] == "1 1 4"
    assert rows.loc[("scratch", "uneven"), "fewest"] == pytest.approx(0.3)


def test_rivals_and_differences(everyone):
    best = rivals(everyone, ["3w1s"])
    assert best == {"3w1s": {"task": "svm", "transfer": "finetune_head"}}
    records = {(each["learner"], each["rival"]): each for each in differences(everyone, ["3w1s"], best)}
    assert set(records) == {("protonet", name) for name in ("scratch", "svm", "finetune_head")}
    assert records["protonet", "svm"]["difference"] == pytest.approx(0.5)
    assert (
        records["protonet", "svm"]["p_holm"] == pytest.approx(1 / 201)
        and records["protonet", "scratch"]["p_holm"] is None
    )


def test_p_values_are_corrected_for_the_number_of_comparisons(everyone):
    found = differences(everyone, ["3w1s", "3w1s"], rivals(everyone, ["3w1s"]))
    assert [each["p_holm"] for each in found if each["rival"] == "svm"] == pytest.approx([2 / 201, 2 / 201])


def test_tables_of_the_settings(everyone):
    summary = summarise(everyone, ["3w1s"])
    assert summary["svm"]["3w1s"]["accuracy"] == pytest.approx(0.4) and summary["svm"]["3w1s"]["ece"] == pytest.approx(
        0.4
    )
    assert len(episode_rows(everyone, ["3w1s"])) == 80
    rows = calibration_rows(everyone, ["3w1s"], {"protonet": everyone.answers["protonet"]})
    assert set(rows["temperature"]) == {"before", "after"}
    assert rows.groupby(["learner", "temperature"])["share"].sum().tolist() == pytest.approx([1.0] * 5)


@pytest.mark.parametrize("name", ["svm", "finetune_head", "protonet"])
def test_a_learner_that_fails_every_episode_has_no_figures_and_stops_nobody(name, everyone):
    whole = domain_rows(everyone, ["3w1s"], pd.Series("x", index=range(660)))
    for answers in everyone.answers[name].values():
        answers.log_p[:] = np.nan
    domains = domain_rows(everyone, ["3w1s"], pd.Series("x", index=range(660)))
    pd.testing.assert_frame_equal(domains, whole[whole["learner"] != name].reset_index(drop=True))
    assert summarise(everyone, ["3w1s"])[name]["3w1s"]["failed"] == 20
    best = rivals(everyone, ["3w1s"])
    assert name not in best["3w1s"].values()
    assert all(each["episodes"] == 0 for each in differences(everyone, ["3w1s"], best) if name in each.values())
    assert episode_rows(everyone, ["3w1s"]).groupby("learner")["failed"].sum()[name] == 20
    assert name not in set(calibration_rows(everyone, ["3w1s"], {})["learner"])
    for rows in (label_rows(everyone, SETTINGS), way_rows(everyone, SETTINGS), balance_rows(everyone, SETTINGS)):
        assert rows.set_index("learner").loc[name, "accuracy"].isna().all()
    saved = labels_saved(everyone, SETTINGS)
    assert not any(each["labels"] is not None for each in saved if name in (each["learner"], each["rival"]))
    assert name == "protonet" or confusions(everyone.answers["protonet"], ["3w1s"], ["c"] * 660) == []


def test_confusions_are_those_of_a_plain_double_loop():
    rng = np.random.default_rng(0)
    ways = np.stack([rng.permutation(5)[:3] for _ in range(12)])
    rows = ways[:, :, None] * 10 + rng.integers(0, 10, (12, 3, 5))
    answers = Answers(np.log(rng.dirichlet(np.ones(3), (12, 12))), EpisodeTable(rows[:, :, :1], rows[:, :, 1:]))
    class_of = [f"c{row // 10}" for row in range(50)]
    wrong, asked = {}, {}
    for episode, own in enumerate(ways):
        for query, way in enumerate(answers.table.answers):
            for other in own:
                asked[own[way], other] = asked.get((own[way], other), 0) + 1
            said = own[answers.log_p[episode, query].argmax()]
            wrong[own[way], said] = wrong.get((own[way], said), 0) + 1
    found = confusions({"s": answers}, ["s"], class_of)
    assert found and all(each["true"] != each["said"] for each in found)
    for each in found:
        pair = int(each["true"][1]), int(each["said"][1])
        assert (each["wrong"], each["asked"]) == (wrong[pair], asked[pair])
        assert class_of[each["row_true"]] == each["true"] and class_of[each["row_said"]] == each["said"]
    assert [each["wrong"] for each in found] == sorted((each["wrong"] for each in found), reverse=True)
