"""index.html of a bundle of texts in headless Chromium: strings go into the graphs there as they do in Python."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from chromium import Browser, needed
from test_page import load
from test_text_bundles import KIND, LABELS, ODD, OWN, TEXTS, learner_of, packed
from texts import write_texts

from metaloom.config import Settings
from metaloom.errors import MetaloomError
from metaloom.handoff.adapting.one import adapt_to
from metaloom.handoff.bundle import page
from metaloom.handoff.shipped.verify import verify
from metaloom.learner import AdaptedTask

pytestmark = needed


@pytest.fixture(scope="module")
def with_page(save_model: Callable, tiny_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        page.web_runtime()
    except MetaloomError as error:
        pytest.skip(f"no registry of npm: {error}")
    folder = tmp_path_factory.mktemp("page")
    model = save_model(learner_of("protonet", "linear", tiny_settings), folder / "protonet")
    export = tiny_settings.export.model_copy(update={"page": True})
    settings = tiny_settings.model_copy(update={"export": export})
    adapt_to(write_texts(folder / "mine.csv", OWN), folder / "bundle", model, settings, lambda done, text: None)
    return folder / "bundle"


@pytest.fixture(scope="module")
def browser(with_page: Path):
    with Browser() as running:
        running.look(1000, dark=False)
        running.open(with_page / "index.html")
        running.run("window.ready")
        yield running


@pytest.fixture
def task(tiny_settings: Settings) -> AdaptedTask:
    return learner_of("protonet", "linear", tiny_settings).adapt(packed(TEXTS), LABELS)


def test_texts_are_answered_and_learned_as_in_python(browser: Browser, with_page: Path, task: AdaptedTask):
    assert verify(with_page).problems == []
    for text in [*ODD, TEXTS[3]]:
        found = browser.run(f"classify({json.dumps(text)})")["probabilities"]
        plain = " ".join(text.split())
        np.testing.assert_allclose(found, task.predict_proba(KIND.pack(np.array(plain))[None])[0], atol=1e-5)
    ways = np.unique(LABELS, return_inverse=True)[1].tolist()
    learned = f"(await learned(tensor({json.dumps(TEXTS)}.map(plain)), {ways}))(tensor([plain({json.dumps(ODD[2])})]))"
    found = browser.run(f"(async () => {learned})()")["probabilities"]
    expected = task.predict_proba(packed([ODD[2]]))[0]
    np.testing.assert_allclose(found[: len(expected)], expected, atol=1e-5)


def test_a_person_writes_clicks_and_teaches(
    browser: Browser, with_page: Path, task: AdaptedTask, tiny_settings: Settings
):
    shown = browser.run("[...document.querySelectorAll('.examples button')].map(each => each.lastChild.textContent)")
    assert shown == [TEXTS[LABELS.index(label)].lower() for label in sorted(set(LABELS))]
    write(browser, "#ask textarea", TEXTS[0])
    assert first(browser, "#known") == likeliest(task, TEXTS[0])
    write(browser, "#ask textarea", " ")
    browser.run("document.querySelector('.examples li:nth-child(3) button').onclick()")
    assert first(browser, "#known") == likeliest(task, shown[2])
    write(browser, "#ask textarea", " ")
    browser.run("new Promise(done => setTimeout(done, 400))")
    assert browser.run("document.querySelectorAll('#known .line').length") == 0
    taught = ["open the door", "close the door", "sell my apple", "sell an apple"]
    for way, texts in enumerate(("\n".join(taught[:2]), "\n\n".join(taught[2:]))):
        browser.run(f"document.querySelectorAll('.class textarea')[{way}].value = {json.dumps(texts)}")
    browser.run("$('#keep input').click()")  # the new classes alone
    write(browser, "#teach textarea", "please sell the apple")
    own = learner_of("protonet", "linear", tiny_settings).adapt(packed(taught), ["one", "one", "other", "other"])
    assert first(browser, "#learned") == likeliest(own, "please sell the apple")
    problems = [e for e in browser.events if e.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")]
    assert not problems
    fetched = [e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"]
    assert {url.partition(":")[0] for url in fetched} <= {"file", "blob", "data"}, fetched
    browser.run("document.querySelector('details').open = true")
    for width in (1000, 390):
        browser.look(width, dark=False)
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        browser.picture(with_page.parent / f"page{width}.png", whole=True)


TAUGHT = 'text,class\n"say ""hello"", friend","greeting, warm"\nhello there,"greeting, warm"\n'


def test_a_new_class_is_taught_beside_its_own_saved_and_loaded_again(
    browser: Browser, with_page: Path, tiny_settings: Settings, tmp_path: Path
):
    """The answers are torch's, and the file is a table as `metaloom adapt` reads it."""
    browser.open(with_page / "index.html")
    browser.run("window.ready")
    (tmp_path / "own.csv").write_text(TAUGHT)
    (tmp_path / "wrong.csv").write_text("a,b\n1,2\n")
    assert load(browser, tmp_path / "wrong.csv").endswith("it is no CSV file with the columns text and class")
    assert load(browser, tmp_path / "own.csv") == "Loaded 2 texts of 1 class."
    own = [
        (text, label) for label in sorted(set(LABELS)) for text, of in zip(TEXTS, LABELS, strict=True) if of == label
    ]
    few = [each for label in sorted(set(LABELS)) for each in [pair for pair in own if pair[1] == label][: page.SHOTS]]
    new = [('say "hello", friend', "greeting, warm"), ("hello there", "greeting, warm")]
    texts, labels = zip(*few, *new, strict=True)
    task = learner_of("protonet", "linear", tiny_settings).adapt(packed(list(texts)), list(labels))
    expected = dict(zip(task.classes, task.predict_proba(packed(["hello my friend"]))[0], strict=True))
    found = browser.run(ASKED)
    assert found == pytest.approx(expected, abs=1e-5)
    (tmp_path / "downloads").mkdir()
    saved = browser.saved("#save", tmp_path / "downloads")
    assert saved.name == "mine-taught.csv"
    with saved.open(encoding="utf-8", newline="") as rows:
        assert [tuple(row.values()) for row in csv.DictReader(rows)] == new
    browser.open(with_page / "index.html")
    browser.run("window.ready")
    load(browser, saved)
    assert browser.run(ASKED) == pytest.approx(found, abs=1e-6)


ASKED = """(async () => {
  const { names, answer } = await lesson.ask(tensor(["hello my friend"]));
  return Object.fromEntries(names.map((name, way) => [name, answer.probabilities[way]]));
})()"""


def likeliest(task: AdaptedTask, text: str) -> str:
    return task.classes[int(task.predict_proba(packed([text])).argmax())]


def write(browser: Browser, field: str, text: str) -> None:
    """Into a box, by the keys' own event."""
    browser.run(f"document.querySelector('{field}').closest('.row').querySelector('.answer').replaceChildren()")
    browser.run(
        f"document.querySelector('{field}').value = {json.dumps(text)};"
        f"document.querySelector('{field}').dispatchEvent(new Event('input'))"
    )


def first(browser: Browser, place: str) -> str:
    """The likeliest class, once there is an answer."""
    return browser.run(
        f"new Promise(done => {{ const look = () => {{ const n = document.querySelector('{place} .line span');"
        " n ? done(n.textContent) : setTimeout(look, 50); }; look(); })"
    )
