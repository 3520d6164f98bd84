"""A method's loss as one compiled graph: the inner gradients, the queries' loss and the meta-gradient together.

torch.compile alone cannot differentiate what it compiled twice, nor follow gradients taken inside a loss. So the
loss and its gradients are traced together below autograd (make_fx), which leaves plain tensor operations for
torch.compile to fuse, whatever the method. What is traced is the general form of `metaloom.networks.layers`.

Measured: compiling takes about a minute, and on a CPU the kernels of `metaloom.networks.cpu` are faster than
what comes out. A graph holds all inner steps, so that `maml.recompute` saves no memory in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException
from torch.autograd import Function
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from metaloom.errors import MetaloomError
from metaloom.methods.base import Method
from metaloom.methods.model import Episodes, Params

PROGRESS = (0.0, 1.0)  # a loss that is not the same at both changes with it, and cannot be one graph


@dataclass(frozen=True)
class CompiledLoss:
    """Takes the place of `method.loss`, with the same result and gradients.

    Args:
        method: whose loss it is.
        name: of the method, for errors.
        compiler: of the traced graph.
    """

    method: Method
    name: str
    compiler: Callable[[GraphModule], Callable[..., Any]] = torch.compile
    _graphs: dict[Any, Callable[..., Any]] = field(default_factory=dict)

    def __call__(
        self, params: Params, episodes: Episodes, generator: torch.Generator | None = None, progress: float = 1.0
    ) -> tuple[Tensor, Params]:
        """As `Method.loss`; the first call for each shape of episodes traces and compiles.

        Raises:
            MetaloomError: with dropout, for a loss that cannot be one graph, or where there is no compiler.
        """
        if generator is not None:
            raise self._refusal("what dropout drops is drawn outside the graph; set network.dropout to 0")
        weights = {name: weight.detach() for name, weight in params.weights.items()}
        inputs = (weights, params.statistics, _tensors(episodes))
        shapes = [[(name, each.shape, each.dtype) for name, each in group.items()] for group in inputs]
        key = (str(shapes), episodes.n_way)
        try:
            if key not in self._graphs:
                self._graphs[key] = self.compiler(self._traced(episodes, *inputs))
            with torch.no_grad():
                loss, gradients, statistics = self._graphs[key](*inputs)
        except (TorchDynamoException, NotImplementedError) as error:
            raise self._refusal(_first_line(error)) from error
        loss = _WithGradients.apply(loss, gradients, *params.weights.values())
        return loss, replace(params, statistics=statistics)

    def _traced(self, episodes: Episodes, *inputs: dict[str, Tensor]) -> GraphModule:
        def graph_at(progress: float) -> GraphModule:
            def loss_and_gradients(weights: Any, statistics: Any, tensors: Any) -> Any:
                leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
                with torch.enable_grad(), torch.autograd.set_multithreading_enabled(False):
                    params, own = Params(leaves, statistics), replace(episodes, **tensors)
                    loss, moved = self.method.loss(params, own, None, progress)
                    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
                return loss.detach(), gradients, {k: v.detach() for k, v in moved.statistics.items()}

            return make_fx(loss_and_gradients, tracing_mode="fake")(*inputs)

        try:
            graph, other = (graph_at(progress) for progress in PROGRESS)
        except RuntimeError as error:  # what depends on values, not on shapes alone
            raise self._refusal(_first_line(error)) from error
        if not _equal(graph, other):
            raise self._refusal("its loss changes as training goes on")
        return graph

    def _refusal(self, why: str) -> MetaloomError:
        return MetaloomError(
            f"params.yaml: train.compile: {self.name} cannot be compiled here ({why}): give "
            "`--set train.compile=false`, or write `compile: false` there"
        )


class _WithGradients(Function):
    """A loss whose gradients are known already."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: Any, *weights: Tensor) -> Tensor:
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, d_loss: Tensor) -> Any:
        return None, None, *(None if each is None else d_loss * each for each in ctx.gradients)


def _tensors(episodes: Episodes) -> dict[str, Tensor]:
    return {name: value for name, value in vars(episodes).items() if isinstance(value, Tensor)}


def _equal(one: GraphModule, other: GraphModule) -> bool:
    """The same operations on the same constants."""

    def constants(graph: GraphModule) -> list[Tensor]:
        return [getattr(graph, str(node.target)) for node in graph.graph.nodes if node.op == "get_attr"]

    return one.code == other.code and all(map(torch.equal, constants(one), constants(other)))


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
