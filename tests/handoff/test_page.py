"""index.html of a bundle in headless Chromium: the same answers as torch, and not one request."""

from __future__ import annotations

import base64
import itertools
import json
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from chromium import Browser, needed
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


FILMED = "domain0/class2/0.png"


@pytest.fixture(scope="module")
def browser(with_page: Path, shapes: Path, tmp_path_factory: pytest.TempPathFactory):
    """With a film of one picture as its camera."""
    film(shapes / FILMED, file := tmp_path_factory.mktemp("film") / "film.y4m")
    flags = "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"
    with Browser(*flags, f"--use-file-for-fake-video-capture={file}") as running:
        running.look(1000, dark=False)
        running.open(with_page / "index.html")
        running.run("window.ready")
        yield running


def asked(browser: Browser, file: Path, use: str) -> np.ndarray:
    data = base64.b64encode(file.read_bytes()).decode()
    return np.array(browser.run(PICTURE.format(data=data, use=use))["probabilities"])


@needed
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


@needed
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


SQUARED = """(async () => {{
  const file = new Blob([bytes("{data}")]);
  about.input.fit = "{fit}";
  return Array.from(squared(pixels(onPaper(await createImageBitmap(file)))).data);
}})()"""


@needed
@pytest.mark.parametrize("fit", get_args(Fit))
def test_an_example_is_resized_as_in_python_to_the_pixel(browser: Browser, longish: list[Path], fit: Fit):
    for file in longish:
        picture = decode(file.read_bytes(), 1)
        found = browser.run(SQUARED.format(data=base64.b64encode(file.read_bytes()).decode(), fit=fit))
        np.testing.assert_array_equal(np.reshape(found, (28, 28, 1)), resize(picture[None], 28, fit)[0])
    browser.run("about.input.fit = 'stretch'")


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


@needed
@pytest.mark.slow
def test_pictures_that_are_no_squares_are_padded_cropped_or_stretched_as_predict_does(
    browser: Browser, with_page: Path, make_learner, save_model, shapes: Path, tiny_settings, longish, tmp_path: Path
):
    answers = {}
    for fit in get_args(Fit):
        encoding = (learner := make_learner("protonet")).encoding
        read_so = learner.reading(replace(encoding, kind=replace(encoding.kind, fit=fit)))
        model = save_model(read_so, tmp_path / fit)
        bundle = with_page_alone(tmp_path / f"{fit}_bundle", model, shapes / "domain0", tiny_settings)
        browser.open(bundle / "index.html")
        browser.run("window.ready")
        files = [base64.b64encode(file.read_bytes()).decode() for file in longish]
        answers[fit] = np.array([browser.run(OPENED.format(data=data))["probabilities"] for data in files])
        labels = json.loads((bundle / "labels.json").read_text())
        expected = [[each.probabilities[label] for label in labels] for each in predict(bundle, longish)]
        np.testing.assert_allclose(answers[fit], expected, atol=1e-3, err_msg=fit)
    for fit, other in itertools.combinations(answers, 2):
        assert np.abs(answers[fit] - answers[other]).max() > 1e-2, (fit, other)
    browser.open(with_page / "index.html")  # for the tests that share the browser
    browser.run("window.ready")


LEARNED = "(await learned(tensor(window.held), [0, 0, 1, 1, 2, 2]))(tensor([pixels(canvas)]))"


@needed
def test_it_learns_new_classes_on_the_spot(browser: Browser, make_learner: Callable, shapes: Path):
    """Three classes of another domain, two examples each, given as a person's drawings would be."""
    files = [shapes / f"domain7/class{way}/{n}.png" for way in range(3) for n in range(2)]
    for file in files:
        asked_nothing = "window.held = [...(window.held ?? []), pixels(canvas)], {probabilities: []}"
        asked(browser, file, f"({asked_nothing})")
    query = shapes / "domain7/class1/5.png"
    found = asked(browser, query, f"await {LEARNED}")
    support = np.stack([decode(file.read_bytes(), 1) for file in files])
    task = make_learner("protonet").adapt(support, np.arange(3).repeat(2))
    expected = task.predict_proba(decode(query.read_bytes(), 1)[None])[0]
    np.testing.assert_allclose(found[:3], expected, atol=1e-5)
    assert not found[3:].any()


@needed
def test_a_person_draws_and_teaches(browser: Browser, with_page: Path):
    """With the mouse: a drawing is asked about; two classes get an example each and a third drawing is told apart."""
    browser.run("document.getElementById('title').scrollIntoView()")
    draw(browser, "#ask canvas", [(30, 30), (180, 180)])
    assert shown(browser, "#known") == 4
    for way, stroke in enumerate(([(40, 40), (40, 180)], [(30, 110), (190, 110)])):
        draw(browser, "#teach canvas", stroke)
        browser.run(f"document.querySelectorAll('.class > button')[{way}].click()")
    assert browser.run("document.querySelectorAll('.shots img').length") == 2
    browser.run("document.querySelector('#keep input').click()")  # the new classes alone
    draw(browser, "#teach canvas", [(60, 30), (60, 190)])
    assert shown(browser, "#learned") == 2
    assert browser.run("document.querySelector('#learned .line span').textContent") == "one"
    assert_alone(browser)


def assert_alone(browser: Browser) -> None:
    """It has asked nobody for anything, and nothing went wrong."""
    fetched = [e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"]
    assert {url.partition(":")[0] for url in fetched} <= {"file", "blob", "data"}, fetched
    problems = [e for e in browser.events if e.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")]
    assert not problems


@needed
def test_a_picture_of_each_class_is_shown_and_asked_about(browser: Browser, with_page: Path, shapes: Path):
    browser.run("$('#known').replaceChildren()")
    labels = json.loads((with_page / "labels.json").read_text())
    names = browser.run("[...document.querySelectorAll('.examples small')].map(each => each.textContent)")
    assert names == labels
    browser.run("document.querySelector('.examples li:nth-child(3) button').click()")
    assert shown(browser, "#known") == 4
    found = browser.run("[...document.querySelectorAll('#known .line span:last-child')].map(each => each.textContent)")
    (answer,) = predict(with_page, [shapes / f"domain0/{labels[2]}/0.png"])
    assert found == [f"{p:.1%}" for p in sorted(answer.probabilities.values(), reverse=True)]


def fresh(browser: Browser, bundle: Path) -> None:
    """Its page, with nothing taught."""
    browser.open(bundle / "index.html")
    browser.run("window.ready")


def teach(browser: Browser, name: str, files: list[Path]) -> None:
    """Examples of a class, as `Load` takes them."""
    with zipfile.ZipFile(Path(tempfile.mkdtemp()) / "own.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, f"somewhere/{name}/{file.name}")
    load(browser, Path(str(archive.filename)))


def load(browser: Browser, file: Path) -> str:
    """What the page says of it."""
    browser.run("say('')")
    browser.give("#load input", file)
    return browser.run(
        "new Promise(done => { const look = () => { const said = $('#state').textContent;"
        " said ? done(said) : setTimeout(look, 20); }; look(); })"
    )


ASKED = """(async () => {{
  const {{ names, answer }} = await lesson.ask(tensor([pixels(await decoded("data:image/png;base64,{data}"))]));
  return Object.fromEntries(names.map((name, way) => [name, answer.probabilities[way]]));
}})()"""


@needed
def test_a_new_class_is_taught_beside_its_own_saved_and_loaded_again(
    browser: Browser, with_page: Path, make_learner: Callable, shapes: Path, tmp_path: Path
):
    """The answers are those of torch, and of a bundle that is adapted to what was saved."""
    fresh(browser, with_page)
    new, query = [shapes / f"domain7/class1/{n}.png" for n in range(3)], shapes / "domain7/class1/5.png"
    teach(browser, "a new one", new)
    files = [file for way in range(4) for file in sorted((shapes / f"domain0/class{way}").iterdir())[:5]] + new
    support = np.stack([decode(file.read_bytes(), 1) for file in files])
    names = [file.parent.name for file in files[:-3]] + ["a new one"] * 3
    task = make_learner("protonet").adapt(support, names)
    expected = dict(zip(task.classes, task.predict_proba(decode(query.read_bytes(), 1)[None])[0], strict=True))
    question = ASKED.format(data=base64.b64encode(query.read_bytes()).decode())
    found = browser.run(question)
    assert found == pytest.approx(expected, abs=1e-5)
    (tmp_path / "downloads").mkdir()
    saved = browser.saved("#save", tmp_path / "downloads")
    assert saved.name == "domain0-taught.zip"
    with zipfile.ZipFile(saved) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "taught")
    kept = sorted((tmp_path / "taught/a new one").iterdir())
    for file, original in zip(kept, new, strict=True):
        np.testing.assert_array_equal(decode(file.read_bytes(), 1), decode(original.read_bytes(), 1))
    fresh(browser, with_page)
    assert load(browser, saved) == "Loaded 3 examples of 1 class."
    assert browser.run(question) == pytest.approx(found, abs=1e-6)
    browser.run("document.querySelector('.shots button').click()")  # one is taken away, and learned without
    assert browser.run("classes[0].shots.length") == 2
    assert browser.run(question) != pytest.approx(found, abs=1e-6)
    assert_alone(browser)


@needed
def test_what_cannot_be_loaded_is_said_and_changes_nothing(browser: Browser, tmp_path: Path):
    (tmp_path / "no.zip").write_bytes(b"nothing of that kind")
    for name, inside, content in (("empty.zip", ".hidden/1.png", b""), ("text.zip", "cat/1.png", b"no picture")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(inside, content)
    before = browser.run("classes.map(each => [each.name, each.shots.length])")
    for name, said in (
        ("no.zip", "it is no zip archive"),
        ("empty.zip", "it has no pictures in folders of classes"),
        ("text.zip", "cat/1.png is no picture: "),
    ):
        assert load(browser, tmp_path / name).startswith(f"{name} cannot be loaded: {said}")
    assert browser.run("classes.map(each => [each.name, each.shots.length])") == before


@needed
def test_the_camera_is_asked_about_and_teaches(browser: Browser, with_page: Path, shapes: Path):
    """A film of one picture stands in for it: its frames get the picture's own class."""
    fresh(browser, with_page)
    (expected,) = predict(with_page, [shapes / FILMED])
    browser.run("$('#ask [data-camera]').click()")
    until(browser, f"$('#known .line span')?.textContent === {json.dumps(expected.label)}")
    browser.run("$('#teach [data-camera]').click()")
    until(browser, "$('#ask [data-camera]').textContent === 'Camera' && $('#teach canvas').drawn")  # it is one camera
    browser.run("document.querySelector('.class > button').click()")
    assert browser.run("classes[0].shots.length") == 1
    until(browser, "document.querySelectorAll('#learned .line').length === 5")
    browser.run("$('#teach [data-clear]').click()")
    assert browser.run("$('#teach [data-camera]').textContent") == "Camera"
    assert_alone(browser)


@needed
def test_without_a_camera_it_says_so(browser: Browser):
    browser.run("navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotFoundError'); }")
    browser.run("$('#ask [data-camera]').click()")
    until(browser, "$('#state').textContent === 'No camera: there is none.'")


def until(browser: Browser, condition: str) -> None:
    """Wait until it holds."""
    look = f"const look = () => {condition} ? done() : setTimeout(look, 50); look();"
    browser.run(f"new Promise((done, late) => {{ setTimeout(() => late(new Error('late')), 20000); {look} }})")


def film(picture: Path, file: Path, side: int = 224) -> None:
    """One frame of a picture in grey (YUV4MPEG2)."""
    luma = np.asarray(Image.open(picture).convert("L").resize((side, side)), float) * 219 / 255 + 16
    chroma = np.full(side * side // 2, 128, np.uint8)
    frame = b"FRAME\n" + luma.round().astype(np.uint8).tobytes() + chroma.tobytes()
    file.write_bytes(f"YUV4MPEG2 W{side} H{side} F10:1 Ip A1:1 C420jpeg\n".encode() + frame)


@needed
def test_nothing_is_wider_than_the_window_and_no_word_is_cut(browser: Browser):
    long = ["Hymenopus_coronatus_on_a_white_orchid", "a class with a long name of many words", "x", "Zebra-finch/male"]
    browser.run(
        f"about.labels.splice(0, 4, ...{json.dumps(long)}); samples(uri => document.createTextNode(''), () => {{}})"
    )
    browser.run(f"show($('#known'), {json.dumps(long)}, {{probabilities: [.4, .3, .2, .1], novelty: [1]}})")
    names = "[...document.querySelectorAll('.line > span:first-child, .examples small')]"
    cut = f"{names}.filter(each => each.scrollWidth > each.clientWidth + 1)"
    for width in (1280, 390):
        browser.look(width, dark=False)
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        assert browser.run(f"{cut}.length") == 0
    browser.look(1000, dark=False)


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
