"""index.html of texts behind an encoder: the tokenizer runs in headless Chromium, and answers are those of Python."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundles import change_json
from chromium import Browser, needed
from test_encoded_text_bundles import OWN, TEXTS, learner  # noqa: F401 (a fixture)
from test_text_page import first, write
from text_encoders import write_tokenizer
from texts import write_texts
from tokenizers import Tokenizer

from metaloom.config import Settings
from metaloom.errors import MetaloomError
from metaloom.handoff.adapting.one import adapt_to
from metaloom.handoff.bundle import page
from metaloom.handoff.bundle.predict import predict
from metaloom.handoff.shipped.verify import verify
from metaloom.kinds import kind_from
from metaloom.kinds.encoded.texts import EncodedText
from metaloom.learner import Learner
from metaloom.system.files import sha256

pytestmark = [pytest.mark.slow, needed]
ASKED = ["Please  OPEN the door", "what of/that lamp?", "open " * 60, "日本語 🙂", "?", "naïve élan"]


@pytest.fixture(scope="module")
def bundle(
    save_model: Callable,
    learner: Learner,  # noqa: F811
    tiny_settings: Settings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    try:
        page.web_runtime()
    except MetaloomError as error:
        pytest.skip(f"no registry of npm: {error}")
    folder = tmp_path_factory.mktemp("page")
    export = tiny_settings.export.model_copy(update={"page": True})
    settings = tiny_settings.model_copy(update={"export": export})
    model = save_model(learner, folder / "protonet")
    adapt_to(write_texts(folder / "mine.csv", OWN), folder / "bundle", model, settings, lambda done, text: None)
    return folder / "bundle"


@pytest.fixture(scope="module")
def browser(bundle: Path):
    with Browser() as running:
        running.look(1000, dark=False)
        running.open(bundle / "index.html")
        running.run("window.ready")
        yield running


def test_texts_become_the_same_ids_and_answers_as_in_python(browser: Browser, bundle: Path):
    assert verify(bundle).problems == []
    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    tokenizer.no_padding()
    for text in ASKED:
        assert browser.run(f"tokens(plain({json.dumps(text)}))") == tokenizer.encode(" ".join(text.split())).ids
        (expected,) = predict(bundle, [text])
        found = browser.run(f"classify({json.dumps(text)})")["probabilities"]
        labels = json.loads((bundle / "labels.json").read_text())
        assert dict(zip(labels, found, strict=True)) == pytest.approx(expected.probabilities, abs=1e-4)


def test_what_is_taught_is_learned_as_in_python(browser: Browser, learner: Learner):  # noqa: F811
    taught = ["open the door", "close the door", "sell my apple", "sell an apple"]
    for way, texts in enumerate((taught[:2], taught[2:])):
        browser.run(f"document.querySelectorAll('.class textarea')[{way}].value = {json.dumps(chr(10).join(texts))}")
    browser.run("$('#keep input').click()")  # the new classes alone
    asked = "(async () => (await lesson.ask(tensor([plain('please sell the apple')]))).answer.probabilities)()"
    task = learner.adapt(learner.encoding.taken(taught), ["one", "one", "other", "other"])
    expected = task.predict_proba(learner.encoding.taken(["please sell the apple"]))[0]
    np.testing.assert_allclose(browser.run(asked)[:2], expected, atol=1e-4)


def test_a_person_writes_and_drops_files(browser: Browser, bundle: Path, tmp_path: Path):
    write(browser, "#ask textarea", TEXTS[0])
    assert first(browser, "#known") == predict(bundle, [TEXTS[0]])[0].label
    lines = tmp_path / "asked.txt"
    lines.write_text("\n\n".join(TEXTS[:40]) + "\n")
    write_texts(tmp_path / "asked.csv", [(text, "any") for text in TEXTS[:40]])
    expected = [each.label for each in predict(bundle, TEXTS[:40])]
    rows = "[...document.querySelectorAll('#answers tr')].map(row => row.children[1].textContent)"
    for file in (lines, tmp_path / "asked.csv"):
        browser.run("$('#answers').replaceChildren()")
        browser.give("#file input", file)
        browser.run(
            "new Promise(done => { const look = () => document.querySelector('#answers tr') ? done() :"
            " setTimeout(look, 20); look(); })"
        )
        assert browser.run(rows) == expected
        assert browser.run("$('#state').textContent") == f"{file.name}: {len(expected)} answers."
    (tmp_path / "no.csv").write_text("a,b\n1,2\n")
    browser.give("#file input", tmp_path / "no.csv")
    browser.run(
        "new Promise(done => { const look = () => $('#state').textContent === 'no.csv: it has no column text' ?"
        " done() : setTimeout(look, 20); look(); })"
    )
    drop = f"const dropped = new DataTransfer(); dropped.items.add(new File([{json.dumps(TEXTS[0])}], 'one.txt'));"
    browser.run(f"{drop} $('#ask').dispatchEvent(new DragEvent('drop', {{ dataTransfer: dropped }}))")
    browser.run(
        "new Promise(done => { const look = () => document.querySelectorAll('#answers tr').length === 1 ? done() :"
        " setTimeout(look, 20); look(); })"
    )
    problems = [e for e in browser.events if e.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")]
    assert not problems
    fetched = [e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"]
    assert {url.partition(":")[0] for url in fetched} <= {"file", "blob", "data"}, fetched
    for width in (1000, 390):
        browser.look(width, dark=False)
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        browser.picture(bundle.parent / f"page{width}.png", whole=True)


def test_a_tokenizer_that_the_page_cannot_read_is_named(bundle: Path, tmp_path: Path):
    kind = kind_from(json.loads((bundle / "metadata.json").read_text())["input"]).in_bundle(tmp_path)
    assert isinstance(kind, EncodedText)
    own = write_tokenizer(tmp_path / "tokenizer.json", model="WordLevel")
    other = replace(kind, encoder=replace(kind.encoder, tokenizer_sha256=sha256(own)))
    with pytest.raises(MetaloomError, match="reads WordPiece, BPE, Unigram, and the tokenizer is a WordLevel"):
        page._tokenizer(other)


def test_a_tokenizer_that_reads_otherwise_is_found_out(browser: Browser, bundle: Path, tmp_path: Path):
    """The page asks it about the same odd texts as `verify.py` does."""
    own = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    graphs, start, end = own / "page/graphs.js", "window.metaloomGraphs = ", ";\n"
    about = tmp_path / "about.json"
    about.write_text(graphs.read_text().removeprefix(start).removesuffix(end))
    change_json(about, lambda value: value["input"]["proofs"].update({"Hello, World!": [2, 9, 3]}))
    graphs.write_text(start + about.read_text() + end)
    browser.open(own / "index.html")
    browser.run("window.ready.catch(() => {})")
    said = browser.run("$('#state').textContent")
    assert said == 'This browser cannot run it: its tokenizer reads "Hello, World!" in another way than in training'
