"""What the methods that adapt by gradient descent share: the first step, every other one, the task model, β.

Every class counts as much as any other, however many labelled examples it has: with plain means over the examples, a
task with 1, 2, 3, 7 and 12 of them ends in a model that always answers the largest class.

A head for any number of ways cannot be learned, and starts in one of two places.

`head: prototypes`: nearest prototypes under the shared network (`metaloom.methods.protonet`), as Proto-MAML in
Triantafillou et al.: Meta-Dataset: A Dataset of Datasets for Learning to Learn from Few Examples, 2020
(https://arxiv.org/abs/1903.03096), section 3: w_k = 2·c_k and b_k = -‖c_k‖². This start has used all examples before
any step, so that few steps are enough for many ways and many shots. Gradients flow through it, also where second
derivatives are dropped. We deviate in one place: the first step moves the head alone, so that with one step the
network stays as it is, and examples are embedded once.

`head: zero`, as in Kao, Chiu, Chen: MAML is a Noisy Contrastive Learner, 2022 (https://arxiv.org/abs/2106.15367). All
starts that the classes share (Ye, Chao: How to Train Your MAML to Excel in Few-Shot Classification, 2022,
https://arxiv.org/abs/2106.16245) predict the same: softmax ignores what the classes have in common, at every step. At
such a head the network has no gradient: that the first step moves the head alone is exact.

One inner rate serves embeddings of any length: the gradient of the head's weight, which multiplies them, comes times
`metaloom.methods.model.of_length`. That is plain descent on a head over embeddings times the root of that.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from metaloom.config import GradientSettings, StartSettings
from metaloom.methods.head_fit import head_gradients
from metaloom.methods.model import Head, TaskModel, blank_head, class_weights, of_length, one_hot
from metaloom.methods.protonet import prototype_head
from metaloom.networks import Network, Tensors
from metaloom.networks.gpu import Descended
from metaloom.networks.layers import beyond_cpu

HEAD = ("head.weight", "head.bias")  # beside the network's weights while a task is learned


def first_head(
    settings: StartSettings, z: Float[Tensor, "*task _ embed"], labels: Int[Tensor, " _"], n_way: int
) -> Head:
    """The head before any step; that of zeros is one for all tasks, and needs no embedding of every label."""
    return (prototype_head if settings.head == "prototypes" else blank_head)(z, labels, n_way)


def first_gradients(head: Head, z: Float[Tensor, "*task support embed"], labels: Int[Tensor, " support"]) -> Tensors:
    """Gradients of each task's mean NLL for its head alone; that of the weight times `of_length`."""
    found = head_gradients(head, z, labels)
    return dict(zip(HEAD, (of_length(z.shape[-1]) * found.weight, found.bias), strict=True))


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
        logits = head_of(leaves).logits(embedding)
        nll = balanced_nll(logits, labels)
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


def balanced_nll(logits: Float[Tensor, "*task item n_way"], labels: Int[Tensor, " item"]) -> Float[Tensor, ""]:
    """Mean NLL over the items, in which classes count alike, summed over tasks."""
    logits = logits.flatten(0, -2)
    weight = class_weights(one_hot(labels, logits.shape[-1]), logits.dtype)
    of_tasks = labels.repeat(logits.shape[0] // labels.shape[0])
    return F.cross_entropy(logits, of_tasks, weight, reduction="sum") / labels.shape[0]


def stacked(weights: Tensors, lead: torch.Size) -> Tensors:
    """The shared weights with an axis for the tasks, if there is one."""
    return {name: weight.expand(*lead, *weight.shape) for name, weight in weights.items()}


def named(head: Head) -> Tensors:
    """The head as weights."""
    return dict(zip(HEAD, head, strict=True))


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
        shared: the weights before adaptation, the head's too.
        adapted: the same after it.
        settings: their β; "auto" is 1 until a value has been chosen. While autograd records it is 1 too, as β is
            a matter of adapting outside training.
    """
    if torch.is_grad_enabled() or settings.beta in ("auto", 1.0):
        return adapted
    return {name: shared[name] + settings.beta * (weight - shared[name]) for name, weight in adapted.items()}
