from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from trainers import CLASSES, COUNT, Killed, images_of_classes, shortened, tensors_of, trainer, turned

from metaloom.config import Settings
from metaloom.errors import MetaloomError
from metaloom.kinds.pictures.encode import PictureEncoding
from metaloom.learner import Learner, champion
from metaloom.learner.scoring import scores
from metaloom.methods import METHOD_CLASSES
from metaloom.system.seeds import Stream, generator
from metaloom.tasks import EpisodeTable
from metaloom.training.checkpoint import State


@pytest.fixture
def short(tiny_settings) -> Settings:
    return shortened(tiny_settings)


MOMENTS = (2, 4, 7, 13)  # before the first checkpoint, as it is written, between two, after the last
QUICK = ("protonet", "maml", "bank")  # the others in `make test-slow`
ONE_BY_ONE = [("protonet", moment) for moment in MOMENTS]
ALL = [(name, moment) for name in METHOD_CLASSES for moment in MOMENTS]


def marks(name: str, moment: int) -> list[pytest.MarkDecorator]:
    """One moment of each method in `make test-slow`, all of them in `make sweep`."""
    return [] if (name, moment) in ONE_BY_ONE else [pytest.mark.slow if moment == 7 else pytest.mark.sweep]


@pytest.fixture(scope="module")
def whole(tiny_settings, tmp_path_factory) -> Callable[[str], State]:
    """The end of an undisturbed run of a method; read it, don't change it."""
    folder, settings = tmp_path_factory.mktemp("whole"), shortened(tiny_settings)
    return cache(lambda name: trainer(name, settings, folder).run())


@pytest.mark.parametrize(("name", "moment"), [pytest.param(*each, marks=marks(*each)) for each in ALL])
def test_a_run_that_is_killed_and_started_again_ends_bit_identical(name, moment, short, whole, tmp_path):
    def kill(step: int, loss: float) -> None:
        if step == moment:
            raise Killed

    with pytest.raises(Killed):
        trainer(name, short, tmp_path, on_step=kill).run()
    seen: list[int] = []
    resumed = trainer(name, short, tmp_path, on_step=lambda step, loss: seen.append(step)).run()
    assert seen[0] == moment // 4 * 4 + 1 if moment > 4 else seen[0] == 1
    assert resumed.history == whole(name).history
    for key, value in tensors_of(whole(name)).items():
        assert torch.equal(value, tensors_of(resumed)[key]), key


def test_a_checkpoint_of_another_run_is_not_resumed_and_a_line_says_so(short, tmp_path, capsys):
    trainer("protonet", short, tmp_path).run()
    seen: list[int] = []
    made = trainer("protonet", short, tmp_path, fingerprint="two", on_step=lambda s, loss: seen.append(s))
    made.run()
    assert seen[0] == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{made.checkpoint} is of other settings, data, code, torch, engine or device: training starts again"
    ]


def test_weights_training_head_and_episodes_have_a_stream_each(short, tmp_path):
    made = trainer("shared", short, tmp_path)
    fresh, weights = made._fresh(), made.learner.method.init(generator(short.seed, Stream.WEIGHTS)).weights
    weights |= made.learner.method.training_weights(generator(0, Stream.TRAINING_WEIGHTS), CLASSES)
    assert weights.keys() == fresh.params.weights.keys()
    for name, weight in weights.items():
        assert torch.equal(weight, fresh.params.weights[name]), name
    assert torch.equal(fresh.generator.get_state(), generator(0, Stream.EPISODES).get_state())


def test_a_validation_that_is_not_finite_stops_with_its_step(short, tmp_path, monkeypatch):
    def broken(*_) -> dict[str, float]:
        return {"accuracy": 0.3, "ci95": 0.1, "nll": float("nan")}

    monkeypatch.setattr("metaloom.training.trainer.accuracy_and_nll", broken)
    with pytest.raises(MetaloomError, match="NLL on the validation episodes is nan at step 4; lower protonet.learning"):
        trainer("protonet", short, tmp_path).run()


def test_a_damaged_checkpoint_is_not_resumed(short, tmp_path):
    (tmp_path / "protonet.safetensors").write_bytes(b"half a checkpoint")
    assert trainer("protonet", short, tmp_path).run().step == 14


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in METHOD_CLASSES]
)
def test_training_learns(name, tiny_settings, tmp_path):
    longer = tiny_settings.method(name).model_copy(update={"steps": 30})
    made = trainer(name, tiny_settings.model_copy(update={name: longer}), tmp_path)
    state = replace(made, settings=made.settings.model_copy(update={"validate_every": 15})).run()
    assert state.best_record["accuracy"] > 0.7


def test_the_best_validation_wins_and_patience_ends_the_run(tiny_settings, tmp_path):
    made = trainer("protonet", tiny_settings, tmp_path)
    state = replace(made, settings=made.settings.model_copy(update={"patience": 1, "validate_every": 1})).run()
    accuracies = [record["accuracy"] for record in state.history]
    assert state.best_record["accuracy"] == max(accuracies)
    assert state.step < tiny_settings.protonet.steps or accuracies[-1] > max(accuracies[:-1])
    assert len(accuracies) - 1 - accuracies.index(max(accuracies)) <= 1


def test_a_time_budget_ends_the_run(tiny_settings, tmp_path):
    made = trainer("protonet", tiny_settings, tmp_path)
    state = replace(made, settings=made.settings.model_copy(update={"max_seconds": 1e-6})).run()
    assert state.step == 1
    assert len(state.history) == 1


def test_a_loss_that_is_not_finite_stops_with_the_step(short, tmp_path):
    made = trainer("protonet", short, tmp_path)
    weights = {k: v * float("nan") for k, v in made.learner.params.weights.items()}
    broken = replace(made.learner, params=replace(made.learner.params, weights=weights))
    with pytest.raises(MetaloomError, match="loss is nan .* at step 1; lower protonet.learning_rate"):
        replace(made, learner=broken).run()


def test_a_gradient_that_is_not_finite_stops_with_its_norm_and_the_last_good_checkpoint(short, tmp_path):
    made = trainer("protonet", short, tmp_path)
    loss_of, steps = made.learner.method.loss, iter(range(1, 100))

    def loss(params, *rest):
        value, params = loss_of(params, *rest)
        if next(steps) == 6:
            value = value + (0 * next(iter(params.weights.values()))).sqrt().sum()  # 0, with a slope of 0 · ∞
        return value, params

    made.learner.method.loss = loss
    with pytest.raises(MetaloomError, match=r"loss is \d\.\d+ and its gradient's norm nan at step 6; lower protonet"):
        made.run()
    seen: list[int] = []
    trainer("protonet", short, tmp_path, on_step=lambda step, loss: seen.append(step)).run()
    assert seen[0] == 5


def test_too_many_ways(short, tmp_path):
    settings = short.model_copy(update={"protonet": short.protonet.model_copy(update={"n_way": 60})})
    with pytest.raises(MetaloomError, match="n_way is 60, .* has 12 classes .* largest that works is 12"):
        trainer("protonet", settings, tmp_path).run()


def test_an_episode_asks_about_other_examples_of_the_classes_that_it_shows(short, tmp_path):
    numbered = np.empty((CLASSES * COUNT, 28, 28, 1), np.uint8)
    numbered[:] = np.arange(CLASSES * COUNT)[:, None, None, None]  # every pixel is the number of its row
    encoding = PictureEncoding.of(numbered)
    made = trainer("protonet", short, tmp_path, examples=torch.from_numpy(numbered))
    made = replace(made, learner=replace(made.learner, encoding=encoding))
    row_of = {float(encoding(torch.from_numpy(each[None]))[0, 0, 14, 14]): row for row, each in enumerate(numbered)}
    episodes = made.draw(torch.Generator().manual_seed(0))
    shown, asked = (
        np.vectorize(lambda value: row_of[float(value)])(x[..., 0, 14, 14].numpy())
        for x in (episodes.support_x, episodes.query_x)
    )
    for support, query in zip(shown, asked, strict=True):
        assert len({*support, *query}) == len(support) + len(query)
        class_of_way = dict(zip(episodes.support_y.tolist(), support // COUNT, strict=True))
        assert [class_of_way[way] for way in episodes.query_y.tolist()] == (query // COUNT).tolist()


def test_drawing_episodes_stays_on_the_device(short, tmp_path):
    train = short.train.model_copy(update={"distortion": 1.0})
    made = turned(trainer("protonet", short, tmp_path, settings=train), rotations=True, mirror=True)
    sampler = replace(made.sampler, first=made.sampler.first.to("meta"), count=made.sampler.count.to("meta"))
    learner = replace(made.learner, params=made.learner.params.to("meta"))
    episodes = replace(made, learner=learner, examples=made.examples.to("meta"), sampler=sampler).draw(None)
    assert all(getattr(episodes, name).is_meta for name in ("support_x", "support_y", "query_x", "query_y"))


def test_scores_by_hand():
    table = EpisodeTable(np.zeros((1, 2, 1), int), np.zeros((1, 2, 2), int))
    probabilities = torch.tensor([[[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.5, 0.5 + 1e-6]]])
    accuracy, nll = scores(probabilities.log(), table)
    assert accuracy.tolist() == [0.75]
    assert nll[0] == pytest.approx(-np.log([0.9, 0.4, 0.8, 0.5]).mean(), rel=1e-4)


@pytest.mark.parametrize("name", METHOD_CLASSES)
def test_a_learner_comes_back_from_disk_the_same(name, short, tmp_path):
    made = trainer(name, short, tmp_path)
    images = images_of_classes()
    labels = np.repeat(["b", "a", "c"], COUNT)
    made.learner.save(tmp_path)
    before, after = (each.adapt(images[:18], labels) for each in (made.learner, Learner.load(tmp_path)))
    assert after.classes == ["a", "b", "c"]
    np.testing.assert_array_equal(before.predict_proba(images[:18]), after.predict_proba(images[:18]))


@pytest.mark.parametrize("name", METHOD_CLASSES)
def test_answers_to_fixed_episodes_are_those_of_adapt(name, short, tmp_path):
    made = trainer(name, short, tmp_path)
    answers = made.learner.answer(made.examples, made.validation)
    support, query = made.validation.support[2], made.validation.query[2]
    adapted = made.learner.adapt(made.examples[support.ravel()], np.repeat(np.arange(3), support.shape[1]))
    np.testing.assert_allclose(
        answers[2].exp().numpy(), adapted.predict_proba(made.examples[query.ravel()]), rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            np.zeros((4, 14, 14, 1), np.uint8),
            [0, 0, 1, 1],
            r"this learner takes uint8 \(support, 28, 28, 1\)",
        ),
        (np.zeros((4, 28, 28, 1), np.float32), [0, 0, 1, 1], "float32"),
        (np.zeros((4, 28, 28, 1), np.uint8), [0, 1], "4 support images with 2 labels"),
        (np.zeros((2, 28, 28, 1), np.uint8), [3, 3], "at least two classes"),
    ],
)
def test_adapt_refuses_what_it_cannot_learn_from(images, labels, message, short, tmp_path):
    with pytest.raises(MetaloomError, match=message):
        trainer("protonet", short, tmp_path).learner.adapt(images, labels)


def test_labels_need_not_be_0_to_n(short, tmp_path):
    images = images_of_classes()[: 2 * COUNT]
    adapted = trainer("protonet", short, tmp_path).learner.adapt(images, [7] * COUNT + [3] * COUNT)
    assert adapted.classes == [3, 7]
    assert np.isfinite(adapted.predict_proba(images)).all()
    assert set(adapted.predict(images)) <= {3, 7}


def test_loading_what_is_damaged_or_of_another_kind(short, tmp_path):
    with pytest.raises(MetaloomError, match="dvc repro train@"):
        Learner.load(tmp_path / "protonet")
    learner = trainer("protonet", short, tmp_path).learner
    learner.save(tmp_path / "made/on/the/way")
    assert Learner.load(tmp_path / "made/on/the/way").config == learner.config
    learner.save(tmp_path)
    text = (tmp_path / "learner.json").read_text()
    (tmp_path / "learner.json").write_text(text.replace('"width": 8', '"width": 16'))
    with pytest.raises(MetaloomError, match="another network"):
        Learner.load(tmp_path)
    (tmp_path / "learner.json").write_text(text.replace('"format": 1', '"format": 9'))
    with pytest.raises(MetaloomError, match="format 9"):
        Learner.load(tmp_path)
    (tmp_path / "learner.json").write_text(text)
    save_file({"biases/0": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(MetaloomError, match="model.safetensors holds biases/0, which no learner has: train again"):
        Learner.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(MetaloomError, match="cannot be read"):
        Learner.load(tmp_path)


def test_the_champion_is_best_on_validation(tmp_path):
    for name, accuracy in (("protonet", 0.8), ("maml", 0.9)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(f'{{"validation": {{"accuracy": {accuracy}}}}}')
    assert champion(tmp_path, ["protonet", "maml"]) == "maml"
    with pytest.raises(MetaloomError, match="dvc repro train@ridge"):
        champion(tmp_path, ["ridge"])


def test_normalisation_shifts_by_the_paper_and_scales_to_unit_deviation():
    rng = np.random.default_rng(0)
    images = np.where(rng.random((50, 8, 8, 1)) < 0.8, 255, rng.integers(0, 255, (50, 8, 8, 1))).astype(np.uint8)
    normalised = PictureEncoding.of(images)(torch.from_numpy(images))
    assert normalised.shape == (50, 1, 8, 8)
    assert float(normalised.mode().values.mode().values.flatten()[0]) == 0
    assert float(normalised.std()) == pytest.approx(1, rel=1e-2)
