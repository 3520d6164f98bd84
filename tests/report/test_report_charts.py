"""Curves and their axes."""

from __future__ import annotations

import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_project import write_curve

from metaloom.errors import MetaloomError
from metaloom.report.charts.marks import Curve, curve_plot, nice_ticks
from metaloom.report.charts.xy import MARK, NARROW, Series, xy_chart
from metaloom.report.page import build


def test_curves_without_finite_values(small):
    write_curve(small.models / "maml", "train", "loss", [100, 200, 300], [2.0, "nan", 1.0])
    assert "Training loss of MAML: 2 at step 100, 1 at step 300" in build(small)
    write_curve(small.models / "maml", "train", "loss", [100], ["nan"])
    with pytest.raises(MetaloomError, match=r"loss.tsv has no finite value: .* train@maml"):
        build(small)
    write_curve(small.models / "maml", "train", "loss", [100], ["much"])
    with pytest.raises(MetaloomError, match=r"loss.tsv is no table of steps and values"):
        build(small)


def test_a_point_of_the_curve_is_what_is_kept_only_where_the_metrics_say_so(small):
    """A bank's curve is of its networks, of which none is the whole."""
    metrics = small.models / "maml/metrics.json"
    before = json.loads(metrics.read_text())
    kept = f"kept: {100 * before['validation']['accuracy']:.1f}%"
    assert kept in build(small)
    before["validation"]["accuracy"] += 0.1
    metrics.write_text(json.dumps(before))
    assert kept not in build(small) and kept.removeprefix("kept: ") in build(small)


def test_ticks_say_where_they_are():
    assert nice_ticks(0.655, 0.752) == [0.65, 0.675, 0.7, 0.725, 0.75, 0.775]
    plot = str(curve_plot([Curve([100, 200], [0.655, 0.752])], "", percent=True))
    assert "67.5%" in plot and "72.5%" in plot and ">68%" not in plot


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_ticks_enclose_the_values(low, span):
    ticks = nice_ticks(low, low + span)
    slack = 1e-6 * (abs(low) + span) + 1e-9
    assert ticks[0] <= low + slack and ticks[-1] >= low + span - slack
    assert 2 <= len(ticks) <= 7 and ticks == sorted(set(ticks))


def test_numbered_marks_do_not_cover_each_other_on_a_phone():
    places = [(0.5, 0.98), (0.51, 0.98), (0.52, 0.97), (0.5, 0.9), (0.9, 0.98)]
    series = [Series(str(n), [place], "meta", number=n) for n, place in enumerate(places, 1)]
    drawn = str(xy_chart(series, [], [(0.0, "0%"), (1.0, "100%")], "", named=False))
    marks = [(float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)%" cy="([\d.]+)" r="9"', drawn)]
    assert len(marks) == len(places)
    for (x1, y1), (x2, y2) in itertools.combinations(marks, 2):
        assert abs(x1 - x2) * NARROW / 100 >= MARK or abs(y1 - y2) >= MARK - 0.1
