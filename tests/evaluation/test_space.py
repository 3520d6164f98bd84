from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from metaloom.evaluation.drift import changes, moved, newness
from metaloom.evaluation.space import Space, class_map, embed_classes, nearness


@pytest.fixture
def space() -> Space:
    rng = np.random.default_rng(0)
    splits = ["train"] * 20 + ["validation"] * 3 + ["test"] * 10
    classes = pd.DataFrame({"class": [f"c{n}" for n in range(33)], "domain": "d", "split": splits, "row": range(33)})
    return Space(classes, rng.normal(size=(33, 8)).astype(np.float32))


def test_prototypes_are_means_and_the_typical_picture_is_the_nearest(learner, images):
    classes = pd.DataFrame({"class": list("abc"), "domain": "d", "split": "test", "first": [0, 8, 16], "count": 8})
    space = embed_classes(learner, images, classes, most=4)
    for place, first in enumerate((0, 8, 16)):
        rows = first + np.array([0, 2, 4, 7])
        z = learner.embed(images, rows).numpy()
        np.testing.assert_allclose(space.prototypes[place], z.mean(axis=0), rtol=1e-4, atol=1e-5)
        assert space.classes["row"][place] == rows[np.linalg.norm(z - z.mean(axis=0), axis=1).argmin()]


def test_nearness_is_that_of_a_plain_loop(space):
    z, rows = space.prototypes, nearness(space)
    unit = np.median([min(np.linalg.norm(z[i] - z[j]) for j in range(20) if j != i) for i in range(20)])
    for place, row in enumerate(rows.itertuples()):
        far = [np.linalg.norm(z[23 + place] - z[j]) for j in range(20)]
        assert row.nearest == f"c{int(np.argmin(far))}" and row.distance == pytest.approx(min(far), rel=1e-5)
        assert row.relative == pytest.approx(min(far) / unit, rel=1e-5)


def test_the_map_has_all_test_classes_and_is_the_same_again(space):
    places = class_map(space, 0, most=25)
    assert (places["split"] == "test").sum() == 10 and (places["split"] == "train").sum() == 15
    assert places[["x", "y"]].min().tolist() == [0, 0] and places[["x", "y"]].max().tolist() == [1, 1]
    pd.testing.assert_frame_equal(places, class_map(space, 0, most=25))


def test_a_map_of_few_classes():
    classes = pd.DataFrame({"class": ["a", "b"], "domain": "d", "split": ["test", "train"], "row": [0, 1]})
    places = class_map(Space(classes, np.eye(2, 4)), 0)
    assert np.isfinite(places[["x", "y"]]).all(axis=None) and len(places) == 2


def items(rows: list[tuple[str, str]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["sha256", "class"])
    return table.assign(domain=table["class"].str.split("/").str[0])


def test_what_changed_between_two_versions():
    before = items([("1", "a/x"), ("2", "a/x"), ("3", "a/y"), ("4", "b/z"), ("5", "b/z")])
    now = items([("1", "a/x"), ("2", "a/y"), ("3", "a/y"), ("4", "b/z"), ("6", "a/y"), ("7", "c/new")])
    found = changes(before, now)
    assert found.relabelled == [("a/x", "a/y", 1)]
    assert found.domains == {"added": ["c"], "removed": []} and found.classes == {"added": ["c/new"], "removed": []}
    counts = found.examples.to_dict("index")
    assert counts["a"] == {"added": 1, "removed": 0, "relabelled": 1}
    assert counts["b"] == {"added": 0, "removed": 1, "relabelled": 0} and counts["c"]["added"] == 1
    assert changes(before, before).none and not found.none


def test_a_planted_shift_is_found_and_noise_is_not():
    rng = np.random.default_rng(0)
    before, alike = rng.normal(size=(2, 60, 8))
    shifted = rng.normal(size=(60, 8)) + np.r_[1.0, np.zeros(7)]
    assert moved("d", before, shifted).p <= 0.005
    assert moved("d", before, alike).p > 0.05
    spread = np.sqrt(((before - before.mean(axis=0)) ** 2).sum(axis=1).mean())
    gap = np.linalg.norm(before.mean(axis=0) - shifted.mean(axis=0))
    assert moved("d", before, shifted).distance == pytest.approx(gap / spread)


def test_new_classes_far_from_training_are_told_apart():
    training = np.arange(10, dtype=float)[:, None] * np.ones((1, 2))  # neighbours are √2 apart
    found = newness(np.array([[3.0, 3.5], [40.0, 40.0]]), training, np.linspace(0, 1, 101))
    assert found["nearest"] == [3, 9] and found["limit"] == pytest.approx(0.95)
    assert found["relative"] == pytest.approx([0.5 / 2**0.5, 31.0]) and found["beyond"] == 0.5
