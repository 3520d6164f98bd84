"""What the methods that adapt by gradient descent share: the first step, every other one, the task model, β.

Every class counts as much as any other, however many labelled examples it has: with plain means over the examples, a
task with 1, 2, 3, 7 and 12 of them ends in a model that always answers the largest class.

The head starts at zero, as in Kao, Chiu, Chen: MAML is a Noisy Contrastive Learner, 2022
(https://arxiv.org/abs/2106.15367). To serve any number of ways a start must be the same for every class (Ye, Chao:
How to Train Your MAML to Excel in Few-Shot Classification, 2022, https://arxiv.org/abs/2106.16245), and all that
share it predict the same: softmax ignores what the classes have in common, at every step. At such a head the
network has no gradient, and the head's is known in closed form: the first step moves the head alone, exactly.

One inner rate serves embeddings of any length: the gradient of the head's weight, which multiplies them, comes times
`metaloom.methods.model.of_length`. That is plain descent on a head over embeddings times the root of that.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from metaloom.config import GradientSettings
from metaloom.methods.model import Head, TaskModel, class_weights, of_length, one_hot
from metaloom.networks import Network, Tensors
from metaloom.networks.gpu import Descended
from metaloom.networks.layers import beyond_cpu

HEAD = ("head.weight", "head.bias")  # beside the network's weights while a task is learned


def first_gradients(
    z: Float[Tensor, "*task support embed"], labels: Int[Tensor, " support"], seen: Bool[Tensor, " n_way"]
) -> dict[str, Tensor]:
    """Gradients of each task's mean NLL at a head of zeros, where every class of the task has the same probability;
    that of the weight times `of_length`."""
    member = one_hot(labels, len(seen)).to(z.dtype)
    weight = class_weights(labels, len(seen), z.dtype)[labels, None]
    excess = (seen.to(z.dtype) / seen.sum() - member) * weight / labels.shape[0]
    return {
        "head.weight": of_length(z.shape[-1]) * (excess.mT @ z),
        "head.bias": excess.sum(dim=0).expand(*z.shape[:-2], -1),
    }


def nll_and_gradients(
    network: Network,
    weights: Tensors,
    x: Float[Tensor, ...],
    labels: Int[Tensor, " item"],
    *,
    twice: bool,
    generator: torch.Generator | None = None,
) -> tuple[Float[Tensor, ""], Tensors]:
    """Mean NLL over the items, in which classes count alike, and its gradients for the network and the head; both are
    summed over tasks, that of the head's weight times `of_length`.

    Args:
        network: the shared one.
        weights: each with an axis for the tasks where x has one.
        x: normalised examples.
        labels: the same in every task.
        twice: the gradients are going to be differentiated; if not they come without a graph.
        generator: turns dropout on.
    """
    with torch.enable_grad():
        leaves = {  # after the first step the head's bias hangs on nothing that is learned
            name: weight if twice and weight.requires_grad else weight.detach().requires_grad_()
            for name, weight in weights.items()
        }
        embedding, _ = network(leaves, x, twice=twice, generator=generator)
        logits = head_of(leaves).logits(embedding).flatten(0, -2)
        weight = class_weights(labels, logits.shape[-1], logits.dtype)
        of_tasks = labels.repeat(logits.shape[0] // labels.shape[0])
        nll = F.cross_entropy(logits, of_tasks, weight, reduction="sum")
        nll = nll / labels.shape[0]
        found = torch.autograd.grad(nll, list(leaves.values()), create_graph=twice)
        gradients = dict(zip(leaves, found, strict=True))
        gradients["head.weight"] = of_length(embedding.shape[-1]) * gradients["head.weight"]
    return nll, gradients


def descended(weights: Tensors, gradients: Tensors, rates: Tensors, rate: float) -> Tensors:
    """One step down the gradients: at the `rates` that are given, by name, and at `rate` where none is."""
    if not rates and beyond_cpu(next(iter(weights.values()))):
        own = (gradients[name] for name in weights)
        return dict(zip(weights, Descended.apply(rate, *weights.values(), *own), strict=True))
    return {name: weight - rates.get(name, rate) * gradients[name] for name, weight in weights.items()}


def stacked(weights: Tensors, lead: torch.Size) -> Tensors:
    """The shared weights with an axis for the tasks, if there is one."""
    return {name: weight.expand(*lead, *weight.shape) for name, weight in weights.items()}


def head_of(weights: Tensors) -> Head:
    """The head among the weights."""
    return Head(*(weights[name] for name in HEAD))


def task_model(network: Network, weights: Tensors, support_x: Float[Tensor, ...]) -> TaskModel:
    """Adapted weights as a model; batch norm keeps the support set's statistics for the queries."""
    body = {name: weight for name, weight in weights.items() if name not in HEAD}
    statistics = {}
    if network.norm == "batch":
        _, statistics = network(body, support_x, twice=torch.is_grad_enabled())
    return TaskModel(network, body, statistics, head_of(weights))


def interpolated(shared: Tensors, adapted: Tensors, settings: GradientSettings) -> Tensors:
    """W_task ← W_model + β · (W_task - W_model): 0 is the shared model, 1 is plain adaptation.

    Args:
        shared: the weights before adaptation; those that are not there started at zero.
        adapted: the same after it.
        settings: their β; "auto" is 1 until a value has been chosen. While autograd records it is 1 too, as β is
            a matter of adapting outside training.
    """
    if torch.is_grad_enabled() or settings.beta in ("auto", 1.0):
        return adapted
    starts = {name: shared.get(name, torch.zeros_like(weight)) for name, weight in adapted.items()}
    return {name: starts[name] + settings.beta * (weight - starts[name]) for name, weight in adapted.items()}
