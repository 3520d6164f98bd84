"""Two versions answer the same fresh episodes."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from projects import REPO, run_here
from typer.testing import CliRunner

from metaloom.cli.app import app
from metaloom.cli.judge import before_promotion
from metaloom.errors import MetaloomError
from metaloom.judging import judge
from metaloom.judging.asking import _in_time
from metaloom.judging.forgetting import _pool
from metaloom.judging.process import _sides
from metaloom.judging.questions import pool
from metaloom.judging.records import judgement_of, moved, read_ledger
from metaloom.judging.side import Side
from metaloom.planning.deployment import draw_task
from metaloom.versioning.paths import Outputs
from metaloom.versioning.revisions import Revision

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def versions(make_versions):
    """v0.0.1 sees, v0.0.2 is blind, and HEAD sees as v0.0.1 does."""
    made = make_versions()
    made.commit("v0.0.1")
    made.commit("v0.0.2", blind=True)
    made.commit()
    return made


def test_a_better_one_is_better_and_its_evidence_is_plain(versions):
    found = judge(versions.root, "v0.0.2", "v0.0.1", now=NOW, note=False, names=("v0.0.2", "the new model"))
    assert found.outcome == "better" and found.promotes
    assert found.message.startswith("the new model is better than v0.0.2: +")
    told = json.loads(json.dumps(found.evidence))
    assert 0 < told["low"] <= told["low95"] < told["gain"] < told["high95"] <= told["high"]
    assert [each["domain"] for each in told["domains"]] == ["c", "d"]
    assert told["challenger"]["novelty_auroc"] > 0.6 > 0.55 > told["champion"]["novelty_auroc"]
    assert told["challenger"]["accuracy"] - told["champion"]["accuracy"] == pytest.approx(told["gain"], abs=1e-4)
    assert told["alpha"] == pytest.approx(0.05 / 365) and read_ledger(versions.root) == []


def test_the_same_two_get_the_same_answers_and_spend_nothing_again(versions):
    first = judge(versions.root, "v0.0.1", "v0.0.2", now=NOW)
    assert first.outcome == "worse" and not first.promotes
    second = judge(versions.root, "v0.0.1", "v0.0.2", now=NOW + timedelta(days=40))
    assert {**second.evidence, "seconds": 0} == {**first.evidence, "seconds": 0}
    (entry,) = read_ledger(versions.root)
    assert (entry.outcome, entry.alpha, entry.when) == ("worse", first.evidence["alpha"], NOW)
    assert judgement_of(versions.root, "v0.0.1", "v0.0.2") == entry
    assert run_here(versions.root, "git", "log", "-1", "--notes=judge", "handoff@v0.0.2").stdout.count("judged: ") == 2


def test_the_same_files_under_another_commit_are_asked_the_same_and_keep_their_line(versions):
    """As a retraining's: its message says what the judge has said."""
    root = versions.root
    tree = run_here(root, "git", "rev-parse", "handoff@v0.0.2^{tree}").stdout.strip()
    made = [run_here(root, "git", "commit-tree", tree, "-m", words).stdout.strip() for words in ("judged", "report")]
    first = judge(root, "v0.0.1", made[0], now=NOW)
    moved(root, *made)
    assert {made[1]} == {each.challenger for each in read_ledger(root)} & set(made)
    again = judge(root, "v0.0.1", made[1], now=NOW + timedelta(days=1), note=False)
    assert (again.evidence["gain"], again.evidence["alpha"]) == (first.evidence["gain"], first.evidence["alpha"])
    moved(root, *made)  # killed, and once more
    run_here(root, "git", "notes", "--ref=judge", "remove", made[1])


def test_equal_ones_are_not_worse_and_a_worse_one_is_refused(versions):
    judged = before_promotion(versions.root, "v0.0.1", "HEAD")
    assert judged is not None and not judged.refused
    assert re.match(r"[0-9a-f]{8} is not worse than v0\.0\.1 by 1 point: \+0\.0 points", judged.told)
    again = before_promotion(versions.root, "v0.0.1", "HEAD")
    assert again is not None and again.told.startswith("judged before: not worse, +0.0 points")
    refused = before_promotion(versions.root, "v0.0.1", "handoff@v0.0.2")
    assert refused is not None and refused.refused and "judged: {" in refused.message


def test_the_command_names_prod_and_says_what_is_missing(versions, monkeypatch):
    monkeypatch.chdir(versions.root)
    lacking = CliRunner().invoke(app, ["judge"])
    assert isinstance(lacking.exception, MetaloomError) and str(lacking.exception).startswith("no version is prod: ")
    run_here(versions.root, "git", "tag", "-a", "-m", "prod", "handoff#prod#1", "handoff@v0.0.1^{commit}")
    done = CliRunner().invoke(app, ["judge", "--json", "--no-note"])
    assert done.exit_code == 3 and json.loads(done.stdout)["outcome"] == "not worse"
    done = CliRunner().invoke(app, ["judge", "v0.0.1", "v0.0.2", "--no-note"])
    assert done.exit_code == 4 and done.stdout.splitlines()[0].startswith("v0.0.2 is worse than v0.0.1: ")


def test_a_guard_holds_a_better_version(versions):
    path = versions.root / "params.yaml"
    before = path.read_text()
    try:
        path.write_text(before.replace("domains: warn", "domains: hold").replace("margin: 0.01", "margin: 0.0001"))
        found = judge(versions.root, "v0.0.2", "v0.0.1", now=NOW, note=False)
    finally:
        path.write_text(before)
    guards = {each["guard"]: each["action"] for each in found.evidence["guards"]}
    assert found.promotes == (guards.get("domains") != "hold")


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (("v0.0.1", "v0.0.1"), r"v0\.0\.1 and v0\.0\.1 are the same commit"),
        (("v0.0.1", "workspace"), "the working tree is no version"),
        (("v9.9.9", "v0.0.1"), "there is no revision 'v9.9.9'"),
    ],
)
def test_what_cannot_be_judged_is_one_line(versions, pair, words):
    with pytest.raises(MetaloomError, match=f"^{words}"):
        judge(versions.root, *pair)


def test_classes_that_either_has_seen_are_not_asked_about_under_any_name(make_versions):
    """Domain d was a training domain of the champion, and one class of c has another name now."""
    made = make_versions()
    made.splits["d"] = "train"
    made.commit("v0.0.1")
    made.splits["d"] = "test"
    made.items["class"] = made.items["class"].replace("b/0", "d/5")
    made.items.loc[made.items["class"] == "d/5", "domain"] = "d"
    made.commit("v0.0.2")
    found = judge(made.root, "v0.0.1", "v0.0.2", note=False)
    assert [each["domain"] for each in found.evidence["domains"]] == ["c"] and found.evidence["classes"] == 5
    made.splits["c"] = "validation"
    made.commit("v0.0.3")
    with pytest.raises(MetaloomError, match=r"^no classes are left that neither v0\.0\.1 nor v0\.0\.3 has been"):
        judge(made.root, "v0.0.1", "v0.0.3", note=False)
    made.commit("v0.0.4", kind={"kind": "pictures", "image_size": 28, "channels": 3})
    with pytest.raises(MetaloomError, match=r"^v0\.0\.1 and v0\.0\.4 do not take the same examples \(channels 1 and 3"):
        judge(made.root, "v0.0.1", "v0.0.4", note=False)


def test_questions_are_of_both_data_versions_and_never_what_a_bundle_has_learned_from(make_versions):
    """The champion's data have a test class that the challenger's lack."""
    made = make_versions()
    made.commit("v0.0.1")
    made.items = made.items[made.items["class"] != "c/4"]
    made.examples, made.items = made.examples[made.items.index], made.items.reset_index(drop=True)
    made.items["row"] = made.items.index.astype("int32")
    made.commit("v0.0.2")
    with _sides(made.root, "v0.0.1", "v0.0.2") as sides:
        found = pool(*sides)
        assert sorted(found.classes["class"]) == [f"{domain}/{number}" for domain in "cd" for number in range(5)]
        for side in sides:
            support = draw_task(side.classes, side.settings.export, side.settings.seed).support
            learned = set(side.items.loc[side.items["row"].isin(support), "sha256"])
            assert learned and not learned & set(found.content)


def test_it_ends_when_its_time_is_over(versions):
    found = judge(versions.root, "v0.0.1", "HEAD", now=NOW, note=False, minutes=1e-9)
    told = found.evidence
    assert (found.outcome, told["limited"]) == ("undecided", True) and told["episodes"] <= 100 + len(told["domains"])
    assert [each["episodes"] for each in told["old_domains"]] == [5]


def test_time_is_left_for_what_is_asked_afterwards():
    """200 rounds have taken 20 s of 60: there is time for 400 more, of which 60 are kept."""
    assert _in_time(200, 20.0, 60.0, 60) == 340
    assert _in_time(200, 59.9, 60.0, 60) == 1 and _in_time(0, 0.0, 60.0, 60) > 10**6


def test_a_model_that_is_nowhere_is_one_line(make_versions):
    made = make_versions()
    made.commit("v0.0.1")
    made.commit("v0.0.2", blind=True)
    for each in (made.root / ".dvc/cache").rglob("*"):
        if each.is_file() and each.stat().st_size > 3000 and b"weights/" in each.read_bytes()[:3000]:
            each.unlink()
    with pytest.raises(MetaloomError, match="is in neither DVC's cache nor a remote"):
        judge(made.root, "v0.0.1", "v0.0.2", note=False)


def test_what_both_were_trained_on_is_asked_too(versions):
    """By examples that both were trained on: of the domain a, and of no other."""
    found = judge(versions.root, "v0.0.1", "v0.0.2", now=NOW, note=False)
    (old,) = found.evidence["old_domains"]
    assert old["domain"] == "a" and old["episodes"] == 300 and old["champion"] > old["challenger"] + 0.3
    (told,) = (each for each in found.evidence["guards"] if each["guard"] == "forgetting")
    assert told["says"].startswith("on a, which both were trained on, it is worse by ")
    with _sides(versions.root, "v0.0.1", "v0.0.2") as (one, other):
        one.classes["split"] = "test"
        assert _pool(one, other, 10, 20) is None


def side(*classes: tuple[str, int, str]) -> Side:
    """A version of so many examples of each class, all of which it was trained on; the third is what they are named by,
    so that those of one class may be another's."""
    rows = [(f"{own}{n}", name, name[0]) for name, count, own in classes for n in range(count)]
    items = pd.DataFrame(rows, columns=["sha256", "class", "domain"])
    items.insert(0, "row", range(len(items)))
    made = Side("made", "made", Revision("made", None), Outputs(REPO), Path())
    vars(made).update(items=items, trained=set(items["class"]), examples=np.zeros((len(items), 1)))
    return made


def test_of_domains_and_classes_those_that_can_be_asked_about_are_taken():
    """Each letter is a domain: 26 have one class alone or too few examples, and one has large classes behind small."""
    alone = [(f"{chr(65 + n)}0", 20, f"{n}/") for n in range(26)]
    small = [(f"b{n:02d}", 3, f"b{n}/") for n in range(40)]
    large = [(f"{domain}9{n}", 20, f"{domain}9{n}/") for domain in "abc" for n in range(3)]
    both = side(*alone, *small, *large)
    expected = sorted(name for name, *_ in large)
    found = _pool(both, both, 10, 20)
    assert found is not None and sorted(found.classes["class"]) == expected
    fewer = _pool(both, both, 10, 20, 0)
    assert fewer is not None and set(fewer.classes["domain"]) == {"a"}


def test_an_example_that_had_another_label_is_none_that_both_were_trained_on():
    one = side(("a0", 12, "x"), ("a1", 12, "y"), ("a2", 12, "z"))
    other = side(("a0", 12, "x"), ("a1", 12, "z"), ("a2", 12, "y"))
    assert _pool(one, other, 10, 20) is None
