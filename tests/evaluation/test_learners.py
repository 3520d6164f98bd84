from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from projects import REPO, TINY
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC

from metaloom.baselines import BASELINES, Features, answer_all, choices, choose
from metaloom.baselines.catalogue import Baseline
from metaloom.baselines.heads import Fitted, neighbour, span, svm
from metaloom.baselines.run import Request
from metaloom.baselines.stepped import EXAMPLES, TOGETHER, Start, fitted, stepped, together
from metaloom.config import load_settings
from metaloom.evaluation import answers
from metaloom.evaluation.answers import meta_answers, meta_speed, single_task_answers, untempered
from metaloom.evaluation.estimates import estimate_rows
from metaloom.evaluation.shown import gallery
from metaloom.kinds.pictures.kind import Pictures
from metaloom.learner.estimate import cross_validated
from metaloom.learner.temperature import Temperature
from metaloom.networks import NETWORKS
from metaloom.system.certainty import ENOUGH_EPISODES, FEWEST_EPISODES
from metaloom.system.optimisers import Adam

TABLES = ("3w1s", "3w2s")


@pytest.fixture(scope="session")
def settings(tiny_settings):
    """Every learner answers all five episodes, and the stepped ones learn a little."""
    stepped = {"episodes": 2, "elsewhere": 2, "steps": 12, "learning_rate": [0.02], "distortion": [0.0]}
    own = {
        "scratch": stepped | {"norm": ["group"]},
        "finetune_all": stepped,
        "forest": {"episodes": 5, "elsewhere": 3, "trees": 20},
    }
    baselines = tiny_settings.baselines
    changed = {name: getattr(baselines, name).model_copy(update=update) for name, update in own.items()}
    return baselines.model_copy(update=changed)


@pytest.fixture(scope="session")
def features(images, tables, learner, make):
    return Features.of(images, tables.values(), learner, make("shared"))


@pytest.fixture(scope="session")
def chosen(features, settings, tables):
    return choose(features, settings, tables, jobs=1)


@pytest.fixture(scope="session")
def answered(features, chosen, settings, tables):
    return single_task_answers(features, chosen, settings, tables, jobs=1)


@pytest.mark.slow
def test_every_single_task_learner_learns_from_the_support(answered):
    answers, speeds = answered
    assert set(answers) == set(BASELINES)
    for name, of_tables in answers.items():
        assert set(of_tables) == set(TABLES)
        assert np.mean([each.accuracy.mean() for each in of_tables.values()]) > 0.6, name
        assert speeds[name]["3w1s"]["adapt_ms"] > 0 and speeds[name]["3w1s"]["bytes"] > 0
        np.testing.assert_allclose(np.exp(of_tables["3w2s"].log_p).sum(axis=2), 1, rtol=1e-5)


@pytest.mark.slow
def test_several_processes_say_what_one_says(features, chosen, settings, tables, answered):
    again, _ = single_task_answers(features, chosen, settings, tables, jobs=2)
    for name, of_tables in answered[0].items():
        np.testing.assert_allclose(of_tables["3w2s"].log_p, again[name]["3w2s"].log_p, rtol=1e-3, atol=1e-4)


def support_and_queries(features, tables, episode=1):
    table = tables["3w2s"]
    x, queries = (features.get("flat", features.at(rows[episode])) for rows in (table.support_rows, table.query_rows))
    length = np.sqrt((x**2).sum(axis=1).mean())
    return x / length, table.labels, queries / length


def test_logistic_is_scikit_learn_s_on_all_pixels(features, tables):
    x, y, queries = support_and_queries(features, tables)
    request = Request("", "logistic", {"C": 1.0}, tables["3w2s"])
    found = log_softmax(answer_all(features, [request], "", jobs=1)[""].scores[1], axis=1)
    model = LogisticRegression(C=1.0, class_weight="balanced", max_iter=1000, tol=1e-8).fit(x, y)
    np.testing.assert_allclose(found, model.predict_log_proba(queries), atol=2e-3)


@pytest.mark.parametrize("ways", [2, 3])
def test_svm_and_neighbour_are_scikit_learn_s(features, tables, ways):
    x, y, queries = support_and_queries(features, tables)
    x, y = x[y < ways], y[y < ways]
    model = LinearSVC(C=1.0, class_weight="balanced", max_iter=20_000, tol=1e-6).fit(x, y)
    assert (svm({"C": 1.0}, x, y, 0)(queries).argmax(axis=1) == model.predict(queries)).all()
    nearest = KNeighborsClassifier(1).fit(x, y)
    found = neighbour({"metric": "euclidean"}, x, y, 0)(queries)
    assert (found.argmax(axis=1) == nearest.predict(queries)).all()
    np.testing.assert_allclose(-found.max(axis=1), nearest.kneighbors(queries)[0][:, 0], rtol=1e-4, atol=1e-4)


def test_the_span_keeps_every_product():
    x = np.random.default_rng(0).normal(size=(6, 50)).astype(np.float32)
    x[5] = x[0] - x[1]  # of rank five
    basis = span(x)
    assert basis.shape == (50, 5)
    np.testing.assert_allclose((x @ basis) @ (x @ basis).T, x @ x.T, atol=1e-3)


def test_scratch_has_the_champion_s_architecture_also_beside_a_bank(images, tables, make, learner):
    alone, bank = (Features.of(images, tables.values(), make(name), make("shared")) for name in ("protonet", "bank"))
    assert type(bank.starts["scratch"].network) is type(alone.starts["scratch"].network)
    assert bank.starts["scratch"].weights is None and alone.starts["finetune_all"].weights is not None


def test_without_a_step_fine_tuning_is_a_logistic_regression_on_the_frozen_network(features, make, tables, images):
    choice = {"steps": 0, "epochs": 0, "batch": 25, "learning_rate": 1.0, "distortion": 0.0}
    x = torch.as_tensor(features.get("encoded", np.arange(len(features.rows))))
    y = torch.arange(3).repeat_interleave(4)
    [model] = fitted(features.starts["finetune_all"], choice, x[None, :12], y, [0])
    z = features.embeddings["pretrained"]
    z = z / np.sqrt((z[:12] ** 2).sum(axis=1).mean())
    head = LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000, tol=1e-8).fit(z[:12], y.numpy())
    np.testing.assert_allclose(log_softmax(model(x.numpy()), axis=1), head.predict_log_proba(z), atol=5e-3)


def test_more_steps_where_the_epochs_take_more(features, monkeypatch):
    """Twelve examples in batches of five: ten epochs are 24 steps."""
    taken = []
    monkeypatch.setattr(Adam, "step", lambda self: taken.append(1))
    x, y = torch.as_tensor(features.get("encoded", np.arange(12))), torch.arange(3).repeat_interleave(4)
    for steps, epochs, expected in ((7, 0, 7), (7, 10, 24), (30, 10, 30)):
        choice = {"steps": steps, "epochs": epochs, "batch": 5, "learning_rate": 0.01, "distortion": 0.0}
        stepped(Start(features.starts["scratch"].network, features.encoding.kind), choice, x[None], y, seeds=[0])
        assert len(taken) == expected
        taken.clear()


CHOICE = {"steps": 4, "epochs": 0, "batch": 5, "learning_rate": 0.01, "distortion": 0.5}


def fresh_start(network: str, width: int, norm: str) -> Start:
    return Start(NETWORKS[network](shape=(1, 28, 28), width=width, norm=norm), Pictures(28, 1))


@pytest.mark.parametrize(
    ("network", "norm"),
    [
        ("conv4", "group"),
        ("conv4", "batch"),
        ("conv4", "none"),
        ("resnet12", "batch"),
        ("mlp", "group"),
        ("gru", "batch"),
    ],
)
def test_networks_trained_together_are_those_trained_alone(network, norm):
    """In double precision, so that rounding cannot hide a difference."""
    x, y = torch.randn(3, 6, 1, 28, 28, generator=torch.Generator().manual_seed(0)).double(), torch.arange(6) % 3
    start = doubled(fresh_start(network, 8, norm))
    model = stepped(start, CHOICE, x, y, [3, 4, 5])
    logits = model.logits(x)
    for task in range(3):
        alone = stepped(start, CHOICE, x[task : task + 1], y, [3 + task])
        torch.testing.assert_close(logits[task], alone.logits(x[task : task + 1])[0], rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(logits[task], model.of_task(task).logits(x[task : task + 1])[0])


def doubled(start: Start) -> Start:
    """From weights of its own in double precision, with statistics where the norm has them."""
    weights = {name: w.double() for name, w in start.network.init(torch.Generator().manual_seed(0)).items()}
    some = torch.randn(20, 1, 28, 28, generator=torch.Generator().manual_seed(2)).double()
    return replace(start, weights=weights, statistics=start.network(weights, some)[1] or None)


def test_tasks_from_random_weights_have_draws_of_their_own():
    x, y = torch.randn(2, 3, 1, 28, 28, generator=torch.Generator().manual_seed(0)), torch.arange(3)
    start = fresh_start("conv4", 8, "batch")
    trained = stepped(start, CHOICE, x, y, [7, 8])
    for task, seed in enumerate([7, 8]):
        alone = stepped(start, CHOICE, x[task : task + 1], y, [seed])
        torch.testing.assert_close(trained.weights["0.conv"][task], alone.weights["0.conv"][0], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(trained.weights["0.conv"][0], trained.weights["0.conv"][1], atol=0.1)


def test_how_many_are_trained_together_is_bounded_by_weights_and_examples():
    small, large = (fresh_start("mlp", width, "none") for width in (8, 2000))
    assert together(small, CHOICE, 5) == TOGETHER
    assert together(small, CHOICE | {"batch": 100}, 100) == EXAMPLES // 100
    assert together(large, CHOICE, 5) == 1


def test_a_task_that_fails_among_others_fails_alone(features, tables, monkeypatch):
    def learn(name, features, choice, support, labels, seeds):
        if 3 in seeds:
            raise RuntimeError("no solution")
        return [Fitted(lambda queries: np.ones((len(queries), 3)), 8) for _ in seeds]

    stub = SimpleNamespace(fit=None, features="encoded", learn=learn, together=lambda *_: 4)
    monkeypatch.setitem(BASELINES, "scratch", stub)  # type: ignore[arg-type]
    found = answer_all(features, [Request("", "scratch", {}, tables["3w2s"], timed=True)], "", jobs=1)[""]
    assert found.failed.tolist() == [False, False, False, True, False] and found.adapt_seconds > 0


@pytest.mark.parametrize("name", ["scratch", "finetune_all", "logistic", "forest_embedded"])
def test_an_answer_does_not_depend_on_the_other_queries(name, features, tables, settings):
    learner, table = BASELINES[name], tables["3w2s"]
    choice = learner.candidates(settings)[0]
    [model] = learner.learn(name, features, choice, features.at(table.support_rows[:1]), table.labels, [0])
    queries = features.get(learner.features, features.at(table.query_rows[0]))
    np.testing.assert_allclose(model(queries)[3:4], model(queries[3:4]), rtol=1e-3, atol=1e-4)


def failing(choice, x, y, seed):
    if x[0, 0] > np.median(x[:, 0]):
        raise ValueError("singular")
    return BASELINES["logistic"].fit(choice, x, y, seed)  # type: ignore[misc]


def test_a_learner_that_fails_on_some_episodes_says_on_which(features, tables, monkeypatch):
    monkeypatch.setitem(BASELINES, "logistic", Baseline("task", "logistic", "flat", BASELINES["logistic"].fit))
    monkeypatch.setitem(BASELINES, "svm", Baseline("task", "svm", "flat", failing))
    found = answer_all(features, [Request("", "svm", {"C": 1.0}, tables["3w2s"])], "", jobs=1)[""]
    assert 0 < found.failed.sum() < 5
    assert np.isnan(found.scores[found.failed]).all() and np.isfinite(found.scores[~found.failed]).all()


def test_choices_are_the_best_candidate_on_each_search_setting(features, tables, settings, monkeypatch):
    monkeypatch.setattr(choices, "BASELINES", {"logistic": BASELINES["logistic"]})
    wide = settings.model_copy(
        update={"episodes": 5, "logistic": settings.logistic.model_copy(update={"C": [1e-6, 10.0]})}
    )
    chosen = choose(features, wide, tables, jobs=1)["logistic"]
    for each in chosen.searched:
        best = max(each["tried"], key=lambda tried: (tried["accuracy"], -tried["nll"]))
        assert each["chosen"] == {"C": best["C"]} and {tried["C"] for tried in each["tried"]} == {1e-6, 10.0}
    assert chosen.for_task(20, 1) == chosen.searched[0]["chosen"]
    assert chosen.for_task(3, 15) == chosen.searched[1]["chosen"]
    assert type(chosen).read(chosen.saved()) == chosen


def test_meta_learners_answer_every_episode_and_the_gallery_agrees(learner, images, tables):
    answers = meta_answers(learner, images, tables)
    shown = gallery(answers, list(tables))
    queries = shown[(shown["role"] == "query") & (shown["setting"] == "3w1s") & (shown["episode"] == 2)]
    assert (queries["predicted"] == queries["way"]).mean() == answers["3w1s"].accuracy[2]
    assert all(sum(p) == pytest.approx(1) for p in queries["probabilities"])
    assert shown[shown["role"] == "support"]["probabilities"].isna().all()


def test_embedding_once_says_what_adapting_each_task_says(make, images, tables):
    table = tables["3w2s"].with_labels(1, 2, 2)
    for name in ("protonet", "maml", "shared"):
        learner = make(name).tempered(Temperature(0.3, -0.2, 0.1, (1, 2), (2, 5)))
        together = learner.answer(images, table)
        for episode in range(len(table)):
            task = learner.adapt(images[torch.as_tensor(table.support_rows[episode])], table.labels)
            alone = task.predict_proba(images[torch.as_tensor(table.query_rows[episode])])
            np.testing.assert_allclose(together[episode].exp().numpy(), alone, rtol=1e-3, atol=1e-5)


def test_without_its_temperature_an_answer_is_as_before(learner, images, tables):
    tempered = learner.tempered(Temperature(1.0))
    plain, hot = (meta_answers(each, images, tables)["3w1s"] for each in (learner, tempered))
    np.testing.assert_allclose(untempered(hot, tempered).log_p, plain.log_p, rtol=1e-4, atol=1e-4)
    assert (hot.right == plain.right).all() and hot.log_p.max() < plain.log_p.max()


@pytest.mark.parametrize("name", ["protonet", "maml"])
def test_estimates_are_those_of_each_support_set_by_itself(make, images, tables, name):
    learner = make(name)
    answers = meta_answers(learner, images, {"estimates/any": tables["3w2s"]})
    rows = estimate_rows(learner, images, answers)
    for task, support in enumerate(tables["3w2s"].support_rows):
        alone = cross_validated(learner, images[torch.as_tensor(support)].numpy(), tables["3w2s"].labels, task)
        assert alone is not None and rows["estimate"][task] == alone["accuracy"]
    assert len(rows) == 5 and rows["truth"].tolist() == answers["estimates/any"].accuracy.tolist()


def test_times_and_size_of_a_meta_learner(learner, images, tables, tmp_path):
    found = meta_speed(learner, images, tables["3w1s"])
    assert found["predict_ms"] > 0 and 0 < found["adapt_ms"] < 10_000
    learner.adapt(images[:24:4], np.arange(3).repeat(2)).save(tmp_path)
    header = 2048  # of the file, at most
    assert 0 <= (tmp_path / "task.safetensors").stat().st_size - found["bytes"] < header


def test_times_are_taken_when_the_device_has_done_its_work(learner, images, tables, monkeypatch):
    seen: list[str] = []
    clock = iter(range(100))
    monkeypatch.setattr(answers, "finish", lambda device: seen.append(f"finish {device.type}"))
    monkeypatch.setattr(answers.time, "perf_counter", lambda: seen.append("clock") or next(clock))
    answers.meta_speed(learner, images, tables["3w1s"].first(1))
    assert seen == ["finish cpu", "clock", "finish cpu", "clock", "clock"]  # predictions come to the host by themselves


def test_a_search_setting_without_episodes_is_refused():
    from metaloom.errors import MetaloomError

    with pytest.raises(MetaloomError, match=r"baselines.settings has 7w1s, but episodes.settings has only 3w1s, 3w2s"):
        load_settings(REPO / "params.yaml", TINY | {"baselines.settings": ["7w1s"]})


def test_more_episodes_elsewhere_than_where_intervals_are_wanted_are_refused():
    from metaloom.errors import MetaloomError

    wrong = {"baselines.scratch.episodes": 2, "baselines.scratch.elsewhere": 3}
    with pytest.raises(MetaloomError, match=r"baselines.scratch: elsewhere is 3, but episodes only 2: raise episodes"):
        load_settings(REPO / "params.yaml", TINY | wrong)


def test_the_defaults_give_trained_networks_an_interval_where_they_are_searched():
    baselines = load_settings(REPO / "params.yaml", {}).baselines
    for name in ("scratch", "finetune_all"):
        own = getattr(baselines, name)
        asked = [baselines.asked(own, each) for each in ("5w1s", "5w5s_domain", "20w1s", "labels/any/5")]
        assert asked[0] == asked[1] >= ENOUGH_EPISODES and asked[2] == asked[3] < FEWEST_EPISODES
