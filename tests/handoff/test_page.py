"""index.html of a bundle in headless Chromium: the same answers as torch, and not one request."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from chromium import BINARY, Browser
from PIL import ExifTags, Image, ImageDraw, ImageOps

from metaloom.config import Settings
from metaloom.data.support import read_support
from metaloom.errors import MetaloomError
from metaloom.handoff.adapting.one import adapt_to
from metaloom.handoff.adapting.solve import solve
from metaloom.handoff.bundle import page
from metaloom.handoff.bundle.contents import Maker
from metaloom.handoff.bundle.predict import predict
from metaloom.handoff.bundle.write import fill_folder
from metaloom.handoff.shipped.verify import verify
from metaloom.kinds.pictures.read import decode
from metaloom.kinds.pictures.resize import Fit, resize
from metaloom.learner import Learner

browser_needed = pytest.mark.skipif(not BINARY.exists(), reason=f"no browser at {BINARY}")
PICTURE = """(async () => {{
  const image = new Image();
  image.src = "data:image/png;base64,{data}";
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.width, image.height];
  canvas.getContext("2d").drawImage(image, 0, 0);
  return {use};
}})()"""


@pytest.fixture(scope="module")
def with_page(shapes: Path, model: Path, tiny_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        page.web_runtime()
    except MetaloomError as error:
        pytest.skip(f"no registry of npm: {error}")
    export = tiny_settings.export.model_copy(update={"page": True})
    out = tmp_path_factory.mktemp("page") / "bundle"
    settings = tiny_settings.model_copy(update={"export": export})
    adapt_to(shapes / "domain0", out, model, settings, lambda done, text: None)
    return out


@pytest.fixture(scope="module")
def browser(with_page: Path):
    with Browser() as running:
        running.look(1000, dark=False)
        running.open(with_page / "index.html")
        running.run("window.ready")
        yield running


def asked(browser: Browser, file: Path, use: str) -> np.ndarray:
    data = base64.b64encode(file.read_bytes()).decode()
    return np.array(browser.run(PICTURE.format(data=data, use=use))["probabilities"])


@browser_needed
def test_it_answers_as_torch_does(
    browser: Browser, with_page: Path, make_learner: Callable, shapes: Path, tmp_path: Path
):
    learner: Learner = make_learner("protonet")
    files = sorted((shapes / "domain0").rglob("*.png"))
    pictures = np.stack([decode(file.read_bytes(), 1) for file in files])
    task = learner.adapt(pictures, [file.parent.name for file in files])
    colour = np.random.default_rng(0).integers(0, 256, (40, 31, 3), dtype=np.uint8)
    Image.fromarray(colour).save(tmp_path / "colour.png")
    for file in (files[0], files[17], tmp_path / "colour.png"):
        expected = task.predict_proba(resize(decode(file.read_bytes(), 1)[None], 28))[0]
        np.testing.assert_allclose(asked(browser, file, "classify(pixels(canvas))"), expected, atol=1e-5)
    assert verify(with_page).problems == []


OPENED = """(async () => {{
  const file = new Blob([bytes("{data}")]);
  return classify(pixels(onPaper(await createImageBitmap(file))));
}})()"""


@browser_needed
def test_it_reads_files_as_predict_does(browser: Browser, with_page: Path, tmp_path: Path):
    """Light, dark and half-transparent shapes on a transparent ground, and a picture that lies on its side."""
    shape = Image.new("L", (44, 30))
    ImageDraw.Draw(shape).polygon([(4, 4), (38, 9), (12, 26)], fill=255)
    for name, colour, opacity in (("light", 250, 1.0), ("dark", 20, 1.0), ("half", 90, 0.5)):
        picture = Image.new("RGBA", shape.size, (colour,) * 3)
        picture.putalpha(shape.point(lambda level, opacity=opacity: int(opacity * level)))
        picture.save(tmp_path / f"{name}.png")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    ImageOps.invert(shape).save(tmp_path / "turned.png", exif=exif)
    files = [tmp_path / f"{name}.png" for name in ("light", "dark", "half", "turned")]
    labels = json.loads((with_page / "labels.json").read_text())
    for file, expected in zip(files, predict(with_page, files), strict=True):
        found = browser.run(OPENED.format(data=base64.b64encode(file.read_bytes()).decode()))["probabilities"]
        np.testing.assert_allclose(found, [expected.probabilities[label] for label in labels], atol=1e-3)


SCALED = """(async () => {{
  const file = new Blob([bytes("{data}")]);
  return Array.from(pixels(scaled(onPaper(await createImageBitmap(file)), SUPPORT_SIDE)).data);
}})()"""


def with_page_alone(folder: Path, model: Path, task: Path, settings: Settings) -> Path:
    """A bundle whose only graph is model.onnx, which is soon made."""
    maker = Maker.open(model, settings)
    encoding = maker.learner.encoding
    support = read_support(task, encoding.kind, encoding.packed)
    (solved,) = solve(maker, {task.name: support})
    folder.mkdir()
    export = settings.export.model_copy(update={"page": True})
    fill_folder(folder, replace(solved.contents(maker), learner=None), export)
    return folder


@pytest.fixture
def longish(tmp_path: Path) -> list[Path]:
    """A wide picture and a tall one, lopsided both."""
    for name, (width, height) in (("wide", (90, 40)), ("tall", (30, 71))):
        shape = Image.new("L", (width, height), 255)
        ImageDraw.Draw(shape).polygon([(1, 1), (width // 3, height - 2), (width - 2, height // 4)], fill=0)
        shape.save(tmp_path / f"{name}.png")
    return [tmp_path / "wide.png", tmp_path / "tall.png"]


@browser_needed
@pytest.mark.slow
def test_pictures_that_are_no_squares_are_padded_cropped_or_stretched_as_predict_does(
    browser: Browser, with_page: Path, make_learner, save_model, shapes: Path, tiny_settings, longish, tmp_path: Path
):
    """In the graph, to its rounding; a support picture is scaled by the browser, which blends pixels in its own way."""
    answers, squares = {}, {}
    for fit in get_args(Fit):
        encoding = (learner := make_learner("protonet")).encoding
        read_so = learner.reading(replace(encoding, kind=replace(encoding.kind, fit=fit)))
        model = save_model(read_so, tmp_path / fit)
        bundle = with_page_alone(tmp_path / f"{fit}_bundle", model, shapes / "domain0", tiny_settings)
        browser.open(bundle / "index.html")
        browser.run("window.ready")
        files = [base64.b64encode(file.read_bytes()).decode() for file in longish]
        answers[fit] = np.array([browser.run(OPENED.format(data=data))["probabilities"] for data in files])
        squares[fit] = np.array([browser.run(SCALED.format(data=data)) for data in files]).reshape(2, 112, 112)
        labels = json.loads((bundle / "labels.json").read_text())
        expected = [[each.probabilities[label] for label in labels] for each in predict(bundle, longish)]
        np.testing.assert_allclose(answers[fit], expected, atol=1e-3, err_msg=fit)
        resized = [resize(decode(file.read_bytes(), 1)[None], 112, fit)[0, :, :, 0] for file in longish]
        assert np.abs(squares[fit] - resized).mean(axis=(1, 2)).max() < 4, fit
    for fit, other in itertools.combinations(answers, 2):
        assert np.abs(answers[fit] - answers[other]).max() > 1e-2, (fit, other)
        assert np.abs(squares[fit] - squares[other]).mean() > 10, (fit, other)
    browser.open(with_page / "index.html")  # for the tests that share the browser
    browser.run("window.ready")


@browser_needed
def test_it_learns_new_classes_on_the_spot(browser: Browser, make_learner: Callable, shapes: Path):
    """Three classes of another domain, two examples each, given as a person's drawings would be."""
    files = [shapes / f"domain7/class{way}/{n}.png" for way in range(3) for n in range(2)]
    for file in files:
        asked_nothing = "window.held = [...(window.held ?? []), pixels(canvas)], {probabilities: []}"
        asked(browser, file, f"({asked_nothing})")
    query = shapes / "domain7/class1/5.png"
    found = asked(browser, query, "learn(window.held, [0, 0, 1, 1, 2, 2], pixels(canvas))")
    support = np.stack([decode(file.read_bytes(), 1) for file in files])
    task = make_learner("protonet").adapt(support, np.arange(3).repeat(2))
    expected = task.predict_proba(decode(query.read_bytes(), 1)[None])[0]
    np.testing.assert_allclose(found[:3], expected, atol=1e-5)
    assert not found[3:].any()


@browser_needed
def test_a_person_draws_and_teaches(browser: Browser, with_page: Path):
    """With the mouse: a drawing is asked about; two classes get an example each and a third drawing is told apart."""
    browser.run("document.getElementById('title').scrollIntoView()")
    draw(browser, "#ask canvas", [(30, 30), (180, 180)])
    assert shown(browser, "#known") == 4
    for way, stroke in enumerate(([(40, 40), (40, 180)], [(30, 110), (190, 110)])):
        draw(browser, "#teach canvas", stroke)
        browser.run(f"document.querySelectorAll('.class button')[{way}].click()")
    assert browser.run("document.querySelectorAll('.shots img').length") == 2
    draw(browser, "#teach canvas", [(60, 30), (60, 190)])
    assert shown(browser, "#learned") == 2
    assert browser.run("document.querySelector('#learned .line span').textContent") == "one"
    fetched = [e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"]
    assert {url.partition(":")[0] for url in fetched} <= {"file", "blob", "data"}, fetched
    problems = [e for e in browser.events if e.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")]
    assert not problems
    browser.picture(with_page.parent / "page.png", whole=True)


def draw(browser: Browser, canvas: str, points: list[tuple[int, int]]) -> None:
    browser.run(f"document.querySelector('{canvas}').scrollIntoView({{block: 'center'}})")
    box = json.loads(browser.run(f"JSON.stringify(document.querySelector('{canvas}').getBoundingClientRect())"))
    for kind, (x, y) in zip(
        ("mousePressed", "mouseMoved", "mouseReleased"), (points[0], points[1], points[1]), strict=True
    ):
        at = {"x": box["left"] + x, "y": box["top"] + y, "button": "left", "clickCount": 1}
        browser.call("Input.dispatchMouseEvent", type=kind, **at)


def shown(browser: Browser, place: str) -> int:
    """Lines of an answer, once it is there."""
    return browser.run(
        f"new Promise(done => {{ const look = () => {{ const n = document.querySelectorAll('{place} .line').length;"
        " n ? done(n) : setTimeout(look, 50); }; look(); })"
    )


def test_a_page_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9")
    with pytest.raises(MetaloomError, match="onnxruntime-web cannot be had from http://127.0.0.1:9"):
        page.web_runtime()
    assert list(tmp_path.iterdir()) == []


def test_another_file_than_the_pinned_one_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    registry = tmp_path / "registry/onnxruntime-web/-"
    registry.mkdir(parents=True)
    (registry / f"onnxruntime-web-{page.VERSION}.tgz").write_bytes(b"something else")
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", (tmp_path / "registry").as_uri())
    with pytest.raises(MetaloomError, match="is not the file that is pinned"):
        page.web_runtime()
    assert not (tmp_path / "cache").exists()


def test_without_a_page_a_bundle_says_so(
    monkeypatch: pytest.MonkeyPatch, shapes: Path, model: Path, tiny_settings: Settings, tmp_path: Path, capsys
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9")
    for wanted in ("auto", True):
        export = tiny_settings.export.model_copy(update={"page": wanted})
        settings = tiny_settings.model_copy(update={"export": export})
        if wanted is True:
            with pytest.raises(MetaloomError, match="export.page needs it"):
                adapt_to(shapes / "domain0", tmp_path / "b2", model, settings, lambda done, text: None)
            assert not (tmp_path / "b2").exists()
        else:
            adapt_to(shapes / "domain0", tmp_path / "b1", model, settings, lambda done, text: None)
            assert "has no index.html: onnxruntime-web cannot be had" in capsys.readouterr().out
            assert not (tmp_path / "b1/index.html").exists() and not verify(tmp_path / "b1").problems
