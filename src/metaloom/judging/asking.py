"""Both answer one batch of questions after the other, until it is decided or a limit is reached."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from metaloom.config import JudgeSettings
from metaloom.evaluation.figures import Answers
from metaloom.judging.decision import Decision, decide
from metaloom.judging.questions import Questions
from metaloom.learner import Learner
from metaloom.system.terminal import bar
from metaloom.tasks import EpisodeTable

FIRST = 100  # episodes of the first batch; every further one has half as many as were asked before

Answer = Callable[[EpisodeTable], Answers]


@dataclass(frozen=True)
class Asked:
    """What both said.

    Args:
        champion: answers, one episode of each domain after the other, round by round.
        challenger: to the same episodes.
        decision: what that comes to.
        domains: of a round.
        seconds: that it took.
    """

    champion: Answers
    challenger: Answers
    decision: Decision
    domains: int
    seconds: float

    @property
    def differences(self) -> Float[np.ndarray, "round domain"]:
        """Accuracy of the challenger minus that of the champion."""
        return gains(self.champion, self.challenger).reshape(-1, self.domains)


def gains(champion: Answers, challenger: Answers) -> Float[np.ndarray, " episode"]:
    """Accuracy of the challenger minus that of the champion; an episode that one of them failed is all wrong."""
    return np.nan_to_num(challenger.accuracy) - np.nan_to_num(champion.accuracy)


def ask(
    champion: Learner,
    challenger: Learner,
    questions: Questions,
    alpha: float,
    settings: JudgeSettings,
    seconds: float,
    spare: int = 0,
) -> Asked:
    """Both answer the same episodes.

    Args:
        champion: the model in place.
        challenger: the one that would take its place.
        questions: to both.
        alpha: error that the decision may spend.
        settings: with its limits.
        seconds: that this may take; the first batch is asked whatever it takes.
        spare: episodes for which there has to be time afterwards.
    """
    started, domains = time.monotonic(), len(questions.domains)
    models = [answering(learner, questions) for learner in (champion, challenger)]
    said: list[list[Answers]] = [[], []]
    most, done, number = max(1, settings.max_episodes // domains), 0, 0
    with bar("judge", most * domains) as progress:
        while True:
            wanted = -(-max(FIRST, done * domains // 2) // domains)
            rounds = min(wanted, most - done, _in_time(done, time.monotonic() - started, seconds, spare // domains))
            table = questions.batch(number, rounds)
            for own, model in zip(said, models, strict=True):
                own.append(model(table))
            done, number = done + rounds, number + 1
            progress.update(done * domains)
            one, other = map(_joined, said)
            decision = decide(gains(one, other).reshape(-1, domains), alpha, settings.margin)
            asked = Asked(one, other, decision, domains, time.monotonic() - started)
            if asked.decision.over or rounds < wanted or done == most:
                return asked


def _in_time(done: int, seconds: float, most: float, spare: int) -> int:
    """Rounds for which there is time, with some to spare; at least one, for a start."""
    return max(1, int((most - seconds) * done / max(seconds, 1e-9)) - spare) if done else 1 << 30


def answering(learner: Learner, questions: Questions) -> Answer:
    """A model that has embedded all that it may be asked."""
    classes = questions.asked
    rows = np.concatenate([np.arange(f, f + n) for f, n in classes[["first", "count"]].itertuples(index=False)])
    answer = learner.answering(torch.from_numpy(questions.pool.examples), rows)
    return lambda table: Answers(answer(table).cpu().numpy(), table)


def _joined(parts: list[Answers]) -> Answers:
    support, query = (np.concatenate([getattr(each.table, name) for each in parts]) for name in ("support", "query"))
    return Answers(np.concatenate([each.log_p for each in parts]), EpisodeTable(support, query))
