"""The page of all nights: one file, escaped, and inside its window on a phone."""

from __future__ import annotations

import re

import pytest
from chromium import Browser, needed

from metaloom.cli.retrain import history
from metaloom.errors import MetaloomError
from metaloom.retraining.nights import Night
from metaloom.retraining.page import page

OUTCOMES = ("promoted", "kept", "held", "candidate", "dropped", "", "promoted")
OUTSIDE = """[...document.querySelectorAll("main *, header *")].filter(e => {
  const box = e.getBoundingClientRect();
  return box.width && !e.closest(".skip, thead") && (box.right > innerWidth + 0.5 || box.left < -0.5);
}).map(e => e.outerHTML.slice(0, 120))"""


def made(count: int = 40) -> list[Night]:
    found = []
    for number in range(count):
        outcome, began = OUTCOMES[number % len(OUTCOMES)], 1_795_000_000.0 + 86400 * number
        night = Night(
            f"2026-11-{number:02}-b895169b", "k", "c", "d" * 32, began, outcome=outcome, seconds=61.4 * number
        )
        night.reason = f"v0.0.{number} is prod now (retrain/2026-11-{number:02}-b895169b): better <by> 1.2 points"
        night.version = f"v0.0.{number}" if outcome in ("promoted", "kept", "candidate") else ""
        night.champion, night.verdict = "v0.0.1", {"outcome": "better" if outcome == "promoted" else "not worse"}
        if outcome != "dropped":
            accuracy = 0.5 + number / 100
            night.figures = {"task": "greek", "accuracy": accuracy, "low95": accuracy - 0.02, "high95": accuracy + 0.01}
        found.append(night)
    found[min(2, count - 1)].notes.append(
        "a_class_with_a_very_long_name_without_any_space_that_goes_on_and_on_and_on_and_on" * 3
    )
    return found


def test_every_night_stands_there_with_its_figures():
    text = page(made(8), "glyphs & co", "prod", "v0.0.6")
    assert "<h1>v0.0.6 is prod</h1>" in text and "v0.0.6 was made" in text
    assert "8 retrainings: 3 promoted, 1 kept, 1 held, 1 candidate, 1 dropped, 1 not finished." in text
    assert text.count("<tr>") == 9 and '56.0% <span class="fine">(54.0 to 57.0%)</span>' in text
    assert "better &lt;by&gt;" in text and "<by>" not in text and "glyphs &amp; co" in text
    assert text.count("<circle") == 7 and "6 min 8 s" in text
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", text)


def test_one_night_that_is_not_finished():
    night = Night("2026-11-19-b895169b", "k", "c", "d", 1.0)
    text = page([night], "p", "prod", "")
    assert "Nothing is prod yet" in text and "not finished" in text and "<circle" not in text


def test_where_the_page_is_written(tmp_path, small, monkeypatch, capsys):
    monkeypatch.chdir(small.root)
    with pytest.raises(MetaloomError, match="no retraining yet, so there is nothing to show"):
        history(page=tmp_path / "nights.html")
    made(1)[0].save(small.root)
    with pytest.raises(MetaloomError, match="cannot be written: give a file in a folder that is there"):
        history(page=tmp_path / "nowhere/nights.html")
    history(page=tmp_path / "nights.html")
    assert "shows 1 retraining" in capsys.readouterr().out
    assert (tmp_path / "nights.html").read_text().startswith("<!doctype html>")


@pytest.mark.slow
@needed
def test_fits_every_window_in_light_and_dark(tmp_path):
    file, backgrounds = tmp_path / "nights.html", set()
    file.write_text(page(made(), "glyphs", "prod", "v0.0.35"))
    with Browser() as browser:
        browser.open(file)
        for width in (360, 390, 768, 1280):
            for dark in (False, True):
                browser.look(width, dark)
                assert browser.run("document.documentElement.scrollWidth") <= width, (width, dark)
                assert browser.run(OUTSIDE) == [], (width, dark)
                backgrounds.add(browser.run("getComputedStyle(document.body).backgroundColor"))
    assert len(backgrounds) == 2
