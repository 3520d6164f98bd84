from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from metaloom.config import StudySettings
from metaloom.errors import MetaloomError
from metaloom.tasks import class_table, draw_studies, load_studies


def classes(domains: int = 3, per_domain: int = 6, count: int = 12) -> pd.DataFrame:
    rows = [(f"d{d}/c{c}", f"d{d}") for d in range(domains) for c in range(per_domain) for _ in range(count)]
    table = pd.DataFrame(rows, columns=["class", "domain"]).assign(row=range(len(rows)))
    return class_table(table).assign(split="test")


def studies(**changes) -> StudySettings:
    default = {"kinds": ["any", "domain"], "episodes": 7, "n_way": 3, "labels": [1, 2, 5], "uneven": [1, 1, 4]}
    default |= {"ways": [2, 5], "estimates": {"tasks": 8, "n_shot": 2}}
    return StudySettings(**(default | changes))


@pytest.fixture
def points(tmp_path):
    draw_studies(classes(), studies(), 3, seed=0).to_parquet(tmp_path / "studies.parquet")
    return load_studies(tmp_path, studies())


def test_more_labels_are_further_ones_for_the_same_questions(points):
    for kind in ("any", "domain"):
        one, five = points[f"labels/{kind}/1"], points[f"labels/{kind}/5"]
        assert (one.support == five.support[:, :, :1]).all() and (one.query == five.query).all()
        assert one.support.shape == (7, 3, 1) and five.support.shape == (7, 3, 5)
        assert not set(five.support_rows[0]) & set(five.query_rows[0])


def test_uneven_labels_are_of_the_same_episodes(points):
    uneven, five = points["uneven/any"], points["labels/any/5"]
    assert np.bincount(uneven.labels).tolist() == [1, 1, 4] and uneven.support_rows.shape == (7, 6)
    assert uneven.support_rows[0].tolist() == [
        *five.support[0, 0, :1],
        *five.support[0, 1, :1],
        *five.support[0, 2, :4],
    ]
    assert (uneven.query == five.query).all()


def test_ways_are_nested_and_of_one_domain(points):
    names = [name for name in points if name.startswith("ways/")]
    assert len(names) == 9
    for domain in range(3):
        every, two = points[f"ways/all/d{domain}"], points[f"ways/2/d{domain}"]
        assert every.n_way == 6 and two.n_way == 2 and (two.query == every.query[:, :2]).all()
        assert (every.rows // (6 * 12) == domain).all()
        assert len({tuple(rows) for rows in every.support[:, :, 0] // 12}) > 1  # in another order each time


def test_estimates_ask_all_that_is_left(points):
    for kind in ("any", "domain"):
        assert points[f"estimates/{kind}"].query.shape == (4, 3, 10)
        assert points[f"estimates/{kind}"].support.shape == (4, 3, 2)


def test_drawn_once_and_each_study_by_itself():
    both = draw_studies(classes(), studies(), 3, seed=0)
    pd.testing.assert_frame_equal(both, draw_studies(classes(), studies(), 3, seed=0))
    alone = draw_studies(classes(), studies(kinds=["domain"], ways=[]), 3, seed=0)
    kept = both[both["setting"] == "labels_domain"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone[alone["setting"] == "labels_domain"].reset_index(drop=True), kept)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [1, 2, 10]}, r"studies: 3w10s needs 13 examples .* the largest that works is 9 shots"),
        ({"n_way": 30, "uneven": []}, r"studies: 30w5s needs 30 classes, .* the largest that works is 18 ways"),
        ({"ways": [2, 9]}, r"studies.ways has 9, but the largest test domain has 6 classes .* the largest that works"),
    ],
)
def test_what_the_split_cannot_serve_is_refused(changes, message):
    with pytest.raises(MetaloomError, match=message):
        draw_studies(classes(), studies(**changes), 3, seed=0)


@pytest.mark.parametrize("uneven", [[1, 1], [1, 1, 5], [1, 1, 7], [2, 3, 3]])
def test_uneven_labels_that_are_no_counterpart_of_even_ones_are_refused(uneven):
    with pytest.raises(ValueError, match="uneven is"):
        studies(uneven=uneven)


def test_too_few_examples_for_estimates_leave_them_out(tmp_path):
    few = studies(labels=[1, 2], uneven=[], estimates={"tasks": 8, "n_shot": 12})
    draw_studies(classes(), few, 3, seed=0).to_parquet(tmp_path / "studies.parquet")
    assert not any(name.startswith("estimates") for name in load_studies(tmp_path, few))


def test_missing_studies_name_their_stage(tmp_path):
    with pytest.raises(MetaloomError, match=r"studies.parquet not found: `dvc repro split` makes it"):
        load_studies(tmp_path, studies())
