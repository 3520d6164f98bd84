"""From answers to a verdict: the sentence, the figures that it rests on, and the guards."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from metaloom.config import JudgeSettings
from metaloom.evaluation.figures import Answers, Reliability, worst_decile
from metaloom.judging.asking import Asked
from metaloom.judging.bundles import BundleFigures
from metaloom.judging.by_domain import TAIL, ByDomain, highest
from metaloom.judging.ledger import Entry, Wear, again, wear, worn_out
from metaloom.judging.questions import Questions
from metaloom.judging.sequence import bounds
from metaloom.judging.side import Side
from metaloom.judging.verdict import OUTCOMES, Outcome, Verdict, in_words
from metaloom.system.plural import several
from metaloom.system.quantities import points, size
from metaloom.system.rounding import nulled, rounded

FACTOR = 1.5  # by which a bundle may be slower, or larger, before its guard says so
DIGITS = 5  # of shares in the evidence

Interval = tuple[float, float]


@dataclass(frozen=True)
class Evidence:
    """All that a verdict rests on.

    Args:
        champion, challenger: who was asked.
        questions: what.
        asked: what they said.
        alpha: error that this judgement spends.
        settings: margin and guards.
        past: the ledger.
        bundles: figures of both; None where they cannot be had.
        novelty: AUROC of both in the same episodes (`judging.novelty`); None where it was not asked for.
        old: what they said about domains that both were trained on (`judging.forgetting`); None where that was not
            asked for, or there are none.
    """

    champion: Side
    challenger: Side
    questions: Questions
    asked: Asked
    alpha: float
    settings: JudgeSettings
    past: Sequence[Entry]
    bundles: tuple[BundleFigures, BundleFigures] | None
    novelty: tuple[Float[np.ndarray, " episode"], Float[np.ndarray, " episode"]] | None = None
    old: ByDomain | None = None

    def verdict(self) -> Verdict:
        """The outcome with its sentence and its evidence."""
        told = [(name, getattr(self.settings.guards, name), words) for name, words in self._guards()]
        held = tuple(words for _, action, words in told if action == "hold")
        warned = [words for _, action, words in told if action == "warn"]
        outcome = OUTCOMES[int(self.asked.decision.outcome)]
        parts = [self._sentence(outcome), *(f"held: {each}" for each in held), *(f"mind: {each}" for each in warned)]
        if self.wear.add:
            parts.append(worn_out(self.wear.judgements, self.wear.add))
        guards = [{"guard": name, "action": action, "says": words} for name, action, words in told if action != "off"]
        return Verdict(outcome, "; ".join(parts), self._figures() | {"guards": guards, "held": list(held)}, held)

    @cached_property
    def wear(self) -> Wear:
        """Of the classes that were asked about."""
        version, other = self.questions.version, [each for each in self.past if each != self._known]
        deviation = float(self.by_class.std()) if len(self.by_class) > 1 else 0.0
        return wear(other, version, len(self.questions.asked), deviation, self.settings.margin)

    @property
    def _known(self) -> Entry | None:
        return again(self.past, self.champion.commit, self.challenger.commit, self.questions.version)

    @cached_property
    def by_class(self) -> Float[np.ndarray, " class"]:
        """Gain in each class that was asked about."""
        asked = self.questions.asked
        first = np.sort(asked["first"].to_numpy())
        table = self.asked.champion.table
        code = np.searchsorted(first, table.query_rows.ravel(), side="right") - 1
        gain = (self.asked.challenger.right.astype(float) - self.asked.champion.right).ravel()
        count = np.bincount(code, minlength=len(first))
        return (np.bincount(code, gain, minlength=len(first)) / np.maximum(count, 1))[count > 0]

    @cached_property
    def by_domain(self) -> ByDomain:
        """Answers to the questions."""
        return ByDomain(self.questions.domains, self.asked.champion, self.asked.challenger)

    @cached_property
    def gain(self) -> float:
        """Each domain counts alike."""
        return float(self.asked.differences.mean())

    @cached_property
    def interval95(self) -> Interval:
        """Of the gain on these domains, valid although asking stopped when it was decided."""
        return bounds(self.asked.differences, TAIL, self.settings.margin)

    @cached_property
    def over_domains(self) -> Interval | None:
        """95% interval of the gain on further domains like these, Student's t; None from a single one."""
        means = self.asked.differences.mean(axis=0)
        if len(means) < 2:
            return None
        half = float(stats.t.ppf(1 - TAIL, len(means) - 1) * means.std(ddof=1) / math.sqrt(len(means)))
        return self.gain - half, self.gain + half

    def _sentence(self, outcome: Outcome) -> str:
        lead = in_words(outcome, self.champion.name, self.challenger.name, self.settings.margin, not self.alpha)
        if outcome == "undecided" and self.alpha:
            lead = f"{lead} at an error of {100 * self.alpha:.2g}%, its share of what a year may have"
        low, high = (points(each, None) for each in self.interval95)
        asked, domains = several(len(self.asked.champion.table), "episode"), several(self.asked.domains, "domain")
        return f"{lead}: {points(self.gain, None)} points (95% interval {low} to {high}), {asked} of {domains}"

    def _guards(self) -> Iterator[tuple[str, str]]:
        """Names of the guards that have something to say, with what."""
        margin, (one, other) = self.settings.margin, (self.asked.champion, self.asked.challenger)
        if self.over_domains is not None and self.over_domains[0] < -margin:
            low, high = (points(each, None) for each in self.over_domains)
            yield "domains", f"on other domains its gain may be anything from {low} to {high} points"
        if self.asked.domains > 1 and (worst := self.by_domain.worst(margin)):
            yield "worst_domain", f"on {worst[0]} it is worse by {_loss(worst[1])} points"
        if self.old is not None and (worst := self.old.worst(margin)):
            told = f"on {worst[0]}, which both were trained on, it is worse by {_loss(worst[1])} points"
            yield "forgetting", told
        if (gap := _worst_tenth(other) - _worst_tenth(one)) < -margin:
            yield "worst_tenth", f"in the worst tenth of the episodes it loses {100 * -gap:.1f} points"
        if (gap := _calibration_error(other) - _calibration_error(one)) > margin:
            yield "calibration", f"its calibration error is larger by {100 * gap:.1f} points"
        if self.novelty is not None:
            before, now = self.novelty
            if highest((now - before)[:, None])[0] < -margin:
                yield (
                    "novelty",
                    f"it tells new classes from known ones with an AUROC of {now.mean():.3f}, not {before.mean():.3f}",
                )
        if self.bundles is not None:
            before, now = self.bundles
            if now.milliseconds > FACTOR * before.milliseconds:
                times = f"{now.milliseconds:.2f} ms instead of {before.milliseconds:.2f}"
                yield "latency", f"its bundle takes {times} for an answer"
            if now.bytes > FACTOR * before.bytes:
                yield "size", f"its bundle's model has {size(now.bytes)} instead of {size(before.bytes)}"

    def _figures(self) -> dict[str, Any]:
        episodes, version = len(self.asked.champion.table), self.questions.version
        low, high = bounds(self.asked.differences, self.alpha, self.settings.margin)
        sides = {
            name: {"name": side.name, "commit": side.commit, "data": side.revision.data} | _figures_of(answers)
            for name, side, answers in (
                ("champion", self.champion, self.asked.champion),
                ("challenger", self.challenger, self.asked.challenger),
            )
        }
        for side, own in zip(sides.values(), self.novelty or (), strict=False):
            side["novelty_auroc"] = float(own.mean())
        bundles = None
        if self.bundles is not None:
            bundles = dict(zip(("champion", "challenger"), map(asdict, self.bundles), strict=True))
        gains = {"gain": self.gain, "low95": self.interval95[0], "high95": self.interval95[1], "low": low, "high": high}
        asked = {"episodes": episodes, "setting": self.questions.setting, "n_query": self.questions.n_query}
        asked |= {"classes": len(self.questions.asked), "test": version, "seconds": round(self.asked.seconds, 1)}
        rules = {"margin": self.settings.margin, "limited": not bool(self.asked.decision.over)}
        rest = {"over_domains": self.over_domains, "domains": self.by_domain.figures(), "bundle": bundles}
        rest |= {"old_domains": self.old.figures() if self.old else []}
        found = rounded(nulled(sides | gains | asked | rules | rest), DIGITS)
        return found | {"alpha": self.alpha, "wear": asdict(self.wear)}


def _loss(gain: float) -> str:
    return points(-gain, None).lstrip("+")


def _figures_of(answers: Answers) -> dict[str, Any]:
    accuracy = float(np.nan_to_num(answers.accuracy).mean())
    found = {"accuracy": accuracy, "worst_tenth": _worst_tenth(answers), "ece": _calibration_error(answers)}
    return found | {"failed": int(answers.failed.sum())}


def _worst_tenth(answers: Answers) -> float:
    return worst_decile(np.nan_to_num(answers.accuracy))


def _calibration_error(answers: Answers) -> float:
    kept = answers.kept
    if not len(kept.table):
        return math.nan
    return float(Reliability.of(kept).error(np.full((1, len(kept.table)), 1 / len(kept.table)))[0])
