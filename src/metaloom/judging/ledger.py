"""What was judged in a year: the error that this has spent, and how worn the questions are.

An entry stands as one line of JSON in the note that git keeps beside the challenger's commit (`git log --notes=judge`;
`git push origin refs/notes/judge` shares them), and in the message of the tag where the challenger became a version.

The error of a year is spent evenly over its days, whether or not somebody judges: the linear spending function of Lan,
DeMets: Discrete sequential boundaries for clinical trials, 1983 (Biometrika 70), over calendar time. So a judgement
after thirty quiet days has thirty days' share, and nights add up (Bonferroni) to no more than the year's.

That the same test classes are asked again and again does not make a verdict about them wrong: its episodes are
fresh. It makes them say less about other classes, as versions are chosen for doing well on these (Blum, Hardt: The
Ladder, 2015, https://arxiv.org/abs/1502.04585). Of k versions without any merit, the luckiest looks better by
sd · sqrt(2 ln k / classes) at most, in the mean (the maximal inequality for sub-Gaussian variables), with sd the
deviation of a class's difference; the questions are worn where that reaches the margin.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from metaloom.system.plural import several

YEAR = timedelta(days=365)
MARK = "judged: "  # begins the line of an entry
SHADOW = "shadow "  # begins `test` of an entry that is of labelled inputs of real use


@dataclass(frozen=True)
class Entry:
    """One judgement.

    Args:
        when: it ended.
        champion: commit.
        challenger: commit.
        outcome: as `Verdict` has it.
        alpha: error that it has spent.
        test: names the classes that were asked, or the log of `metaloom shadow`.
        gain, low95, high95: of the challenger, in shares of 1.
        episodes: both answered; of `metaloom shadow` the labelled inputs.
        held: guards that hold.
        worn: about so many classes are to be added to test; 0: its questions were not worn.
    """

    when: datetime
    champion: str
    challenger: str
    outcome: str
    alpha: float
    test: str
    gain: float
    low95: float
    high95: float
    episodes: int
    held: tuple[str, ...] = ()
    worn: int = 0

    @property
    def of_shadow(self) -> bool:
        """Whether labelled inputs of real use say it, and no episodes."""
        return self.test.startswith(SHADOW)

    @property
    def pair(self) -> tuple[str, str, str]:
        """Who answered which questions: the same three give the same answers again."""
        return self.champion, self.challenger, self.test


def written(entry: Entry) -> str:
    """An entry as a line."""
    plain = asdict(entry) | {"when": entry.when.isoformat(timespec="seconds")}
    return MARK + json.dumps(plain, ensure_ascii=False)


def entries(text: str) -> list[Entry]:
    """Those in a note or a tag's message; lines that are none are passed over."""
    lines = (line.strip() for line in text.splitlines())
    found = (_entry(line.removeprefix(MARK)) for line in lines if line.startswith(MARK))
    return [each for each in found if each is not None]


def _entry(line: str) -> Entry | None:
    try:
        plain: dict[str, Any] = json.loads(line)
        when = datetime.fromisoformat(plain["when"])
        entry = Entry(**plain | {"when": when, "held": tuple(plain.get("held", ()))})
    except (ValueError, TypeError, KeyError):
        return None
    numbers = (entry.alpha, entry.gain, entry.low95, entry.high95)
    words = (entry.champion, entry.challenger, entry.outcome, entry.test)
    counts = (entry.episodes, entry.worn)
    right = when.tzinfo is not None and all(isinstance(each, int | float) for each in numbers)
    right &= all(isinstance(each, str) for each in words) and all(isinstance(each, int) for each in counts)
    return entry if right and math.isfinite(entry.alpha) else None


def merged(found: Iterable[Entry]) -> list[Entry]:
    """By time; of several of the same pair the one that has spent error, with what the last says."""
    pairs: dict[tuple[str, str, str], list[Entry]] = {}
    for each in sorted(found, key=lambda entry: entry.when):
        pairs.setdefault(each.pair, []).append(each)
    kept = []
    for own in pairs.values():
        spender = max(own, key=lambda entry: entry.alpha)  # the first of them, as later ones spend the same again
        kept.append(replace(own[-1], when=spender.when, alpha=spender.alpha))
    return sorted(kept, key=lambda entry: entry.when)


def spent(past: Sequence[Entry], now: datetime) -> float:
    """The error of the last 365 days; what a clock that is ahead has written counts too."""
    return sum(each.alpha for each in past if now - YEAR < each.when)


def share(past: Sequence[Entry], now: datetime, alpha: float) -> float:
    """The error that a judgement may spend now: that of the days since the last one, at least of one, and no more than
    is left of the last 365 days.

    Args:
        past: judgements, in any order.
        now: with its time zone.
        alpha: of a year.
    """
    last = max((each.when for each in past), default=now - timedelta(days=1))
    days = max(1.0, (now - last) / timedelta(days=1))  # of a clock that is ahead, or was: one
    return max(0.0, min(alpha * days / YEAR.days, alpha - spent(past, now)))


def again(past: Sequence[Entry], champion: str, challenger: str, test: str) -> Entry | None:
    """The judgement of the same two on the same questions: its answers are the same, so no error is spent again. None
    where they have not been judged, or when nothing was left to spend."""
    pair = champion, challenger, test
    return next((each for each in past if each.pair == pair and each.alpha > 0), None)


def worn_out(judgements: int, add: int) -> str:
    """The same in words.

    Args:
        judgements: on these classes.
        add: classes.
    """
    return (
        f"its questions are worn after {several(judgements, 'judgement')}: add about "
        f"{several(add, 'class', 'classes')} to test"
    )


@dataclass(frozen=True)
class Wear:
    """How worn the test classes are.

    Args:
        judgements: on these classes, this one among them.
        classes: that were asked.
        lucky: by how much the luckiest of so many versions without merit looks better, at most, in the mean.
        add: about so many test classes more, and that is below the margin; 0: they are not worn.
    """

    judgements: int
    classes: int
    lucky: float
    add: int


def wear(past: Sequence[Entry], test: str, classes: int, deviation: float, margin: float) -> Wear:
    """Of the classes that `test` names, in a judgement that is not in `past` yet.

    Args:
        past: judgements.
        test: as in `Entry`.
        classes: that were asked.
        deviation: of a class's difference.
        margin: a gain below it does not matter.
    """
    judgements = 1 + sum(each.test == test for each in past)
    sizes = 2 * math.log(judgements) * deviation**2
    needed = math.ceil(sizes / margin**2)
    return Wear(judgements, classes, math.sqrt(sizes / classes), max(0, needed - classes))
