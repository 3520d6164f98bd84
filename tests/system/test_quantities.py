"""Shares, times and sizes in words."""

from __future__ import annotations

from metaloom.system.quantities import duration, interval95, percent, size, with_interval


def test_a_share_has_the_digits_of_its_interval():
    assert with_interval(0.9612, 0.0043) == "96.1 ± 0.4%"
    assert with_interval(0.9996, 0.0002) == "99.96 ± 0.02%"
    assert with_interval(0.9612, None) == "96.1%" and with_interval(0.9612, float("nan"), unit="") == "96.1"
    assert with_interval(float("nan"), 0.1) == percent(None) == "–"
    assert interval95(0.9418, 1.0) == "95% interval 94.2% to 100.0%"


def test_times_and_sizes_have_few_digits():
    assert [duration(each) for each in (3.21, 61.4, 192.4, 7260)] == ["3.2 s", "61 s", "3 min 12 s", "2 h 1 min"]
    assert duration(119.7) == "2 min 0 s"
    assert [size(each) for each in (999, 1500, 2_340_000, 1_234_500_000)] == ["999 B", "1.5 kB", "2.3 MB", "1,234.5 MB"]
