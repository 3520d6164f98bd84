"""What a log has where a terminal would have a progress bar."""

from __future__ import annotations

import pytest

from metaloom.system import terminal
from metaloom.system.terminal import QUIET, bar, say


@pytest.fixture
def clock(monkeypatch):
    """`clock(seconds)`: so much time goes by."""
    now = [1000.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(terminal._Log, "spoken", now[0])
    monkeypatch.setattr(terminal, "shows_bars", lambda: False)

    def passes(seconds: float) -> None:
        now[0] += seconds

    return passes


def test_a_log_has_a_line_after_half_a_minute_of_silence(clock, capsys):
    with bar("evaluate", 40) as running:
        for done in range(1, 41):
            clock(4)
            if done == 12:
                say("something else")
            running.update(done, "loss 0.5")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["evaluate: 8 of 40 after 0:32 min, loss 0.5", "something else"]
    assert [line.split(" of ")[0] for line in lines[2:]] == ["evaluate: 20", "evaluate: 28", "evaluate: 36"]


def test_work_of_hours_has_no_wall_of_lines(clock, capsys):
    with bar("train", 8 * 3600) as running:
        for done in range(8 * 3600):
            clock(1)
            running.update(done)
    assert 60 < len(capsys.readouterr().out.splitlines()) < 100


def test_what_is_quick_or_quiet_says_nothing(clock, capsys, monkeypatch):
    with bar("embed", 5) as running:
        for done in range(5):
            clock(5)
            running.update(done)
    monkeypatch.setenv(QUIET, "1")
    with bar("embed", 5) as running:
        clock(500)
        running.update(1)
    assert capsys.readouterr().out == ""
