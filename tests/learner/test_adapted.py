"""A task model to disk and back."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from metaloom.errors import MetaloomError
from metaloom.kinds.pictures.encode import PictureEncoding
from metaloom.kinds.pictures.kind import Pictures
from metaloom.learner import AdaptedTask, Learner
from metaloom.methods import METHOD_CLASSES, TaskModel

SIZE = 16
IMAGES = np.random.default_rng(0).integers(0, 256, (9, SIZE, SIZE, 1), dtype=np.uint8)


def task_of(
    tiny, name: str = "protonet", norm: str = "batch", labels=(7, 3, 5), test_shift: int = 0, **others
) -> AdaptedTask:
    changed = tiny.method(name).model_copy(update={"norm": norm} | others)
    kind = Pictures(SIZE, 1, test_shift=test_shift)
    learner = Learner.create(name, tiny.model_copy(update={name: changed}), PictureEncoding(kind, (255.0,), (64.0,)))
    return learner.adapt(IMAGES, list(labels) * 3)


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("name", METHOD_CLASSES)
def test_it_comes_back_the_same(name, norm, tiny_settings, tmp_path):
    task = task_of(tiny_settings, name, norm)
    task.save(tmp_path / "made/on/the/way")
    again = AdaptedTask.load(tmp_path / "made/on/the/way")
    np.testing.assert_allclose(again.predict_proba(IMAGES), task.predict_proba(IMAGES), rtol=1e-5)
    assert again.classes == [3, 5, 7]
    assert again.encoding == task.encoding


@pytest.mark.parametrize("name", ["protonet", "ridge", "bank"])
def test_one_that_sees_shifted_pictures_comes_back_the_same(name, tiny_settings, tmp_path):
    task, plain = task_of(tiny_settings, name, test_shift=1), task_of(tiny_settings, name)
    task.save(tmp_path)
    again = AdaptedTask.load(tmp_path).predict_proba(IMAGES)
    np.testing.assert_allclose(again, task.predict_proba(IMAGES), rtol=1e-5)
    assert abs(again - plain.predict_proba(IMAGES)).max() > 1e-3


@pytest.mark.parametrize("labels", [("b", "ä", "c"), (1.5, -2.0, 3.25), (False, True, False)])
def test_classes_keep_their_type(labels, tiny_settings, tmp_path):
    task = task_of(tiny_settings, labels=labels)
    task.save(tmp_path)
    again = AdaptedTask.load(tmp_path)
    assert again.classes == task.classes == sorted(set(labels))
    assert [type(each) for each in again.classes] == [type(each) for each in task.classes]


def test_what_cannot_be_saved(tiny_settings, tmp_path):
    dates = [datetime.date(2026, 1, day) for day in (1, 2, 3)]
    with pytest.raises(MetaloomError, match="classes of type date cannot be saved: label with texts or numbers"):
        task_of(tiny_settings, labels=dates).save(tmp_path)

    @dataclass(frozen=True)
    class Another(TaskModel):
        pass

    task = task_of(tiny_settings)
    with pytest.raises(MetaloomError, match="Another over a Conv4 cannot be saved: save its learner"):
        replace(task, model=Another(**vars(task.model))).save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def changed(about: dict, key: str, value: object) -> dict:
    return {**about, key: value}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda about: changed(about, "format", 9), "has format 9; this metaloom reads 2"),
        (lambda about: {k: v for k, v in about.items() if k != "classes"}, "task.json is damaged: classes"),
        (lambda about: changed(about, "more", 1), "task.json is damaged: more"),
        (lambda about: [about], "task.json is damaged"),
        (lambda about: changed(about, "classes", ["a", "b"]), "another network or other classes"),
        (lambda about: changed(about, "network", about["network"] | {"width": 4}), "another network"),
        (lambda about: changed(about, "network", about["network"] | {"norm": "group"}), "another network"),
        (lambda about: changed(about, "network", about["network"] | {"width": "wide"}), "has no network"),
        (lambda about: changed(about, "network", about["network"] | {"name": "conv9"}), "has no network .*conv9"),
        (lambda about: changed(about, "network", {}), "has no network"),
        (lambda about: changed(about, "sha256", "0"), "is not the file that task.json"),
    ],
)
def test_a_damaged_description_is_refused(change, message, tiny_settings, tmp_path):
    task_of(tiny_settings).save(tmp_path)
    path = tmp_path / "task.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(MetaloomError, match=message):
        AdaptedTask.load(tmp_path)


def test_damaged_tensors_are_refused(tiny_settings, tmp_path):
    with pytest.raises(MetaloomError, match="task.json not found"):
        AdaptedTask.load(tmp_path)
    task_of(tiny_settings).save(tmp_path)
    path = tmp_path / "task.safetensors"
    data = path.read_bytes()
    for damaged in (data[:-1], data[:-1] + bytes([data[-1] ^ 1]), b""):
        path.write_bytes(damaged)
        with pytest.raises(MetaloomError, match="is not the file that task.json beside it was written with"):
            AdaptedTask.load(tmp_path)
    path.unlink()
    with pytest.raises(MetaloomError, match="cannot be read"):
        AdaptedTask.load(tmp_path)


@pytest.mark.parametrize("query", [IMAGES[:, :8], IMAGES / 255, IMAGES[..., 0], IMAGES[0]])
def test_predict_refuses_other_images(query, tiny_settings):
    with pytest.raises(MetaloomError, match=r"this learner takes uint8 \(query, 16, 16, 1\)"):
        task_of(tiny_settings).predict(query)


def test_arrays_that_torch_cannot_share(tiny_settings):
    task, backwards = task_of(tiny_settings), IMAGES[::-1]
    np.testing.assert_array_equal(task.predict_proba(backwards), task.predict_proba(IMAGES)[::-1])
    backwards.flags.writeable = False
    np.testing.assert_array_equal(task.predict_proba(backwards), task.predict_proba(IMAGES)[::-1])
