"""Guards, on answers that are made up."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from judged import pictures
from projects import REPO
from sklearn.metrics import roc_auc_score

from metaloom.evaluation.figures import Answers
from metaloom.judging.asking import Asked
from metaloom.judging.bundles import BundleFigures
from metaloom.judging.by_domain import ByDomain, highest
from metaloom.judging.decision import decide
from metaloom.judging.evidence import Evidence
from metaloom.judging.novelty import aurocs
from metaloom.judging.questions import Pool, Questions
from metaloom.judging.side import Side
from metaloom.kinds.pictures.encode import PictureEncoding
from metaloom.learner import Learner
from metaloom.tasks import EpisodeTable
from metaloom.versioning.paths import Outputs
from metaloom.versioning.revisions import Revision


def asked(gains: list[float], rounds: int = 60) -> Asked:
    """The champion is right in half of the queries; in each domain the challenger in so many more."""
    rng, episodes, queries = np.random.default_rng(0), rounds * len(gains), 10
    table = EpisodeTable(np.zeros((episodes, 2, 1), int), np.zeros((episodes, 2, queries), int))

    def answers(share: np.ndarray) -> Answers:
        right = rng.random((episodes, 2 * queries)) < share[:, None]
        said = np.where(right, table.answers, 1 - table.answers)
        return Answers(np.log(np.eye(2)[said] * 0.8 + 0.1), table)

    one, other = (answers(0.5 + np.tile(share, rounds)) for share in (np.zeros(len(gains)), np.array(gains)))
    differences = (other.accuracy - one.accuracy).reshape(rounds, -1)
    return Asked(one, other, decide(differences, 0.05, 0.01), len(gains), 1.0)


def evidence(rules, said: Asked, bundles=None, novelty=None, old=None) -> Evidence:
    domains = [f"domain{number}" for number in range(said.domains)]
    classes = pd.DataFrame({"class": ["a", "b"], "domain": "domain0", "split": "test", "first": [0, 9], "count": 99})
    questions = Questions(Pool(np.zeros((108, 1)), classes, ["x"] * 108), 2, 1, 10, domains, "seed")
    nothing = Revision("none", SimpleNamespace(exists=lambda path: False))
    sides = (Side(name, name, nothing, Outputs(REPO), Path()) for name in ("old", "new"))
    old = ByDomain([f"old{number}" for number in range(old.domains)], old.champion, old.challenger) if old else None
    return Evidence(*sides, questions, said, 0.05, rules, [], bundles, novelty, old)


def guards(settings, said: Asked, bundles=None, novelty=None, old=None) -> dict[str, str]:
    return dict(evidence(settings.judge, said, bundles, novelty, old)._guards())


def test_a_loss_on_one_domain_and_a_doubt_about_others(settings):
    found = guards(settings, asked([0.3, 0.3, -0.3]))
    assert found["worst_domain"].startswith("on domain2 it is worse by ")
    assert found["domains"].startswith("on other domains its gain may be anything from −")
    assert not {"domains", "worst_domain", "worst_tenth"} & guards(settings, asked([0.3, 0.3, 0.3])).keys()


def test_worse_in_the_worst_tenth(settings):
    assert "worst_tenth" in guards(settings, asked([-0.3, -0.3]))


@pytest.mark.parametrize(("now", "fired"), [((100, 1.4), set()), ((160, 1.6), {"latency", "size"})])
def test_a_bundle_that_is_slower_or_larger_by_half(settings, now, fired):
    found = guards(settings, asked([0.3, 0.3]), (BundleFigures(100, 1.0), BundleFigures(*now)))
    assert found.keys() & {"latency", "size"} == fired


@pytest.mark.parametrize(("gains", "fired"), [([0.1, -0.3], True), ([-0.3], True), ([0.1, 0.1], False)])
def test_a_loss_on_a_domain_that_both_were_trained_on(settings, gains, fired):
    found = guards(settings, asked([0.3, 0.3]), old=asked(gains))
    assert ("forgetting" in found) is fired
    if fired:
        worst = f"on old{len(gains) - 1}, which both were trained on, it is worse by "
        assert found["forgetting"].startswith(worst)


def test_a_certain_loss_is_not_hidden_by_a_larger_one_that_may_be_chance():
    said = asked([0.0, 0.0])
    found = ByDomain(["certain", "wild"], said.champion, said.challenger)
    vars(found)["differences"] = np.tile([[-0.04, 0.8], [-0.06, -1.0]], (30, 1))
    assert found.worst(0.01) == ("certain", pytest.approx(-0.05))
    assert found.worst(0.06) is None


@pytest.mark.parametrize(("rounds", "queries"), [(2, 10), (5, 10), (10, 75)])
def test_a_loss_within_the_margin_is_seldom_said_to_be_more(rounds, queries):
    """30 domains that lose just the margin of one point, and one that loses 20 points more among as many."""
    rng, tries, margin = np.random.default_rng(0), 400, 0.01
    lost = -rng.binomial(queries, margin, (tries, rounds, 30)) / queries
    assert np.mean([(highest(each) < -margin).any() for each in lost]) <= 0.05
    lost[:, :, 7] -= 0.2 + 0.1 * rng.random((tries, rounds))
    said = np.mean([highest(each)[7] < -margin for each in lost])
    assert said > 0.9 if rounds >= 5 else said == 0


def novelty(gain: float, episodes: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """AUROCs of both in the same episodes."""
    one, other = np.random.default_rng(0).normal(0.9, 0.05, (2, episodes))
    return one, other + gain


@pytest.mark.parametrize(("gain", "fired"), [(-0.05, True), (-0.01, False), (0.05, False)])
def test_a_loss_in_telling_new_classes_apart(settings, gain, fired):
    found = guards(settings, asked([0.3, 0.3]), novelty=novelty(gain))
    assert ("novelty" in found) is fired
    if fired:
        assert found["novelty"].startswith("it tells new classes from known ones with an AUROC of 0.8")


FIRED = {  # what makes each of them say something
    "domains": (asked([0.3, 0.3, -0.3]), None, None),
    "worst_domain": (asked([0.3, 0.3, -0.3]), None, None),
    "worst_tenth": (asked([-0.3, -0.3]), None, None),
    "forgetting": (asked([0.3, 0.3]), None, None, asked([0.0, -0.3])),
    "novelty": (asked([0.3, 0.3]), None, novelty(-0.05)),
    "latency": (asked([0.3, 0.3]), (BundleFigures(100, 1.0), BundleFigures(100, 1.6)), None),
    "size": (asked([0.3, 0.3]), (BundleFigures(100, 1.0), BundleFigures(160, 1.0)), None),
    "calibration": (asked([0.3, -0.3]), None, None),
}


@pytest.mark.parametrize("name", FIRED)
def test_each_guard_holds_warns_or_is_not_looked_at(settings, name):
    assert set(FIRED) == set(type(settings.judge.guards).model_fields)
    off = dict.fromkeys(FIRED, "off")

    def verdict(action: str):
        rules = settings.judge.model_copy(
            update={"guards": settings.judge.guards.model_copy(update=off | {name: action}), "margin": 0.001}
        )
        return evidence(rules, *FIRED[name]).verdict()

    held, warned, silent = map(verdict, ("hold", "warn", "off"))
    (words,) = held.held
    assert f"; held: {words}" in held.message and not held.promotes
    assert warned.held == () and f"; mind: {words}" in warned.message
    assert (silent.held, silent.evidence["guards"]) == ((), []) and words not in silent.message


@pytest.mark.parametrize("method", ["protonet", "reptile"])  # the second one changes the network for a task
def test_the_auroc_is_scikit_learn_s_of_distances_to_the_nearest_mean(tiny_settings, method):
    """In units of the support's spread, which is another one in each episode and changes no order in it."""
    packed, _ = pictures()
    learner = Learner.create(method, tiny_settings, PictureEncoding.of(packed))
    rows = np.arange(50).reshape(1, 5, 10)
    table = EpisodeTable(rows[:, :3, :2], rows[:, :3, 2:6])
    (found,) = aurocs(learner, torch.from_numpy(packed), table)
    task = learner.adapt(packed[table.support[0, :2].ravel()], [0, 0, 1, 1])

    def embedded(chosen: np.ndarray) -> np.ndarray:
        model = task.model
        with torch.no_grad():
            x = task.encoding(torch.tensor(packed[chosen.ravel()]))
            return model.network(model.weights, x, model.statistics)[0].double().numpy()

    means = embedded(table.support[0, :2]).reshape(2, 2, -1).mean(axis=1)
    distance = np.linalg.norm(embedded(table.query[0])[:, None] - means, axis=2).min(axis=1)
    assert found == pytest.approx(roc_auc_score([0] * 8 + [1] * 4, distance))
