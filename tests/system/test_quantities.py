"""Shares, differences, times and sizes in words."""

from __future__ import annotations

import pytest

from metaloom.system.certainty import compared, of_other_classes
from metaloom.system.quantities import duration, interval95, percent, points, size, with_interval

NAN = float("nan")


def test_a_share_has_the_digits_of_its_interval():
    assert with_interval(0.9612, 0.0043) == "96.1 ± 0.4%"
    assert with_interval(0.9996, 0.0002) == "99.96 ± 0.02%"
    assert with_interval(0.9612, None) == "96.1%" and with_interval(0.9612, float("nan"), unit="") == "96.1"
    assert with_interval(float("nan"), 0.1) == percent(None) == "–"
    assert interval95(0.9418, 1.0) == "95% interval 94.2% to 100.0%"


@pytest.mark.parametrize(
    ("difference", "ci95", "classes_ci95", "few", "words"),
    [
        (0.312, 0.009, NAN, False, "31.2 ± 0.9 points more than"),
        (-0.312, 0.009, None, False, "31.2 ± 0.9 points less than"),
        (0.005, 0.009, 0.001, False, "not clearly different (+0.5 ± 0.9 points) from"),
        (-0.1, 0.01, 0.2, True, "not clearly different (−10.0 points, ± 20.0 for other classes, ± 1.0 for other "),
        (
            -0.1,
            0.01,
            NAN,
            True,
            "not clearly different (−10.0 points, ± 1.0 for other questions about the same classes",
        ),
        (0.1, 0.01, 0.02, True, "10.0 points (± 2.0 for other classes, ± 1.0 for other questions about the same ones)"),
        (0.1, None, None, False, "10.0 points more (7 episodes, no interval) than"),
    ],
)
def test_a_difference_is_clear_by_every_interval_that_counts(difference, ci95, classes_ci95, few, words):
    assert compared(difference, ci95, classes_ci95, few, episodes=7).startswith(words)
    assert points(difference, NAN) == f"{'−' if difference < 0 else '+'}{abs(100 * difference):.1f}"


def test_of_many_classes_the_interval_over_them_is_not_said():
    assert of_other_classes(100, 0.4, 0.5) == of_other_classes(None, None, None) == ""
    assert of_other_classes(9, 0.461, 0.762) == "of other classes 46.1 to 76.2%: only 9 were asked about"
    assert of_other_classes(2, NAN, NAN) == "only 2 classes were asked about, too few to tell about others"


def test_times_and_sizes_have_few_digits():
    assert [duration(each) for each in (3.21, 61.4, 192.4, 7260)] == ["3.2 s", "61 s", "3 min 12 s", "2 h 1 min"]
    assert duration(119.7) == "2 min 0 s"
    assert [size(each) for each in (999, 1500, 2_340_000, 1_234_500_000)] == ["999 B", "1.5 kB", "2.3 MB", "1,234.5 MB"]
