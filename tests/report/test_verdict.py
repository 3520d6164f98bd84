"""The last line of a run: whether the champion is worth it, and what to do next."""

from __future__ import annotations

from html import unescape

import pandas as pd
import pytest
from test_report_results import rewrite

from metaloom.report.page import build
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


def test_a_difference_over_fewer_episodes_than_the_accuracy_says_which(small):
    """Else 64.0% and 61.3%, and a difference of −3.8 points between them, contradict each other."""
    shared = "on the 8 episodes that both answered"
    assert shared not in verdict(small) + build(small)
    rewrite(small.evaluation / "differences.json", lambda raw: [each.update(episodes=8) for each in raw])
    assert f"New head, the best without meta-learning {shared}" in verdict(small)
    assert f"more than that {shared}." in " ".join(build(small).replace("\xa0", " ").split())


SAME = "± 1.0 for other questions about the same"


@pytest.mark.parametrize(("classes", "few"), [(9, True), (100, False)])
def test_few_test_classes_have_an_interval_over_classes_too(small, classes, few):
    """What is clear over episodes alone is not clear, and what each margin is of is said."""
    far_apart(small, 1.0)
    over = {"classes": classes, "classes_low95": 0.71, "classes_high95": 0.99}
    rewrite(
        small.evaluation / "figures.json", lambda raw: [s.update(over) for own in raw.values() for s in own.values()]
    )
    rewrite(small.evaluation / "differences.json", lambda raw: [each.update(classes_ci95=0.2) for each in raw])
    said = verdict(small).replace("\xa0", " ")
    assert ("(of other classes 71.0 to 99.0%: only 9 were asked about)" in said) == few
    unclear = f"is not clearly different (+7.5 points, ± 20.0 for other classes, {SAME} ones) from New head"
    assert (unclear in said) == few
    assert ("questions about classes that it has never seen, 7.5 ± 1.0 points more than New head" in said) == (not few)
    page = build(small)
    assert ("for other classes of this sort the 95% interval is <strong>71.0 to 99.0%</strong>" in page) == few
    assert ('<span class="fine">71.0 to 99.0%</span>' in page) == few


@pytest.mark.parametrize(
    ("over_classes", "words"),
    [
        (None, f"which is not clearly different (+7.5 points, {SAME} classes, too few to tell about others) from"),
        (0.02, f"7.5 points (± 2.0 for other classes, {SAME} ones) more than"),
    ],
)
def test_classes_too_few_for_an_interval_over_them_make_nothing_clear(small, over_classes, words):
    two = {"classes": 2, "classes_low95": None, "classes_high95": None}
    rewrite(
        small.evaluation / "figures.json", lambda raw: [s.update(two) for own in raw.values() for s in own.values()]
    )
    rewrite(small.evaluation / "differences.json", lambda raw: [each.update(classes_ci95=over_classes) for each in raw])
    said = verdict(small).replace("\xa0", " ")
    assert f"(only 2 classes were asked about, too few to tell about others), {words} New head" in said


def test_the_report_says_it_at_its_top(small):
    far_apart(small, 1.0)
    of_training(small, best_step=800)
    (small.splits / "classes.parquet").write_bytes(many(small))
    page = build(small)
    top = page[page.index('class="hero"') : page.index('id="results"')]
    said = verdict(small)
    assert said.split(" `")[0] in unescape(top)
    assert "<code>metaloom run --set protonet.steps=1600</code>" in top


def many(small) -> bytes:
    """A class table in which the verdict finds enough training classes."""
    classes = pd.read_parquet(small.splits / "classes.parquet")
    return pd.concat([classes, *[classes[classes["split"] == "train"]] * 3]).to_parquet()


def test_what_to_do_next(small, project):
    plenty = pd.DataFrame({"split": ["train"] * 200})
    plenty.to_parquet(small.splits / "classes.parquet")
    far_apart(small, 1.0)
    assert verdict(small).endswith("`metaloom adapt --support FOLDER --out BUNDLE`")
    of_training(small, best_step=800)
    assert verdict(small).endswith("try `metaloom run --set protonet.steps=1600`")
    (small.models / "protonet/read.json").write_text("{}")
    assert verdict(small).endswith("It was still getting better: try a larger train.start_steps")
    far_apart(small, 2.0)
    assert "Your test classes look like nothing in training (2.0 times as far)" in verdict(small)
    of_training(small, at_chance=True)
    assert "Its training loss stayed at chance: try a lower protonet.learning_rate" in verdict(small)
