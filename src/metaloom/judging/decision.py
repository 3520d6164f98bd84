"""When enough has been asked, and what it comes to: of one judgement, or of many at once in the benchmark."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from metaloom.judging.sequence import shown
from metaloom.judging.verdict import OUTCOMES

BETTER, NOT_WORSE, WORSE, UNDECIDED = range(len(OUTCOMES))


class Decision(NamedTuple):
    """What the rounds come to.

    Args:
        outcome: place in `OUTCOMES`.
        rounds: after which it was decided; all of them where it was not.
        over: whether asking more could not change it.
    """

    outcome: Int[np.ndarray, "*any"]
    rounds: Int[np.ndarray, "*any"]
    over: Bool[np.ndarray, "*any"]


def decide(differences: Float[np.ndarray, "*any round domain"], alpha: float, margin: float) -> Decision:
    """Champion and challenger as far as they have been asked.

    It is over as soon as the challenger has been shown to be better than the champion, or worse than it, or to differ
    from it by less than the margin either way. Each of these is shown in error with a probability of at most alpha.

    Args:
        differences: accuracy of the challenger minus that of the champion, of each round and domain.
        alpha: of this judgement.
        margin: a loss of less is none that matters; nor is a gain.
    """
    gains = shown(differences, 0.0, 1, alpha, margin)
    losses = shown(differences, 0.0, -1, alpha, margin)
    within = shown(differences, -margin, 1, alpha, margin)
    over = gains | losses | (within & shown(differences, margin, -1, alpha, margin))
    ended = np.asarray(over.any(axis=-1))
    last = np.where(ended, over.argmax(axis=-1), over.shape[-1] - 1)
    gain, loss, kept = (np.take_along_axis(each, last[..., None], -1)[..., 0] for each in (gains, losses, within))
    outcome = np.select([gain, kept, loss], [BETTER, NOT_WORSE, WORSE], UNDECIDED)
    return Decision(outcome, last + 1, ended)
