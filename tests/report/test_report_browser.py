"""The page in headless Chromium: quiet, inside its window, legible, in light and dark."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from chromium import BINARY, Browser
from made_up_project import make_project
from PIL import Image

import metaloom.report
from metaloom.report.page import build

pytestmark = pytest.mark.skipif(not BINARY.exists(), reason=f"no browser at {BINARY}")

WIDTHS = (360, 768, 1280, 1600)
OUTSIDE = """[...document.querySelectorAll("main *, header *")].filter(e => {
  const box = e.getBoundingClientRect();
  const scrolls = e.closest(".scroll, pre, nav ul, .skip");
  return box.width && !scrolls && (box.right > innerWidth + 0.5 || box.left < -0.5);
}).map(e => e.outerHTML.slice(0, 120))"""
SMALL_TEXT = """[...document.querySelectorAll("body *")].filter(e =>
  [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()) && e.tagName != "SCRIPT"
  && parseFloat(getComputedStyle(e).fontSize) < 12).map(e => e.outerHTML.slice(0, 120))"""
OVERLAPS = """[...document.querySelectorAll("svg.dots, svg.xy")].flatMap(svg => {
  const boxes = [...svg.querySelectorAll("text:not(.number)")].map(t => [t.textContent, t.getBoundingClientRect()]);
  return boxes.flatMap(([a, p], i) => boxes.slice(i + 1).filter(([b, q]) =>
    p.left < q.right && q.left < p.right && p.top + 3 < q.bottom - 3 && q.top + 3 < p.bottom - 3)
    .map(([b]) => a + " | " + b));
})"""
LOOK = Path(__file__).parent / "look.json"
MEAN_GAP = 8  # of 255
PROBLEMS = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")


@pytest.fixture(scope="module")
def browser():
    with Browser() as running:
        yield running


@pytest.fixture(scope="module", params=["usual", "awkward"])
def file(request, tmp_path_factory):
    root = tmp_path_factory.mktemp(request.param)
    if request.param == "usual":
        project = make_project(root)
    else:
        long = "a_very_long_class_name_without_any_space_that_goes_on_and_on_<b>"
        settings, prefix = ("2w1s", "20w15s_domain"), "pictures_of_the_evaluation/"
        project = make_project(root, 60, 6, settings, ("maml",), size=64, class_name=long, prefix=prefix)
    page = root / "index.html"
    page.write_text(build(project), encoding="utf-8")
    return page


def test_fits_every_window_in_light_and_dark(browser, file):
    browser.events.clear()
    browser.open(file)
    browser.run('document.querySelectorAll("details").forEach(d => d.open = true)')
    backgrounds = set()
    for width in WIDTHS:
        for dark in (False, True):
            browser.look(width, dark)
            assert browser.run("document.documentElement.scrollWidth") <= width, (width, dark)
            assert browser.run(OUTSIDE) == [], (width, dark)
            assert browser.run(OVERLAPS) == [], (width, dark)
            backgrounds.add(browser.run("getComputedStyle(document.body).backgroundColor"))
    assert browser.run(SMALL_TEXT) == []
    assert len(backgrounds) == 2, "dark looks like light"
    requests = [e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
    assert all(url.startswith("data:") or url == file.as_uri() for url in requests) and requests
    assert [event for event in browser.events if event["method"] in PROBLEMS] == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_looks_as_it_did(browser, tmp_path_factory, dark):
    """Each part of the page as 24 × 12 cells of mean brightness; fonts differ, so only a gross change counts.

    `python tests/report/test_report_browser.py` draws the pictures anew.
    """
    page = tmp_path_factory.mktemp("look") / "index.html"
    page.write_text(build(make_project(page.parent)), encoding="utf-8")
    kept = json.loads(LOOK.read_text())["dark" if dark else "light"]
    found = looks(browser, page, dark)
    assert list(found) == list(kept), "parts of the page"
    for part, cells in found.items():
        gap = np.abs(np.array(cells) - np.array(kept[part]))
        assert gap.mean() < MEAN_GAP and np.median(gap) < MEAN_GAP / 2, (part, gap.mean())


def looks(browser, page: Path, dark: bool) -> dict[str, list[list[int]]]:
    """Mean brightness, 0 to 255, of each cell of the first 900 pixels of every part."""
    browser.look(1280, dark)
    browser.open(page)
    found = {}
    for part in browser.run('["main", ...[...document.querySelectorAll("section")].map(s => s.id)]'):
        browser.run(f'document.getElementById("{part}").scrollIntoView({{behavior: "instant"}})')
        picture = page.parent / f"{part}.png"
        browser.picture(picture)
        grey = Image.open(picture).convert("L").resize((24, 12), Image.Resampling.BOX)
        found[part] = np.asarray(grey).tolist()
    return found


def test_prints_every_episode(browser, file):
    browser.look(1000, dark=True, media="print")
    browser.open(file)
    closed = 'document.querySelectorAll("details:not([open])").length'
    before = browser.run(closed)
    browser.run('dispatchEvent(new Event("beforeprint"))')
    assert before > 0 and browser.run(closed) == 0
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    browser.run('dispatchEvent(new Event("afterprint"))')
    assert browser.run(closed) == before


def test_a_script_that_is_not_the_page_s_own_does_not_run(browser, file, tmp_path):
    text = file.read_text(encoding="utf-8").replace("</main>", "<script>window.intruder = 1</script></main>")
    (tmp_path / "changed.html").write_text(text, encoding="utf-8")
    browser.open(tmp_path / "changed.html")
    assert browser.run("typeof window.intruder") == "undefined"


def test_keyboard_reaches_the_results_first(browser, file):
    browser.look(1280, dark=False)
    browser.open(file)
    for event in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=event, key="Tab", code="Tab", windowsVirtualKeyCode=9)
    assert browser.run("document.activeElement.className") == "skip"
    assert browser.run("document.activeElement.getBoundingClientRect().left") >= 0


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_what_is_behind_it(dark):
    style = (Path(metaloom.report.__file__).parent / "templates" / "style.css").read_text()
    light_block, dark_block = re.findall(r":root \{(.*?)\}", style, re.S)[:2]
    colours = dict(re.findall(r"--(\w+): (#\w{6})", dark_block if dark else light_block))
    for ground in ("paper", "card"):
        for text in ("ink", "soft", "blue", "wrong"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        assert contrast(colours["grey"], colours[ground]) >= 3, "marks"
    assert contrast(colours["blue"], colours["tint"]) >= 4.5
    assert contrast(colours["soft"], colours["tint"]) >= 4.5


def contrast(one: str, other: str) -> float:
    """WCAG 2.1, section 1.4.3."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, Browser() as drawing:
        index = Path(folder) / "index.html"
        index.write_text(build(make_project(Path(folder))), encoding="utf-8")
        drawn = {name: looks(drawing, index, name == "dark") for name in ("light", "dark")}
    LOOK.write_text(json.dumps(drawn) + "\n")
