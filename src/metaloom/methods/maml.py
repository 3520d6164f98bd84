"""Model-agnostic meta-learning, with the remedies of MAML++ as options.

Finn, Abbeel, Levine: Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks, 2017
(https://arxiv.org/abs/1703.03400). A task's weights are a few gradient steps on its support set away from the
shared ones, θ' = θ - α∇L(θ); the shared ones minimise the query loss after those steps, through them.
θ: `params.weights`, α: `inner_rate`, number of steps: `inner_steps`; `first_order` drops the second
derivatives (section 5.2).

Antoniou, Edwards, Storkey: How to train your MAML, 2019 (https://arxiv.org/abs/1810.09502). `learned_rates`: α is
learned, one for every weight tensor and step (LSLR). `multi_step`: the query losses after all steps count (MSL).

We deviate in three places. The head starts at the prototypes or at zero (`head`) instead of a learned start for each
class, so that one model serves any number of ways; what follows from that is in `metaloom.methods.gradient`. Batch
norm takes the support set's statistics for the queries too: published figures mostly take the queries' own, which
makes a prediction depend on its neighbours. And where one step leaves the network as it is, the examples of a training
task may take turns as support (`take_turns`, `metaloom.methods.embedding`).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from metaloom.config import MamlSettings
from metaloom.methods.embedding import TakingTurns
from metaloom.methods.gradient import (
    HEAD,
    descended,
    first_gradients,
    first_head,
    head_of,
    interpolated,
    named,
    nll_and_gradients,
    stacked,
    task_model,
)
from metaloom.methods.model import Episodes, Head, Params, TaskModel, query_loss
from metaloom.methods.recompute import recomputed
from metaloom.networks import Tensors

RATE = "rate."  # "rate.{step}.{name}": a learned inner rate among the weights
ANNEALED = 0.1  # share of training after which the last step alone counts: the authors' 10 of 100 epochs


class Maml(TakingTurns):
    """Gradient steps on all weights, from weights from which a few of them go far."""

    settings: MamlSettings

    def init(self, generator: torch.Generator) -> Params:
        """The network's weights, and a rate for every tensor that a step moves if rates are learned."""
        weights = self.network.init(generator)
        rates: Tensors = {}
        for step in range(self.settings.inner_steps if self.settings.learned_rates else 0):
            for name in HEAD if step == 0 else (*weights, *HEAD):
                rates[f"{RATE}{step}.{name}"] = torch.tensor(self.settings.inner_rate, device=generator.device)
        return Params(weights | rates, self.fresh_statistics(weights))

    @property
    def frozen(self) -> bool:
        return self.settings.inner_steps == 1 and self.network.norm != "batch"

    @property
    def anneals(self) -> bool:
        return self.settings.multi_step and self.settings.inner_steps > 1

    def embed(self, params: Params, x: Float[Tensor, ...]) -> Float[Tensor, "*task item embed"]:
        return self.network(_shared(params), x, params.statistics)[0]

    def head(
        self,
        params: Params,
        support_z: Float[Tensor, "*task support embed"],
        support_y: Int[Tensor, " support"],
        n_way: int,
    ) -> Head:
        start = first_head(self.settings, support_z, support_y, n_way)
        adapted = self._first_step(params, start, support_z, support_y)
        return head_of(interpolated(named(start), adapted, self.settings))

    def adapt(
        self,
        params: Params,
        support_x: Float[Tensor, ...],
        support_y: Int[Tensor, " support"],
        n_way: int,
    ) -> TaskModel:
        z, _ = self.network(_shared(params), support_x)
        return self._after_steps(params, z, support_x, support_y, n_way)

    def loss(
        self, params: Params, episodes: Episodes, generator: torch.Generator | None = None, progress: float = 1.0
    ) -> tuple[Float[Tensor, ""], Params]:
        """As for any method; with `multi_step` the weighted mean of the losses after each step."""
        if self.takes_turns:
            return self.loss_of_heads(params, episodes, generator)
        z, statistics = self.network(_shared(params), episodes.support_x)
        if self.settings.multi_step:
            loss = self._loss_of_steps(params, z, episodes, generator, progress)
        else:
            model = self._after_steps(params, z, episodes.support_x, episodes.support_y, episodes.n_way)
            loss = query_loss(model.logits(episodes.query_x, generator), episodes.query_y)
        return loss, self.moved(params, statistics)

    def _after_steps(self, params: Params, z: Tensor, x: Tensor, y: Tensor, n_way: int) -> TaskModel:
        start = first_head(self.settings, z, y, n_way)
        *_, adapted = self._steps(params, start, z, x, y)
        return task_model(self.network, interpolated(_shared(params) | named(start), adapted, self.settings), x)

    def _loss_of_steps(
        self, params: Params, z: Tensor, episodes: Episodes, generator: torch.Generator | None, progress: float
    ) -> Float[Tensor, ""]:
        def loss_after(weights: Tensors) -> Tensors:
            logits = task_model(self.network, weights, episodes.support_x).logits(episodes.query_x, generator)
            return {"loss": query_loss(logits, episodes.query_y)}

        importance = importance_of_steps(self.settings.inner_steps, progress)
        start = first_head(self.settings, z, episodes.support_y, episodes.n_way)
        steps = self._steps(params, start, z, episodes.support_x, episodes.support_y)
        total = episodes.query_x.new_zeros(())
        for weights, share in zip(steps, importance, strict=True):
            if share and self.settings.recompute:
                total = total + share * recomputed(loss_after, weights, generator=generator)["loss"]
            elif share:
                total = total + share * loss_after(weights)["loss"]
        return total

    def _steps(self, params: Params, start: Head, z: Tensor, x: Tensor, y: Tensor) -> Iterator[Tensors]:
        """The weights after each inner step, from the support set and its embeddings `z` by the shared network: the
        first step moves the head alone."""
        shared = _shared(params)
        heads = self._first_step(params, start, z, y)
        yield shared | heads
        weights = stacked(shared, x.shape[: -1 - len(self.network.shape)]) | heads
        again = self.settings.recompute and not self.settings.first_order and torch.is_grad_enabled()
        for step in range(1, self.settings.inner_steps):
            rates = self._rates(params, step)
            if again:
                weights = recomputed(lambda w, r: self._step(w, r, x, y), weights, rates)
            else:
                weights = self._step(weights, rates, x, y)
            yield weights

    def _first_step(self, params: Params, start: Head, z: Tensor, y: Tensor) -> Tensors:
        gradients = first_gradients(start, z, y)
        if self.settings.first_order:
            gradients = {name: gradient.detach() for name, gradient in gradients.items()}
        return self._moved(named(start), gradients, self._rates(params, 0))

    def _step(self, weights: Tensors, rates: Tensors, x: Tensor, y: Tensor) -> Tensors:
        twice = torch.is_grad_enabled() and not self.settings.first_order
        _, gradients = nll_and_gradients(self.network, weights, x, y, twice=twice)
        return self._moved(weights, gradients, rates)

    def _moved(self, weights: Tensors, gradients: Tensors, rates: Tensors) -> Tensors:
        return descended(weights, gradients, rates, self.settings.inner_rate)

    def _rates(self, params: Params, step: int) -> Tensors:
        """The learned rates of a step, by the name of the weight; those of the last one for steps beyond it."""
        known = [int(name.split(".")[1]) for name in params.weights if name.startswith(RATE)]
        prefix = f"{RATE}{min(step, max(known, default=0))}."
        return {k.removeprefix(prefix): v for k, v in params.weights.items() if k.startswith(prefix)}


def importance_of_steps(steps: int, progress: float) -> list[float]:
    """MAML++'s weights of the losses after each step: equal at first, then the last one's grows to 1.

    As the authors' code has it, linear over a tenth of training (https://github.com/AntreasAntoniou/
    HowToTrainYourMAMLPytorch, multi_step_loss_num_epochs 10 of total_epochs 100), without its floor of 0.03/steps.
    """
    early = max(0.0, 1 - progress / ANNEALED) / steps
    return [early] * (steps - 1) + [1 - early * (steps - 1)]


def _shared(params: Params) -> Tensors:
    return {name: weight for name, weight in params.weights.items() if not name.startswith(RATE)}
