"""Training a bank on three kinds of domains that look nothing like each other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from metaloom.config import Settings
from metaloom.errors import MetaloomError
from metaloom.kinds.pictures.encode import PictureEncoding
from metaloom.learner import Learner
from metaloom.methods.bank import Bank
from metaloom.methods.protonet import prototypes_of
from metaloom.tasks import EpisodeTable
from metaloom.tasks.sampler import EpisodeSampler
from metaloom.training.bank.trainer import BankState, BankTrainer
from metaloom.training.trainer import Trainer

pytestmark = pytest.mark.slow

KINDS = ("blocks", "stripes", "dots")
CLASSES, COUNT, STEPS = 4, 5, 6
OLD = [f"{kind}{number}" for kind in KINDS for number in (1, 2)]
HELD_OUT = [f"{kind}9" for kind in KINDS]


def pictures(domain: str) -> np.ndarray:
    """CLASSES · COUNT pictures of a domain: a pattern for each class, in the manner of the domain's kind."""
    kind = domain.rstrip("0123456789")
    seed = int(domain.removeprefix(kind))
    rng = np.random.default_rng([KINDS.index(kind), seed])
    ink = {
        "blocks": lambda: np.kron(rng.random((7, 7)) < 0.5, np.ones((4, 4))),
        "stripes": lambda: np.repeat(rng.random((28, 1)) < 0.2, 28, axis=1),
        "dots": lambda: rng.random((28, 28)) < 0.03,
    }[kind]
    patterns = np.stack([ink() for _ in range(CLASSES)]).repeat(COUNT, axis=0)
    flipped = rng.random(patterns.shape) < 0.01
    return np.where(np.logical_xor(patterns, flipped), 0, 255).astype(np.uint8)[..., None]


def dataset(domains: list[str]) -> tuple[torch.Tensor, pd.DataFrame]:
    """Images and class table; rows go by domain name, as prepare lays them out."""
    rows = [(f"{domain}/{c}", domain) for domain in sorted(domains) for c in range(CLASSES)]
    table = pd.DataFrame(rows, columns=["class", "domain"])
    table = table.assign(first=np.arange(len(table)) * COUNT, count=COUNT)
    return torch.from_numpy(np.concatenate([pictures(domain) for domain in sorted(domains)])), table


def make_trainer(settings: Settings, folder: Path, domains: list[str], **bank) -> BankTrainer:
    options = {"window": 2, "stride": 2, "n_way": 6, "steps": STEPS} | bank
    settings = settings.model_copy(update={"bank": settings.bank.model_copy(update=options)})
    images, table = dataset(domains + HELD_OUT)
    training = table[table["domain"].isin(domains)]
    rows = np.concatenate([np.arange(f, f + COUNT) for f in table.loc[table["domain"].isin(HELD_OUT), "first"]])
    rows = rows.reshape(len(HELD_OUT), CLASSES, COUNT)
    template = Trainer(
        learner=Learner.create("bank", settings, PictureEncoding.of(images.numpy())),
        examples=images,
        sampler=EpisodeSampler.of(training, 3, 1, torch.device("cpu")),
        validation=EpisodeTable(rows[:, :, :1], rows[:, :, 1:3]),
        settings=settings.train.model_copy(update={"validate_every": 3, "patience": 100}),
        seed=0,
        checkpoint=folder / "checkpoints" / "bank.safetensors",
        fingerprint="",
        code="",
    )
    return BankTrainer(template, training, previous=folder / "model")


def trained(settings: Settings, folder: Path, domains: list[str], **bank) -> BankState:
    """Run as the train stage does: the model is saved in place, checkpoints are discarded."""
    trainer = make_trainer(settings, folder, domains, **bank)
    state = trainer.run()
    (folder / "model").mkdir(exist_ok=True)
    state.learner.save(folder / "model")
    trainer.discard_checkpoint()
    return state


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "model").iterdir())}


def domains_of(state: BankState) -> list[list[str]]:
    return [member["domains"] for member in state.learner.config["members"]]


@pytest.fixture(scope="module")
def first(tiny_settings, tmp_path_factory) -> tuple[Path, BankState]:
    folder = tmp_path_factory.mktemp("first")
    return folder, trained(tiny_settings, folder, OLD)


@pytest.fixture
def copy(first, tmp_path) -> Path:
    """A folder with the first model in it."""
    (tmp_path / "model").mkdir()
    first[1].learner.save(tmp_path / "model")
    return tmp_path


def test_a_window_is_a_kind(first):
    assert domains_of(first[1]) == [[f"{kind}1", f"{kind}2"] for kind in sorted(KINDS)]
    assert first[1].steps_run == first[1].step == len(KINDS) * STEPS
    assert not (first[0] / "checkpoints" / "bank").exists()


@pytest.fixture(scope="module")
def taught(tiny_settings, tmp_path_factory) -> Learner:
    return make_trainer(tiny_settings, tmp_path_factory.mktemp("taught"), OLD, steps=30).run().learner


def routed(learner: Learner, shots: int) -> tuple[list[bool], np.ndarray]:
    """Over 45 domains never seen: whether the router's best is the window of the domain's kind, and the accuracy
    on two queries a class of its best and of that window's network, (domain, 2)."""
    method, params = learner.method, learner.params
    assert isinstance(method, Bank)
    kinds = [member["domains"][0].rstrip("12") for member in learner.config["members"]]
    labels, query_labels = (torch.arange(CLASSES).repeat_interleave(n) for n in (shots, 2))
    right, accuracy = [], []
    for kind, number in ((kind, number) for kind in KINDS for number in range(20, 35)):
        images = torch.from_numpy(pictures(f"{kind}{number}")).unflatten(0, (CLASSES, COUNT))
        together = torch.cat([images[:, :shots].flatten(0, 1), images[:, 3:].flatten(0, 1)])
        support, query = method.embed(params, learner.encoding(together)).split([len(labels), 2 * CLASSES])
        best, own = int(method.scores(params, support, labels, CLASSES).argmax()), kinds.index(kind)
        right.append(best == own)
        z, q = (each.unflatten(1, (len(KINDS), -1)) for each in (support, query))
        answers = [
            torch.cdist(q[:, i], prototypes_of(z[:, i], labels, CLASSES)).argmin(dim=1) == query_labels
            for i in (best, own)
        ]
        accuracy.append([float(each.double().mean()) for each in answers])
    return right, np.array(accuracy)


def test_with_one_shot_the_router_picks_the_window_that_a_new_domain_is_like(taught):
    """A third would be chance; 95% were measured."""
    with torch.no_grad():
        right, _ = routed(taught, shots=1)
    assert np.mean(right) > 0.85, np.mean(right)


def test_with_more_shots_the_router_picks_what_solves_the_task(taught):
    """It need not be the window that is most alike: 85% against 80% right were measured."""
    with torch.no_grad():
        _, accuracy = routed(taught, shots=2)
    best, own = accuracy.mean(axis=0)
    assert best > own


def test_a_new_domain_retrains_its_own_window_alone(first, copy, tiny_settings):
    """And the bank has the bits of one whose networks were all trained from the start."""
    state = trained(tiny_settings, copy, [*OLD, "dots3"])
    before, after = (
        {m["fingerprint"]: m["domains"] for m in each.learner.config["members"]} for each in (first[1], state)
    )
    new = [after[fingerprint] for fingerprint in after.keys() - before.keys()]
    assert new and all("dots3" in domains for domains in new)
    assert [d for d in domains_of(state) if "dots3" not in d and not d[0].startswith("dots")] == [
        ["blocks1", "blocks2"],
        ["stripes1", "stripes2"],
    ]
    assert state.steps_run == len(new) * STEPS < state.step
    afresh = copy / "afresh"
    afresh.mkdir()
    trained(tiny_settings, afresh, [*OLD, "dots3"])
    assert files(afresh) == files(copy)


def test_nothing_is_trained_again_for_how_the_bank_is_put_together(first, copy, tiny_settings):
    assert trained(tiny_settings, copy, OLD, route="pick").steps_run == 0
    assert json.loads((copy / "model" / "learner.json").read_text())["method"]["route"] == "pick"
    assert trained(tiny_settings, copy, OLD, stride=1).steps_run == 0
    assert trained(tiny_settings, copy, OLD, learning_rate=0.001).steps_run == len(KINDS) * STEPS


def test_other_code_or_pixels_are_another_network(copy, tiny_settings):
    trainer = make_trainer(tiny_settings, copy, OLD)
    prints = [plan.fingerprint for plan in trainer.plans()]
    assert prints == [plan.fingerprint for plan in make_trainer(tiny_settings, copy, OLD).plans()]
    images = trainer.template.examples.clone()
    images[0, 0, 0, 0] ^= 1  # of blocks1
    changed = replace(trainer, template=replace(trainer.template, examples=images))
    assert [a == b.fingerprint for a, b in zip(prints, changed.plans(), strict=True)] == [False, True, True]
    changed = replace(trainer, template=replace(trainer.template, code="changed"))
    assert not set(prints) & {plan.fingerprint for plan in changed.plans()}


def test_a_previous_model_that_cannot_be_read_is_no_help_and_no_harm(first, copy, tiny_settings):
    (copy / "model" / "model.safetensors").write_bytes(b"half")
    assert trained(tiny_settings, copy, OLD).steps_run == len(KINDS) * STEPS
    assert files(copy) == files(first[0])


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    "moment", [STEPS + 4, *(pytest.param(moment, marks=pytest.mark.slow) for moment in (2, STEPS, 3 * STEPS))]
)
def test_a_run_that_is_killed_keeps_its_networks_and_ends_bit_identical(moment, first, tmp_path, tiny_settings):
    seen: list[float] = []

    def kill(step: int, loss: float) -> None:
        seen.append(loss)
        if len(seen) == moment:
            raise Killed

    trainer = make_trainer(tiny_settings, tmp_path, OLD)
    with pytest.raises(Killed):
        replace(trainer, template=replace(trainer.template, on_step=kill)).run()
    again: list[float] = []
    resumed = replace(trainer, template=replace(trainer.template, on_step=lambda _, loss: again.append(loss)))
    state = resumed.run()
    finished = (moment - 1) // STEPS * STEPS + (moment - 1) % STEPS // 3 * 3  # by the last checkpoint before
    assert len(again) == len(KINDS) * STEPS - finished
    (tmp_path / "model").mkdir()
    state.learner.save(tmp_path / "model")
    assert files(tmp_path) == files(first[0])


def test_the_curve_is_that_of_all_networks_and_ends_with_the_bank_s(first, copy, tiny_settings):
    records: list[dict] = []
    trainer = make_trainer(tiny_settings, copy, OLD)
    state = replace(trainer, template=replace(trainer.template, on_validation=records.append)).run()
    assert [r["step"] for r in records] == [3, 6, 9, 12, 15, 18, 18]
    assert records[-1] == state.best_record == first[1].best_record


def test_members_see_their_own_pixels(first):
    """Each is normalised as its window was, however the bank is."""
    learner, (images, table) = first[1].learner, dataset(OLD)
    for index, member in enumerate(learner.config["members"]):
        own = table[table["domain"].isin(member["domains"])]
        raw = images[own["first"].min() : own["first"].max() + COUNT]
        normalisation = PictureEncoding.of(raw.numpy())
        gain, bias = (learner.params.statistics[name][index] for name in ("input.gain", "input.bias"))
        x = learner.encoding(raw) * gain[:, None, None] + bias[:, None, None]
        torch.testing.assert_close(x, normalisation(raw), rtol=1e-4, atol=1e-4)


def test_too_few_classes_in_a_window(tiny_settings, tmp_path):
    with pytest.raises(MetaloomError, match=r"n_way is 9, but the window blocks1, blocks2 has 8 classes .*n_way to 8"):
        make_trainer(tiny_settings, tmp_path, OLD, n_way=9).run()


def test_too_few_domains(tiny_settings, tmp_path):
    with pytest.raises(MetaloomError, match="bank.window is 7, but the training split has 6"):
        make_trainer(tiny_settings, tmp_path, OLD, window=7).run()
