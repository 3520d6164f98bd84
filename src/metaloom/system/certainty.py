"""How sure an accuracy or a difference is, in words: which of its 95% intervals count, and what each is of.

An interval over episodes says how far other questions about the same classes may be. Where the test classes are few,
it is far too narrow for other classes, and the interval over classes counts too (see `metaloom.evaluation.classes`).
"""

from __future__ import annotations

from metaloom.system.plural import several
from metaloom.system.quantities import MINUS, Number, from_to, known, points

FEWEST_EPISODES = 5  # for any interval: from fewer Student's t is as wide as the scale
ENOUGH_EPISODES = 20  # for percentiles of the bootstrap; with fewer these are too narrow
FEW_TEST_CLASSES = 100  # with fewer an interval over 200 episodes misses the accuracy on others half of the time
TOO_FEW = "too few to tell about others"  # classes for an interval over them


def few_test_classes(classes: int | None) -> bool:
    """Whether so many test classes are too few for an interval over episodes to tell about others; None: not known."""
    return classes is not None and 0 < classes < FEW_TEST_CLASSES


def is_clear(difference: Number, ci95: Number | None, classes_ci95: Number | None, few_classes: bool) -> bool:
    """Whether a difference is beyond each margin that counts; it is beyond none that cannot be had (None or NaN).

    Args:
        difference: of two accuracies.
        ci95: half the width of its interval over episodes.
        classes_ci95: the same over classes.
        few_classes: whether that counts too.
    """
    margins = [ci95, classes_ci95] if few_classes else [ci95]
    return all(margin is not None and abs(difference) > margin for margin in margins)


def of_other_classes(classes: int | None, low: Number | None, high: Number | None) -> str:
    """What to say beside an accuracy where few classes were asked about; "" where they are many.

    Args:
        classes: that were asked about.
        low, high: ends of the interval over classes.
    """
    if not few_test_classes(classes):
        return ""
    if interval := from_to(low, high):
        return f"of other classes {interval}: only {classes} were asked about"
    return f"only {classes} classes were asked about, {TOO_FEW}"


def compared(
    difference: Number, ci95: Number | None, classes_ci95: Number | None, few_classes: bool, episodes: int
) -> str:
    """ "31.2 ± 0.9 points more than"; says so where a margin that counts holds zero, or where there is no interval.

    Args:
        difference: of two accuracies.
        ci95, classes_ci95, few_classes: as for `is_clear`; of few classes both margins are said.
        episodes: that both learners answered.
    """
    margins = _margins(ci95, classes_ci95) if few_classes else ""
    lead, more = points(difference, None if few_classes else ci95), "more" if difference > 0 else "less"
    size = lead.lstrip(f"+{MINUS}")
    if not known(ci95):
        return f"{size} points {more} ({several(episodes, 'episode')}, no interval) than"
    if is_clear(difference, ci95, classes_ci95, few_classes):
        return f"{size} points {f'({margins}) ' if margins else ''}{more} than"
    return f"not clearly different ({lead} points{f', {margins}' if margins else ''}) from"


def _margins(ci95: Number | None, classes_ci95: Number | None) -> str:
    questions = f"± {100 * (ci95 or 0):.1f} for other questions about the same"
    if classes_ci95 is None or not known(classes_ci95):
        return f"{questions} classes, {TOO_FEW}"
    return f"± {100 * classes_ci95:.1f} for other classes, {questions} ones"
