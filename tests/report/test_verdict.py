"""The last line of a run: whether the champion is worth it, and what to do next."""

from __future__ import annotations

import pandas as pd
import pytest
from test_report_results import rewrite

from metaloom.report.verdict import verdict


def of_training(small, **changes) -> None:
    rewrite(small.models / "protonet/metrics.json", lambda value: value.update(changes))


def far_apart(small, relative: float) -> None:
    path = small.evaluation / "nearness.parquet"
    pd.read_parquet(path).assign(relative=relative).to_parquet(path)


def test_the_champion_and_its_lead_over_what_one_would_do_otherwise(small):
    far_apart(small, 1.0)
    assert verdict(small).replace("\xa0", " ") == (
        "ProtoNet is right in 93.5% of 5-way 1-shot questions about classes that it has never seen, "
        "7.5 ± 1.0 points more than New head, the best without meta-learning. "
        "More classes would help most: it has learned from 48"
    )


@pytest.mark.parametrize(
    ("difference", "words"),
    [(-0.05, "5.0\xa0±\xa01.0 points less than New head"), (0.001, "which is not clearly different (+0.1")],
)
def test_a_champion_that_is_not_worth_it_says_so(small, difference, words):
    def change(value):
        for each in value:
            if each["rival"] == "finetune_head":
                each["difference"] = difference

    rewrite(small.evaluation / "differences.json", change)
    assert words in verdict(small)
    assert ("it is behind in 5-way 1-shot, 20-way 1-shot, 20-way 5-shot" in verdict(small)) == (difference < 0)


def test_what_to_do_next(small, project):
    plenty = pd.DataFrame({"split": ["train"] * 200})
    plenty.to_parquet(small.splits / "classes.parquet")
    far_apart(small, 1.0)
    assert verdict(small).endswith("`metaloom adapt --support FOLDER --out BUNDLE`")
    of_training(small, best_step=800)
    assert verdict(small).endswith("try `metaloom run --set protonet.steps=1600`")
    far_apart(small, 2.0)
    assert "Your test classes look like nothing in training (2.0 times as far)" in verdict(small)
    of_training(small, at_chance=True)
    assert "Its training loss stayed at chance: try a lower protonet.learning_rate" in verdict(small)
