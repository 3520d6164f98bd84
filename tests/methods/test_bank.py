"""The bank's method: several members of random weights, each against an oracle of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from metaloom.errors import MetaloomError
from metaloom.kinds.pictures.encode import PictureEncoding
from metaloom.kinds.pictures.kind import Pictures
from metaloom.learner import Learner
from metaloom.learner.scoring import accuracy_and_nll
from metaloom.methods import Episodes, Params
from metaloom.methods.bank import Bank, left_out_nll
from metaloom.methods.protonet import ProtoNet
from metaloom.networks import Conv4
from metaloom.networks.bank import of_member
from metaloom.tasks import EpisodeTable
from metaloom.training.bank.members import calibrated, joined, one_of, with_moments

MEMBERS = 3
NETWORK = Conv4(shape=(1, 28, 28), width=8, norm="batch")
OWN = [
    PictureEncoding(Pictures(28, 1), (shift,), (scale,))
    for shift, scale in ((255.0, 60.0), (200.0, 90.0), (10.0, 40.0))
]
SHARED = PictureEncoding(Pictures(28, 1), (255.0,), (70.0,))


def pixels(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (*shape, 28, 28, 1), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.fixture(scope="module")
def members(settings) -> list[Params]:
    """Banks of one, each with weights of its own and statistics of images of its own."""
    single, found = Bank(NETWORK, settings.bank), []
    for index in range(MEMBERS):
        fresh = single.init(torch.Generator().manual_seed(index))
        x = OWN[index](pixels(40, seed=index))
        _, statistics = single.network(fresh.weights, x)
        found.append(with_moments(single, replace(fresh, statistics=fresh.statistics | statistics), x))
    return found


def bank(members: list[Params], settings, route: str, sharpness: float = 0.7) -> tuple[Bank, Params]:
    params = joined(members, OWN, SHARED)
    params.statistics["router.sharpness"].fill_(sharpness)
    return Bank(NETWORK, settings.bank.model_copy(update={"route": route}), MEMBERS), params


def test_members_whose_inputs_cannot_be_brought_back_are_refused(members, monkeypatch):
    monkeypatch.setattr(PictureEncoding, "inputs_from", lambda self, other: None)
    with pytest.raises(MetaloomError, match="a bank does not take images"):
        joined(members, OWN, SHARED)


def a_task(shots: int, seed: int = 9) -> tuple[Tensor, Tensor, Tensor]:
    """Raw support and query of 4 ways, and the support's labels."""
    return pixels(4 * shots, seed=seed), torch.arange(4).repeat_interleave(shots), pixels(8, seed=seed + 1)


def own_embedding(member: Params, index: int, raw: Tensor) -> np.ndarray:
    """Embedding by one member, with its own network and normalisation, in numpy."""
    statistics = of_member(member.statistics, 0)
    with torch.no_grad():
        return NETWORK(of_member(member.weights, 0), OWN[index](raw), statistics)[0].double().numpy()


def distances(member: Params, index: int, support: Tensor, labels: Tensor, query: Tensor) -> np.ndarray:
    """Squared distances of queries to class means, (query, way)."""
    z, q = own_embedding(member, index, support), own_embedding(member, index, query)
    prototypes = np.stack([z[labels.numpy() == way].mean(axis=0) for way in range(4)])
    return ((q[:, None] - prototypes[None]) ** 2).sum(axis=2)


def away_from_window(member: Params, index: int, support: Tensor) -> float:
    """d² of the router, from the window's images themselves."""
    window, z = (own_embedding(member, index, raw) for raw in (pixels(40, seed=index), support))
    return float(((z.mean(axis=0) - window.mean(axis=0)) ** 2).sum() / window.var(axis=0).sum())


def softmax(x: np.ndarray) -> np.ndarray:
    shifted = np.exp(x - x.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def test_a_bank_of_one_is_a_protonet(settings):
    one, single = Bank(NETWORK, settings.bank), ProtoNet(NETWORK, settings.protonet)
    support, labels, query = a_task(2)
    x, q = SHARED(support), SHARED(query)
    params, expected = (method.init(torch.Generator().manual_seed(0)) for method in (one, single))
    with torch.no_grad():
        answers = [each.adapt(own, x, labels, 4).logits(q) for each, own in ((one, params), (single, expected))]
    torch.testing.assert_close(*answers, rtol=0, atol=0)


def test_mixing_is_the_weighted_sum_of_the_members_logits(members, settings):
    """One shot: the weights are those of the distances to the windows alone."""
    method, params = bank(members, settings, "mix", sharpness=0.7)
    support, labels, query = a_task(1)
    with torch.no_grad():
        model = method.adapt(params, SHARED(support), labels, 4)
        got = model.logits(SHARED(query)).softmax(dim=1)
    away = np.array([away_from_window(member, i, support) for i, member in enumerate(members)])
    shares = softmax(-0.7 * away)
    assert shares.max() < 0.9  # so that there is something to mix
    far = [distances(member, i, support, labels, query) for i, member in enumerate(members)]
    expected = softmax(-sum(share * each for share, each in zip(shares, far, strict=True)))
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("shots", [1, 3])
def test_picking_leaves_one_member_s_weights(shots, members, settings):
    method, params = bank(members, settings, "pick")
    support, labels, query = a_task(shots)
    with torch.no_grad():
        z = method.embed(params, SHARED(support))
        best = int(method.scores(params, z, labels, 4).argmax())
        model = method.adapt(params, SHARED(support), labels, 4)
        got = model.logits(SHARED(query)).softmax(dim=1)
    assert {name: tuple(w.shape) for name, w in model.weights.items()} == {
        name: tuple(w.shape) for name, w in members[best].weights.items()
    }
    assert all(torch.equal(weight, members[best].weights[name]) for name, weight in model.weights.items())
    assert model.network.embed == NETWORK.embed == model.head.weight.shape[1]
    expected = softmax(-distances(members[best], best, support, labels, query))
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-3, atol=1e-5)


def test_the_router_takes_the_member_whose_window_the_support_is_like(members, settings):
    method, params = bank(members, settings, "pick")
    flat = torch.full((4, 28, 28, 1), 255, dtype=torch.uint8)
    flat[:, ::4] = 0
    flat[range(4), range(4)] = 0
    own = Params(members[1].weights, members[1].statistics)
    taught = with_moments(Bank(NETWORK, settings.bank), own, OWN[1](flat))
    params = joined([members[0], taught, members[2]], OWN, SHARED)
    with torch.no_grad():
        scores = method.scores(params, method.embed(params, SHARED(flat)), torch.arange(4), 4)
    assert int(scores.argmax()) == 1
    assert float(scores[1]) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [2, 0, 1, 1, 0, 1], [0, 1, 1, 2, 1], [0, 1, 2]])
def test_leaving_out_is_fitting_again_without(labels, settings):
    y, n_way = torch.tensor(labels), max(labels) + 1
    z = torch.randn(len(labels), 6, generator=torch.Generator().manual_seed(0))
    expected = []
    for j, label in enumerate(labels):
        rest = [i for i in range(len(labels)) if i != j]
        if label not in y[rest]:
            continue
        prototypes = np.stack([z[[i for i in rest if labels[i] == way] or [j]].numpy().mean(0) for way in range(n_way)])
        expected.append(-np.log(softmax(-((z[j].numpy() - prototypes) ** 2).sum(axis=1))[label]))
    got = left_out_nll(ProtoNet(NETWORK, settings.protonet), Params({}, {}), z, y, n_way)
    assert float(got) == pytest.approx(np.mean(expected) if expected else 0.0, rel=1e-4)


@pytest.mark.parametrize("route", ["pick", "mix"])
@pytest.mark.parametrize("shots", [1, 2])
def test_stacked_tasks_are_those_one_by_one(route, shots, members, settings):
    method, params = bank(members, settings, route)
    supports, queries = (
        torch.stack([SHARED(a_task(shots, seed)[place] // (1 + i)) for i, seed in enumerate((3, 20, 40))])
        for place in (0, 2)
    )
    labels = a_task(shots)[1]
    with torch.no_grad():
        together = method.adapt(params, supports, labels, 4).logits(queries)
        each = [
            method.adapt(params, x, labels, 4).logits(q).unsqueeze(0) for x, q in zip(supports, queries, strict=True)
        ]
    torch.testing.assert_close(together, torch.cat(each), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("route", ["pick", "mix"])
def test_a_query_is_answered_alone_as_among_others(route, members, settings):
    method, params = bank(members, settings, route)
    support, labels, query = a_task(2)
    with torch.no_grad():
        model = method.adapt(params, SHARED(support), labels, 4)
        alone = torch.cat([model.logits(SHARED(each[None])) for each in query])
        torch.testing.assert_close(model.logits(SHARED(query)), alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("route", ["pick", "mix"])
def test_no_tensor_of_a_bank_is_made_off_the_device(route, members, settings):
    method, params = bank(members, settings, route)
    params = params.to("meta").detached()
    weights = [weight.requires_grad_() for weight in params.weights.values()]
    support, labels, query = (each.to("meta") for each in a_task(2))
    x, q = torch.empty(len(support), 1, 28, 28, device="meta"), torch.empty(len(query), 1, 28, 28, device="meta")
    assert method.adapt(params, x, labels, 4).logits(q).is_meta
    loss, moved = method.loss(params, Episodes(x[None], labels, x[None], labels, 4))
    loss.backward()
    assert all(weight.grad.is_meta for weight in weights)
    assert all(value.is_meta for value in moved.statistics.values())


def test_members_learn_from_their_own_loss_alone(members, settings):
    """The loss of a bank is the mean of ProtoNet's own, on the pixels that each member is used to."""
    method, params = bank(members, settings, "mix")
    support, labels, query = a_task(2)
    query_y = torch.arange(4).repeat_interleave(2)
    loss, moved = method.loss(params, Episodes(SHARED(support)[None], labels, SHARED(query)[None], query_y, 4))
    losses = []
    for index, member in enumerate(members):
        own = Params(*(of_member(group, 0) for group in (member.weights, member.statistics)))
        episodes = Episodes(OWN[index](support)[None], labels, OWN[index](query)[None], query_y, 4)
        each, after = ProtoNet(NETWORK, settings.protonet).loss(own, episodes)
        losses.append(float(each))
        torch.testing.assert_close(moved.statistics[f"member.{index}.2.mean"], after.statistics["2.mean"])
    assert float(loss) == pytest.approx(np.mean(losses), rel=1e-4)


def test_a_member_comes_out_as_it_went_in(members):
    params = joined(members, OWN, SHARED)
    for index, member in enumerate(members):
        out = one_of(params, index)
        for group in ("weights", "statistics"):
            expected, found = getattr(member, group), getattr(out, group)
            assert expected.keys() == found.keys()
            assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_bank_comes_back_from_disk_and_answers_as_it_adapts(members, settings, tmp_path):
    learner = a_learner(members, settings, "pick")
    learner.save(tmp_path)
    loaded = Learner.load(tmp_path)
    images, table = pixels(30, seed=5), EpisodeTable(np.arange(6).reshape(1, 3, 2), np.arange(6, 15).reshape(1, 3, 3))
    answers = learner.answer(images, table)
    torch.testing.assert_close(loaded.answer(images, table), answers, rtol=0, atol=0)
    adapted = loaded.adapt(images[:6], np.repeat(np.arange(3), 2))
    np.testing.assert_allclose(adapted.predict_proba(images[6:15]), answers[0].exp().numpy(), rtol=1e-3, atol=1e-5)


def a_learner(members: list[Params], settings, route: str) -> Learner:
    method, params = bank(members, settings, route)
    fresh = Learner.create("bank", settings, SHARED)
    config = fresh.config | {"members": [{}] * MEMBERS, "network": fresh.config["network"] | {"width": 8}}
    config["method"] = config["method"] | {"route": route, "norm": NETWORK.norm}
    return replace(fresh, method=method, params=params, config=config)


def test_sharpness_is_the_best_of_those_tried(members, settings):
    learner = a_learner(members, settings, "mix")
    images, rows = pixels(60, seed=6), np.arange(60).reshape(5, 4, 3)
    table = EpisodeTable(rows[:, :, :1], rows[:, :, 1:])
    chosen = calibrated(learner, images, table)
    best = accuracy_and_nll(chosen, images, table)["nll"]
    for sharpness in (0.0, 1.0, 32.0):
        other = replace(learner, params=joined(members, OWN, SHARED))
        other.params.statistics["router.sharpness"].fill_(sharpness)
        assert best <= accuracy_and_nll(other, images, table)["nll"] + 1e-5
