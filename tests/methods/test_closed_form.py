"""ProtoNet's temperature and ridge regression, against the formula and scikit-learn."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.utils.class_weight import compute_sample_weight

from metaloom.methods import Episodes, Head, build_method, embedding
from metaloom.methods.protonet import excess_of_fit
from metaloom.methods.ridge import ridge_solution
from metaloom.networks import Conv4

NETWORK = Conv4(shape=(1, 28, 28), width=8, norm="batch")


def method_of(name: str, settings, norm: str = "batch", **changes):
    network = replace(NETWORK, norm=norm)
    method = build_method(name, network, settings.method(name).model_copy(update={"norm": norm} | changes))
    return method, method.init(torch.Generator().manual_seed(0))


def embeddings(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def heads(method, params, z: torch.Tensor, y: torch.Tensor) -> Head:
    weights = {name: weight.double() for name, weight in params.weights.items()}
    return method.head(type(params)(weights, params.statistics), z, y, 3)


@pytest.mark.parametrize("items", [4, 8, 30])  # fewer than, as many as and more than the embedding is long
@pytest.mark.parametrize("regularisation", [0.1, 10.0])
def test_ridge_is_scikit_learn_s_for_every_stacked_task(items, regularisation):
    x, y = embeddings(2, items, 8), embeddings(items, 3)
    got = ridge_solution(x, y, torch.tensor(regularisation, dtype=torch.float64))
    for task in range(2):
        expected = SklearnRidge(alpha=regularisation, fit_intercept=False).fit(x[task].numpy(), y.numpy())
        np.testing.assert_allclose(got[task].numpy(), expected.coef_.T, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("items", [4, 9])
def test_ridge_s_gradient_by_finite_differences(items):
    x, y, log = embeddings(items, 6).requires_grad_(), embeddings(items, 2), torch.tensor(0.3, dtype=torch.float64)
    log.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, log: ridge_solution(x, y, log.exp()), (x, log))


def test_ridge_s_head_scales_the_answers_to_one_hot_targets(tiny_settings):
    method, params = method_of("ridge", tiny_settings, regularisation=0.7)
    z, query, y = embeddings(6, 8), embeddings(5, 8), torch.tensor([2, 0, 1, 1, 0, 2])
    head = heads(method, params, z, y)
    expected = SklearnRidge(alpha=0.7, fit_intercept=False).fit(z.numpy(), np.eye(3)[y.numpy()]).predict(query.numpy())
    alpha = math.exp(float(params.weights["ridge.scale"]))
    np.testing.assert_allclose(head.logits(query).numpy(), alpha * expected, rtol=1e-6)


def test_ridge_counts_classes_alike_and_takes_embeddings_of_any_length(tiny_settings):
    """scikit-learn with balanced weights; of four times the papers' 64 numbers products count a quarter."""
    method, params = method_of("ridge", tiny_settings, regularisation=0.7)
    z, query, y = embeddings(7, 256), embeddings(5, 256), torch.tensor([2, 0, 1, 1, 2, 2, 2])
    targets, weight = np.eye(3)[y.numpy()], compute_sample_weight("balanced", y.numpy())
    model = SklearnRidge(alpha=4 * 0.7, fit_intercept=False).fit(z.numpy(), targets, sample_weight=weight)
    alpha = math.exp(float(params.weights["ridge.scale"]))
    got = (query @ heads(method, params, z, y).weight.mT).numpy()
    np.testing.assert_allclose(got, alpha * model.predict(query.numpy()), rtol=1e-6)


def excess(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The variance inside classes, as scikit-learn's ANOVA has it, times what each class has of 1/examples beside the
    class with most."""
    count = np.bincount(y)
    means = np.stack([z[y == way].mean(axis=0) for way in range(len(count))])
    inside = ((z - means[y]) ** 2).sum() / (len(y) - len(count))
    return inside * (1 / count - 1 / count.max())


def test_ridge_gives_classes_of_few_examples_half_of_what_their_scores_lack(tiny_settings):
    """Coefficients of the examples by scikit-learn's kernel ridge regression."""
    method, params = method_of("ridge", tiny_settings, regularisation=0.7)
    z, y = embeddings(7, 128), np.array([2, 0, 1, 1, 2, 2, 2])
    weight = compute_sample_weight("balanced", y)
    dual = KernelRidge(alpha=2 * 0.7).fit(z.numpy(), np.eye(3)[y], sample_weight=weight).dual_coef_
    reach = math.exp(float(params.weights["ridge.scale"])) * dual[np.arange(7), y].sum() / 3
    head = heads(method, params, z, torch.from_numpy(y))
    np.testing.assert_allclose(head.bias.numpy(), reach / 2 * excess(z.numpy(), y), rtol=1e-6)
    assert head.bias[0] > head.bias[1] > head.bias[2] == 0
    assert (heads(method, params, z[:6], torch.arange(3).repeat(2)).bias == 0).all()


def test_shared_counts_classes_alike_and_gives_those_of_few_examples_half_of_what_their_scores_lack(tiny_settings):
    """The head is fitted here by its examples' coefficients, whose sum is the bias before the excess."""
    method, params = method_of("shared", tiny_settings, inner_steps=5)
    z, y = embeddings(7, 8), np.array([2, 0, 1, 1, 2, 2, 2])
    alike, targets = compute_sample_weight("balanced", y), np.eye(3)[y]
    unit = z.numpy() / np.sqrt(((z.numpy() ** 2).sum(axis=1) * alike).mean())
    dual, rate = np.zeros((7, 3)), method.settings.inner_rate * 3 / 5
    for _ in range(5):
        logits = unit @ unit.T @ dual + dual.sum(axis=0)
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        dual -= rate * (shares - targets) * alike[:, None] / 7
    head = heads(method, params, z, torch.from_numpy(y))
    length = float(z[0, 0]) / unit[0, 0]
    np.testing.assert_allclose(head.weight.numpy(), (unit.T @ dual).T / length, rtol=1e-6)
    given = dual[np.arange(7), y].sum() / 3 / 2 * excess(unit, y)
    np.testing.assert_allclose(head.bias.numpy(), dual.sum(axis=0) + given, rtol=1e-6)
    assert given[0] > given[1] > given[2] == 0


def test_of_prototypes_the_excess_of_a_fit_is_their_own():
    z, y = embeddings(2, 7, 6), torch.tensor([2, 0, 1, 1, 2, 2, 2])
    got = excess_of_fit(torch.full((2,), 2.0, dtype=z.dtype), z, y, 3)
    expected = np.stack([excess(task.numpy(), y.numpy()) for task in z])
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6)


def test_a_prototype_of_few_examples_is_no_farther_on_the_average_than_one_of_many(tiny_settings):
    """Support sets drawn 20,000 times around the same centres: in the middle the answers are those of the centres."""
    method, params = method_of("protonet", tiny_settings)
    y = torch.tensor([0, 1, 1, 2, 2, 2, 2, 2, 2])
    centres = embeddings(3, 6)
    logits = heads(method, params, centres[y] + embeddings(20_000, len(y), 6), y).bias  # of a query at zero
    got = logits - logits.mean(dim=1, keepdim=True)
    expected = -centres.square().sum(dim=1)
    np.testing.assert_allclose(got.mean(dim=0), expected - expected.mean(), atol=6 * float(got.std()) / 20_000**0.5)


@pytest.mark.parametrize("temperature", ["fixed", "learned"])
def test_the_head_of_training_is_the_same_to_the_bit(tiny_settings, temperature):
    """It takes all classes to have as many examples, which saves what would be added as zero."""
    method, params = method_of("protonet", tiny_settings, temperature=temperature)
    z, y = embeddings(2, 6, 6).float(), torch.tensor([0, 0, 1, 1, 2, 2])
    assert all(map(torch.equal, method.balanced_head(params, z, y, 3), method.head(params, z, y, 3)))


def test_ridge_gives_nan_for_nan_so_that_the_trainer_can_say_what_to_do():
    x = torch.full((4, 8), math.nan)
    assert ridge_solution(x, torch.eye(4), torch.tensor(1.0)).isnan().all()


def test_a_learned_temperature_is_a_factor_on_the_squared_distances(tiny_settings):
    method, params = method_of("protonet", tiny_settings, temperature="learned")
    params.weights["temperature"] += math.log(0.25)
    z, query, y = embeddings(6, 8), embeddings(5, 8), torch.tensor([2, 0, 1, 1, 0, 2])
    got = heads(method, params, z, y).logits(query).softmax(dim=1)
    prototypes = torch.stack([z[y == way].mean(dim=0) for way in range(3)])
    torch.testing.assert_close(got, (-0.25 * torch.cdist(query, prototypes).square()).softmax(dim=1))


def test_the_learned_temperature_starts_as_the_fixed_one_and_learns(tiny_settings):
    z, y = embeddings(6, 8), torch.tensor([2, 0, 1, 1, 0, 2])
    fixed, fixed_params = method_of("protonet", tiny_settings, temperature="fixed")
    learned, params = method_of("protonet", tiny_settings, temperature="learned")
    assert set(params.weights) - set(fixed_params.weights) == {"temperature"}
    for one, other in zip(heads(fixed, fixed_params, z, y), heads(learned, params, z, y), strict=True):
        assert torch.equal(one, other)

    def loss(log: torch.Tensor) -> torch.Tensor:
        own = type(params)(params.weights | {"temperature": log}, params.statistics)
        return learned.head(own, z, y, 3).logits(z).logsumexp(dim=1).mean()

    assert torch.autograd.gradcheck(loss, torch.tensor(0.2, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("wide", [0, 1024])
@pytest.mark.parametrize("name", ["protonet", "ridge", "anil", "maml"])
def test_taking_turns_is_the_mean_over_episodes_with_another_part_as_support(tiny_settings, name, wide, monkeypatch):
    """Three ways of four examples, two of them support; stood class by class."""
    monkeypatch.setattr(embedding, "WIDE", wide)
    images = torch.rand(2, 3, 4, 1, 28, 28, generator=torch.Generator().manual_seed(3))
    ways, norm = torch.arange(3).repeat_interleave(2), "group" if name == "maml" else "batch"

    def loss(take_turns: bool, order: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        method, params = method_of(name, tiny_settings, norm, take_turns=take_turns)
        assert method.takes_turns == take_turns
        conv = params.weights["0.conv"].requires_grad_()
        support, query = (images[:, :, part].flatten(1, 2) for part in (order[:2], order[2:]))
        result, _ = method.loss(params, Episodes(support, ways, query, ways, 3))
        return result.detach(), torch.autograd.grad(result, conv)[0]

    each = [loss(False, order) for order in ([0, 1, 2, 3], [3, 0, 1, 2], [2, 3, 0, 1], [1, 2, 3, 0])]
    for got, expected in zip(loss(True, [0, 1, 2, 3]), zip(*each, strict=True), strict=True):
        torch.testing.assert_close(got, torch.stack(expected).mean(dim=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("norm", "steps"), [("group", 2), ("batch", 1)])
def test_maml_takes_no_turns_where_a_task_changes_the_network_or_its_statistics(tiny_settings, norm, steps):
    method, _ = method_of("maml", tiny_settings, norm, inner_steps=steps, take_turns=True)
    assert not method.takes_turns
