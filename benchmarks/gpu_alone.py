"""The steps of `gpu.py` that are of loss and backward alone: how long they take, and how many operators they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from gpu_steps import Bench, Figures, images_in
from gpu_work import example, moved
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from metaloom.system.device import tf32
from metaloom.system.optimisers import Adam
from metaloom.training.acceleration import precision_of
from metaloom.training.graph import EAGER, captured
from metaloom.training.trainer import gradient_norm

FORMS = {  # of a network's layers: what is patched
    "": {},
    "unfused": {"fused.fits": lambda x, channels: False},
    "plain layers": {"layers.beyond_cpu": lambda x: False},  # torch's own: second derivatives are many more kernels
}


def alone(bench: Bench, name: str, overrides: Figures, mode: str, graph: bool = False, form: str = "") -> Figures:
    """Loss and backward alone, with all tasks of a step together; as one CUDA graph on request, and in another of the
    `FORMS`."""
    trainer = bench.trainer(name, overrides)
    params, episodes = example(trainer)
    leaves = {key: weight.detach().requires_grad_() for key, weight in params.weights.items()}

    def once() -> Tensor:
        for leaf in leaves.values():
            leaf.grad = None
        loss = trainer.learner.method.loss(replace(params, weights=leaves), episodes)[0]
        loss.backward()
        return loss.detach()

    with ExitStack() as stack, precision_of(trainer.settings.model_copy(update={"precision": mode})):
        for part, other in FORMS[form].items():
            stack.enter_context(patch(f"metaloom.networks.{part}", other))
        for _ in range(EAGER):
            once()
        call = captured(once, torch.Generator(bench.device)) if graph else once
        taken = bench.seconds(call)
    return {"ms": taken * 1e3, "tasks/s": len(episodes) / taken, "images/s": images_in(trainer) / taken}


NO_KERNEL = {"_unsafe_view", "unsqueeze_", "empty", "empty_like", "promote_types", "scalar_tensor"}


class Counting(TorchDispatchMode):
    """Counts operators, and those that make a tensor of their own: about as many kernels."""

    operators = kernels = 0

    def launch(self, *_given: Any, **_rest: Any) -> None:
        """A kernel of `metaloom.networks.fused`."""
        self.operators += 1
        self.kernels += 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returns = func._schema.returns
        view = any(each.alias_info is not None and not each.alias_info.is_write for each in returns)
        self.operators += 1
        self.kernels += not view and func.overloadpacket.__name__ not in NO_KERNEL
        return func(*args, **(kwargs or {}))


def count(bench: Bench, name: str, overrides: Figures) -> Figures:
    """The operators of loss and backward, and of a whole step, in the form that GPUs take in TF32, on the meta device:
    no GPU is needed. A step draws too, here by the host's generator, and changes the weights."""
    trainer = replace(bench, device=torch.device("cpu")).trainer(name, overrides | {"train.precision": "tf32"})
    optimiser = Adam([w.detach().requires_grad_() for w in trainer.learner.params.weights.values()], fused=True)
    params, episodes = example(trainer)
    params, episodes = params.to("meta").detached(), moved(episodes, device=torch.device("meta"))
    for weight in params.weights.values():
        weight.requires_grad_()
    with counted() as alone:
        trainer.learner.method.loss(params, episodes)[0].backward()
    trainer = replace(trainer, learner=replace(trainer.learner, params=trainer.learner.params.to("meta")))
    state = replace(trainer._fresh(), tasks_at_a_time=len(episodes))
    for weight in optimiser.param_groups[0]["params"]:
        weight.grad = torch.zeros_like(weight)
    with counted() as whole:
        total = trainer._gradients(state)
        torch.stack([total, gradient_norm(state.params)])
        optimiser.step()
    return {
        "operators": alone.operators,
        "kernels": alone.kernels,
        "operators of a step": whole.operators,
        "kernels of a step": whole.kernels,
    }


@contextmanager
def counted() -> Iterator[Counting]:
    """What is done within it, in the form of a GPU that has the fused kernels."""
    with (
        # a graph that is traced has other operators, and counting looks like tracing
        patch("metaloom.networks.layers.traced", lambda: False),
        patch("metaloom.networks.fused.fits", lambda x, channels: True),
        tf32(True),
        Counting() as counting,
        patch("metaloom.networks.fused.launch", counting.launch),
    ):
        yield counting
