"""What the methods share that adapt by gradient descent: the start, β, and its choice."""

from __future__ import annotations

import json
import sys

import pytest
import torch
import torch.nn.functional as F
from balanced import balanced_nll
from projects import run_here
from starts import HEADS, first_layer
from tiny_methods import a_task, method_of
from trainers import trainer

from metaloom.learner import Learner
from metaloom.learner.scoring import accuracy_and_nll
from metaloom.methods import Head, build_method
from metaloom.methods.gradient import first_gradients
from metaloom.networks import Conv4
from metaloom.training.selection import BETAS, choose_beta, wants_beta

GRADIENT_METHODS = ["maml", "anil", "reptile"]


def test_the_first_gradients_are_autograd_s():
    z, labels = torch.randn(2, 6, 4), torch.tensor([0, 2, 1, 1, 0, 0])
    start = Head(torch.randn(2, 3, 4), torch.randn(2, 3))
    got = first_gradients(start, z, labels)
    for task in range(2):
        head = torch.nn.Linear(4, 3)
        head.weight.data, head.bias.data = start.weight[task], start.bias[task]
        balanced_nll(head(z[task]), labels).backward()
        torch.testing.assert_close(got["head.weight"][task], head.weight.grad)
        torch.testing.assert_close(got["head.bias"][task], head.bias.grad)


@pytest.mark.parametrize("side", [28, 64])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", GRADIENT_METHODS)
def test_inner_steps_are_sgd_s_on_embeddings_as_long_as_the_papers(name, head, side, tiny_settings):
    """Embeddings are 512 numbers at 64 pixels: a layer on embeddings times the root of 64/512 goes as far as one on 64.
    The first step moves the head alone."""
    options = {"norm": "group", "inner_steps": 3, "inner_rate": 0.02, "head": head}
    settings = tiny_settings.method(name).model_copy(update=options)
    network = Conv4(shape=(1, side, side), width=32, norm="group")
    method = build_method(name, network, settings)
    params = method.init(torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    x, query = (torch.randn(n, 1, side, side, generator=generator) for n in (6, 4))
    y = torch.tensor([0, 1, 1, 2, 2, 2] if head == "zero" else [0, 1, 2, 0, 1, 2])
    with torch.no_grad():
        got = method.adapt(params, x, y, 3).logits(query)
    body = {key: weight.clone().requires_grad_() for key, weight in params.weights.items() if key[0].isdigit()}
    scale = min(1.0, 64 / network.embed) ** 0.5
    layer = first_layer(head, scale * network(body, x)[0], y)
    rate = 0.02 if name == "maml" else 0.02 * 3 / 5  # three ways: as far as five
    optimiser = torch.optim.SGD([{"params": layer.parameters(), "lr": rate}, {"params": body.values(), "lr": 0.0}])
    for _ in range(3):
        optimiser.zero_grad()
        balanced_nll(layer(scale * network(body, x)[0]), y).backward()
        optimiser.step()
        optimiser.param_groups[1]["lr"] = 0.0 if name == "anil" else 0.02
    torch.testing.assert_close(got, layer(scale * network(body, query)[0]).detach(), rtol=1e-3, atol=1e-3)


def test_a_start_that_all_classes_share_changes_no_prediction():
    """Why the head starts at zero: SGD on a copy of a whole network, from both starts."""
    torch.manual_seed(0)
    x, y, query = torch.randn(6, 5).double(), torch.tensor([0, 1, 2, 0, 1, 2]), torch.randn(4, 5).double()
    body = torch.nn.Linear(5, 4).double()
    answers = []
    for start in (torch.zeros(4), torch.randn(4)):
        net = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3)).double()
        net[0].load_state_dict(body.state_dict())
        net[2].weight.data = start.double().repeat(3, 1)
        net[2].bias.data.zero_()
        optimiser = torch.optim.SGD(net.parameters(), lr=0.3)
        for _ in range(4):
            optimiser.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimiser.step()
        answers.append(net(query).softmax(dim=1))
    torch.testing.assert_close(*answers, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", GRADIENT_METHODS)
def test_beta_interpolates_between_the_shared_model_and_the_adapted_one(name, head, tiny_settings):
    support_x, support_y, _, _ = a_task()
    models = {}
    for beta in (0.0, 0.5, 1.0, "auto"):
        method, params = method_of(name, tiny_settings, "group", beta=beta, inner_steps=2, head=head)
        with torch.no_grad():
            models[beta] = method.adapt(params, support_x, support_y, 3)
    for key, plain in models[1.0].weights.items():
        assert torch.equal(plain, models["auto"].weights[key])
        torch.testing.assert_close(models[0.0].weights[key], params.weights[key])
        torch.testing.assert_close(models[0.5].weights[key], (plain + params.weights[key]) / 2)
    with torch.no_grad():
        start = first_layer(head, method.network(params.weights, support_x)[0], support_y)
    torch.testing.assert_close(models[0.0].head, Head(start.weight.data, start.bias.data))
    torch.testing.assert_close(models[0.5].head.weight, (models[1.0].head.weight + start.weight.data) / 2)
    moved = [not torch.equal(models[1.0].weights[key], params.weights[key]) for key in models[1.0].weights]
    assert any(moved) == (name != "anil")


@pytest.mark.parametrize("name", GRADIENT_METHODS)
def test_prototypes_of_uneven_classes_are_protonet_s(name, tiny_settings):
    """With what a mean of few examples is farther from everything, and a class that has none."""
    x, y, query_x, _ = a_task()
    rows, places = [0, 1, 2, 3, 4], torch.tensor([0, 2, 3])
    answers = []
    for each, options in (("protonet", {}), (name, {"head": "prototypes", "beta": 0.0})):
        method, params = method_of(each, tiny_settings, "group", **options)
        with torch.no_grad():
            answers.append(method.adapt(params, x[rows], places[y[rows]], 4).logits(query_x))
    torch.testing.assert_close(*answers)
    assert (answers[1].softmax(dim=1)[:, 1] == 0).all()


@pytest.mark.parametrize("name", GRADIENT_METHODS)
def test_beta_leaves_training_alone(name, tiny_settings):
    support_x, support_y, query_x, _ = a_task()
    answers = []
    for beta in (0.5, 1.0):
        method, params = method_of(name, tiny_settings, "group", beta=beta, inner_steps=2)
        answers.append(method.adapt(params, support_x, support_y, 3).logits(query_x))
    torch.testing.assert_close(*answers)


@pytest.mark.parametrize("name", GRADIENT_METHODS)
def test_nothing_hangs_on_a_graph_outside_training(name, tiny_settings):
    support_x, support_y, _, _ = a_task()
    method, params = method_of(name, tiny_settings, inner_steps=2)
    params = params.detached()
    for weight in params.weights.values():
        weight.requires_grad_()
    with torch.no_grad():
        model = method.adapt(params, support_x, support_y, 3)
    assert model.head.weight.grad_fn is None
    assert all(tensor.grad_fn is None for tensor in (model.weights | model.statistics).values())


def test_the_best_beta_on_validation_is_chosen_and_kept(tiny_settings, tmp_path):
    """A rate that is far too large, so that less than a whole step is better."""
    settings = tiny_settings.maml.model_copy(update={"beta": "auto", "inner_steps": 2, "inner_rate": 20.0})
    made = trainer("maml", tiny_settings.model_copy(update={"maml": settings}), tmp_path)
    assert wants_beta(made.learner)
    chosen, found = choose_beta(made.learner, made.examples, made.validation)
    best = min(found["tried"].values(), key=lambda scores: (-scores["accuracy"], scores["nll"]))
    assert list(found["tried"]) == [str(beta) for beta in BETAS]
    assert found["tried"][str(found["chosen"])] == best
    assert found["chosen"] < 1
    assert accuracy_and_nll(chosen, made.examples, made.validation) == best
    chosen.save(tmp_path)
    loaded = Learner.load(tmp_path)
    assert loaded.config["method"]["beta"] == found["chosen"] == loaded.method.settings.beta
    assert not wants_beta(loaded)


@pytest.mark.slow
def test_the_stage_writes_the_chosen_beta(make):
    root = make({"maml.beta": "auto", "maml.inner_steps": 2, "maml.steps": 2, "episodes.validation": 4})
    for stage, *arguments in (
        ("prepare", "data", "dataset"),
        ("plan", "dataset", "budget.yaml", "plan.json", "splits.yaml"),
        ("split", "dataset", "plan.json", "splits.yaml", "splits"),
        ("train", "maml", "dataset", "splits", "plan.json", "model", "metrics.json"),
    ):
        run_here(root, sys.executable, "-m", f"metaloom.stages.{stage}", *arguments)
    metrics, learner = (json.loads((root / "model" / name).read_text()) for name in ("metrics.json", "learner.json"))
    beta = metrics["beta"]
    assert learner["method"]["beta"] == beta["chosen"] in BETAS
    scores = beta["tried"][str(beta["chosen"])]
    for name in ("accuracy", "nll"):
        assert metrics["validation"][name] == scores[name]
    assert metrics["validation"]["looks"] == 1 + len(BETAS) and "ci95" not in metrics["validation"]
    shown = json.loads((root / "metrics.json").read_text())["accuracy"]
    assert shown == pytest.approx(scores["accuracy"], abs=5e-4) and len(str(shown)) <= 5
