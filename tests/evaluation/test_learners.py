from __future__ import annotations

import numpy as np
import pytest
import torch
from projects import REPO, TINY
from sklearn.linear_model import LogisticRegression

from metaloom.baselines import SINGLE_TASK_LEARNERS
from metaloom.config import load_settings
from metaloom.evaluation.run import gallery, meta_learner_scores, single_task_scores
from metaloom.methods import Learner
from metaloom.methods.learner import Normalisation
from metaloom.tasks import EpisodeTable

WAYS = 3


@pytest.fixture
def images() -> torch.Tensor:
    """Six classes that pixels tell apart, eight items each."""
    rng = np.random.default_rng(0)
    patterns = np.kron(rng.integers(0, 2, (6, 1, 4, 4, 1)) * 255, np.ones((7, 7, 1)))
    noisy = (patterns + rng.integers(-40, 40, (6, 8, 28, 28, 1))).clip(0, 255)
    return torch.from_numpy(noisy.astype(np.uint8).reshape(-1, 28, 28, 1))


@pytest.fixture
def tables() -> dict[str, EpisodeTable]:
    rng = np.random.default_rng(1)
    drawn = np.stack([rng.permutation(6)[:WAYS, None] * 8 + rng.permutation(8)[:4] for _ in range(5)])
    return {
        "3w2s": EpisodeTable(drawn[:, :, :2], drawn[:, :, 2:]),
        "3w1s": EpisodeTable(drawn[:, :, :1], drawn[:, :, 2:]),
    }


@pytest.fixture
def learner(tiny_settings, images) -> Learner:
    return Learner.create("protonet", tiny_settings, 1, 28, Normalisation.of(images.numpy()))


@pytest.mark.parametrize("name", SINGLE_TASK_LEARNERS)
def test_single_task_learners_learn_from_the_support_alone(name, tiny_settings, learner, images, tables):
    settings = tiny_settings.evaluate.model_copy(
        update={"scratch": tiny_settings.evaluate.scratch.model_copy(update={"steps": 40})}
    )
    rows = single_task_scores(name, settings, learner, images, tables, jobs=1)
    assert rows.groupby("setting").size().tolist() == [getattr(settings, name).episodes] * 2
    assert rows["accuracy"].mean() > 0.8
    again = single_task_scores(name, settings, learner, images, tables, jobs=2)
    np.testing.assert_allclose(rows["nll"], again["nll"], rtol=1e-4)


def test_beside_a_bank_scratch_is_one_network_of_it(learner, images, tables):
    settings = load_settings(REPO / "params.yaml", TINY | {"protonet.norm": "batch", "bank.norm": "batch"})
    alone, bank = (Learner.create(name, settings, 1, 28, learner.normalisation) for name in ("protonet", "bank"))
    one, of_bank = (
        single_task_scores("scratch", settings.evaluate, each, images, tables, jobs=1) for each in (alone, bank)
    )
    assert bank.method.network.one == alone.method.network
    np.testing.assert_allclose(of_bank["nll"], one["nll"], rtol=1e-4)


def test_logistic_is_scikit_learn_s(tiny_settings, learner, images, tables):
    rows = single_task_scores("logistic", tiny_settings.evaluate, learner, images, tables, jobs=1)
    table = tables["3w2s"]
    pixels = learner.normalisation(images).flatten(1).numpy()
    model = LogisticRegression(C=tiny_settings.evaluate.logistic.C, max_iter=1000)
    model.fit(pixels[table.support[1].ravel()], np.repeat(range(WAYS), 2))
    expected = model.score(pixels[table.query[1].ravel()], np.repeat(range(WAYS), 2))
    assert rows[(rows["setting"] == "3w2s") & (rows["episode"] == 1)]["accuracy"].item() == expected


@pytest.mark.parametrize("name", SINGLE_TASK_LEARNERS)
def test_a_single_task_learner_s_answer_does_not_depend_on_the_other_queries(name, tiny_settings, learner, images):
    settings = getattr(tiny_settings.evaluate, name)
    x = learner.normalisation(images[:24])
    support_x, support_y, query_x = x[:12], torch.arange(3).repeat_interleave(4), x[12:]
    learn = SINGLE_TASK_LEARNERS[name]
    together = learn(settings, learner.method.network, support_x, support_y, query_x, 0)
    alone = learn(settings, learner.method.network, support_x, support_y, query_x[5:6], 0)
    np.testing.assert_allclose(together[5:6], alone, rtol=1e-3, atol=1e-4)


def test_meta_learners_answer_every_episode_and_the_gallery_agrees(learner, images, tables):
    rows = meta_learner_scores("protonet", learner, images, tables)
    assert len(rows) == 10
    shown = gallery(learner, images, tables)
    queries = shown[(shown["role"] == "query") & (shown["setting"] == "3w1s") & (shown["episode"] == 2)]
    right = (queries["predicted"] == queries["way"]).mean()
    assert right == rows[(rows["setting"] == "3w1s") & (rows["episode"] == 2)]["accuracy"].item()
    assert all(sum(p) == pytest.approx(1) for p in queries["probabilities"])
    assert shown[shown["role"] == "support"]["probabilities"].isna().all()
