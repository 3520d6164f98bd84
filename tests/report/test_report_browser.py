"""The page in headless Chromium: quiet, inside its window, legible, in light and dark."""

from __future__ import annotations

import json
import re
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from chromium import Browser, needed
from made_up_project import make_project
from PIL import Image

import metaloom.report
from metaloom.report.page import build

pytestmark = needed

WIDTHS = (360, 768, 1280, 1600)
OUTSIDE = """[...document.querySelectorAll("main *, header *")].filter(e => {
  const box = e.getBoundingClientRect();
  const scrolls = e.closest(".scroll, pre, .skip, nav");
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


@pytest.fixture(scope="session")
def awkward(tmp_path_factory):
    """A page of long names without spaces, many classes and large pictures."""
    root = tmp_path_factory.mktemp("awkward")
    long = "a_very_long_class_name_without_any_space_that_goes_on_and_on_<b>"
    settings, prefix = ("2w1s", "20w15s_domain"), "pictures_of_the_evaluation/"
    project = make_project(root, 24, 6, settings, ("maml",), size=64, class_name=long, prefix=prefix)
    path = root / "index.html"
    path.write_text(build(project), encoding="utf-8")
    return path


@pytest.mark.parametrize("which", ["file", "awkward"])
def test_fits_every_window_in_light_and_dark(browser, which, request):
    file = request.getfixturevalue(which)
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
    browser.look(390, dark=False)
    rows = "new Set([...document.querySelectorAll('nav li')].map(e => e.getBoundingClientRect().top)).size"
    assert browser.run(rows) == 1, "the navigation is one row"
    assert browser.run("(nav => nav.scrollWidth > nav.clientWidth)(document.querySelector('nav'))"), "it scrolls"
    assert browser.run(SMALL_TEXT) == []
    assert len(backgrounds) == 2, "dark looks like light"
    requests = [e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
    assert all(url.startswith("data:") or url == file.as_uri() for url in requests) and requests
    assert [event for event in browser.events if event["method"] in PROBLEMS] == []


CUT_NAMES = """[...document.querySelectorAll("main :has(> wbr)")].flatMap(e => {
  const words = [...e.childNodes].filter(n => n.nodeType == 3 && !n.data.includes(" ")), range = new Range();
  const cut = words.filter(n => { range.selectNodeContents(n); return range.getClientRects().length > 1; });
  return [...cut.map(n => n.data), ...(e.clientWidth && e.scrollWidth > e.clientWidth + 1 ? [e.textContent] : [])];
})"""


@pytest.mark.parametrize("width", [390, 1280])
def test_no_name_is_cut_and_none_goes_on_within_a_word(browser, awkward, width):
    browser.look(width, dark=False)
    browser.open(awkward)
    browser.run('document.querySelectorAll("details").forEach(d => d.open = true)')
    assert browser.run('document.querySelectorAll("main :has(> wbr)").length') > 50
    assert browser.run(CUT_NAMES) == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_looks_as_it_did(browser, file, tmp_path, dark):
    """Each part of the page as 24 × 12 cells of mean brightness; fonts differ, so only a gross change counts.

    `python tests/report/test_report_browser.py` draws the pictures again.
    """
    kept = json.loads(LOOK.read_text())["dark" if dark else "light"]
    found = looks(browser, file, dark, tmp_path)
    assert list(found) == list(kept), "parts of the page"
    for part, cells in found.items():
        gap = np.abs(np.array(cells) - np.array(kept[part]))
        assert gap.mean() < MEAN_GAP and np.median(gap) < MEAN_GAP / 2, (part, gap.mean())


def looks(browser, page: Path, dark: bool, folder: Path) -> dict[str, list[list[int]]]:
    """Mean brightness, 0 to 255, of each cell of the first 900 pixels of every part."""
    browser.look(1280, dark)
    browser.open(page)
    found = {}
    for part in browser.run('["main", ...[...document.querySelectorAll("section")].map(s => s.id)]'):
        browser.run(f'document.getElementById("{part}").scrollIntoView({{behavior: "instant"}})')
        picture = folder / f"{part}.png"
        browser.picture(picture)
        grey = Image.open(picture).convert("L").resize((24, 12), Image.Resampling.BOX)
        found[part] = np.asarray(grey).tolist()
    return found


FRAMES = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
CUT = """(() => {
  const box = document.querySelector(".snap").getBoundingClientRect();
  const names = document.querySelector(".figures tbody tr:not(.group) th").getBoundingClientRect();
  const cells = [...document.querySelectorAll(".figures tbody tr:not(.group) td")];
  const places = cells.map(e => e.getBoundingClientRect());
  const whole = places.filter(c => c.left >= names.right - 1 && c.right <= box.right + 1);
  const hidden = places.filter(c => c.right <= names.right + 1 || c.left >= box.right - 1);
  const spilt = cells.filter(e => e.scrollWidth > e.clientWidth + 1);
  const learners = document.querySelectorAll(".figures tbody tr:not(.group)").length;
  return [whole.length / learners, places.length - whole.length - hidden.length, spilt.length];
})()"""  # whole columns; cells that are cut at an edge; cells whose text is wider than they are


@pytest.mark.parametrize(("width", "whole"), [(360, 2), (390, 2), (768, 4), (1280, 8), (1600, 8)])
def test_no_column_of_the_figures_is_cut(browser, file, width, whole):
    browser.look(width, dark=False)
    browser.open(file)
    for measure in ("accuracy", "behind", "episodes"):
        browser.run(f"document.querySelector('input[value={measure}]').click()")
        browser.run("document.querySelector('.snap').scrollLeft = 0")
        assert browser.run(CUT) == [whole, 0, 0], measure
    browser.run("document.querySelector('.snap').scrollBy({left: 70, behavior: 'instant'})")
    browser.run(FRAMES)
    assert browser.run(CUT) == [whole, 0, 0], "scrolling stops at a whole column"


HINTED = """[...document.querySelectorAll(".scroll")].filter(e => e.clientWidth).map(e => {
  const hidden = e.scrollWidth > e.clientWidth + 1, said = getComputedStyle(e, "::before").content;
  return hidden == said.includes("scroll sideways") && hidden == (getComputedStyle(e).maskImage != "none");
})"""


@pytest.mark.parametrize(("width", "wide"), [(390, True), (1600, False)])
def test_what_a_narrow_window_hides_of_a_table_is_hinted_at(browser, file, width, wide):
    browser.look(width, dark=False)
    browser.open(file)
    browser.run('document.querySelectorAll("details").forEach(d => d.open = true)')
    browser.run(FRAMES)
    assert set(browser.run(HINTED)) == {True}
    assert bool(browser.run("document.querySelectorAll('.sideways').length")) == wide
    browser.run("document.querySelectorAll('.scroll').forEach(e => e.scrollTo({left: 9999, behavior: 'instant'}))")
    browser.run(FRAMES)
    assert browser.run("document.querySelectorAll('.scroll.more').length") == 0, "nothing is hidden at the end"


def test_figures_show_the_measure_that_was_asked_for(browser, file):
    browser.look(1280, dark=False)
    browser.open(file)
    cell = "document.querySelector('.figures tr.champion td').innerText"
    caption = "document.querySelector('.figures caption').innerText"
    assert browser.run(cell) == "93.5\xa0±\xa01.2%"
    browser.run("document.querySelector('input[value=accuracy]').focus()")
    for event in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=event, key="ArrowLeft", code="ArrowLeft", windowsVirtualKeyCode=37)
    assert browser.run(cell) == "n = 200" and "how many failed" in browser.run(caption)
    browser.run("document.querySelector('input[value=nll]').click()")
    assert browser.run(cell) == "0.065" and "Lower is better" in browser.run(caption)


def test_figures_are_downloaded_from_a_file(browser, file, tmp_path):
    browser.look(1280, dark=False)
    browser.open(file)
    browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    browser.run("document.querySelector('a[download]').click()")
    saved = tmp_path / "metaloom-figures.csv"
    deadline = time.monotonic() + 20
    while not saved.is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    table = pd.read_csv(saved)
    assert len(table) == 6 * 8 and table["champion"].sum() == 8


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
        drawn = {name: looks(drawing, index, name == "dark", Path(folder)) for name in ("light", "dark")}
    LOOK.write_text(json.dumps(drawn) + "\n")
