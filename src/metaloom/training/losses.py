"""The losses of training steps, which the host of a GPU looks at but rarely: to look is to wait for the GPU."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

import torch
from torch import Tensor

LOOK_EVERY = 50  # steps on a GPU


@dataclass
class Losses:
    """Losses since the last validation.

    Args:
        every: so many steps are looked at together.
        refuse: called with a step, its loss and the norm of its gradient where one of them is not finite.
        last: the loss that was last looked at.
    """

    every: int
    refuse: Callable[[int, float, float], NoReturn]
    last: float = math.nan
    _seen: list[float] = field(default_factory=list)
    _unseen: list[Tensor] = field(default_factory=list)

    def add(self, step: int, figures: Tensor) -> None:
        """A step's loss and the norm of its gradient, on the device; the first is looked at."""
        self._unseen.append(figures)
        if len(self._unseen) >= self.every or math.isnan(self.last):
            self._look(step)

    def mean(self, step: int) -> float:
        """Mean of all losses up to this step since the last mean; it then forgets them."""
        self._look(step)
        mean = sum(self._seen) / len(self._seen)
        self._seen.clear()
        return mean

    def _look(self, step: int) -> None:
        figures = torch.stack(self._unseen).tolist() if self._unseen else []
        self._unseen.clear()
        for number, (loss, norm) in enumerate(figures, start=step + 1 - len(figures)):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                self.refuse(number, loss, norm)
            self._seen.append(loss)
            self.last = loss
