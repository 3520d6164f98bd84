from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from metaloom.config import EpisodeSettings, SplitSettings
from metaloom.errors import MetaloomError
from metaloom.tasks import assign_splits, class_table, draw_fixed_episodes, load_episodes


def a_class_table(domains: int = 8, classes: int = 6, count: int = 10) -> pd.DataFrame:
    names = [(f"set/d{d}", f"set/d{d}/c{c}") for d in range(domains) for c in range(classes)]
    rows = [(cls, domain, row) for row, (domain, cls) in enumerate(n for n in names for _ in range(count))]
    return class_table(pd.DataFrame(rows, columns=["class", "domain", "row"]))


def splits(**changes) -> SplitSettings:
    return SplitSettings(**({"train": "rest", "validation": 0.2, "test": 0.25} | changes))


def episodes(**changes) -> EpisodeSettings:
    default = {"settings": ["3w1s", "3w2s"], "within_domain": True, "n_query": 3, "validation": 7, "test": 9}
    return EpisodeSettings(**(default | changes))


def test_class_table_knows_where_each_class_stands():
    table = a_class_table(2, 2, 5)
    assert table["first"].tolist() == [0, 5, 10, 15]
    assert table["count"].tolist() == [5] * 4


def test_shares_keep_domains_whole_and_come_near():
    table = assign_splits(a_class_table(), splits(), seed=0)
    assert table.groupby("domain")["split"].nunique().max() == 1
    assert table["split"].value_counts(normalize=True)["test"] == pytest.approx(0.25, abs=0.07)
    assert set(table["split"]) == {"train", "validation", "test"}


def test_adding_a_domain_moves_no_domain_between_seen_and_unseen_by_much():
    before = assign_splits(a_class_table(20), splits(), seed=0).groupby("domain")["split"].first()
    after = assign_splits(a_class_table(21), splits(), seed=0).groupby("domain")["split"].first()
    assert (before != after[before.index]).sum() <= 2


def test_patterns_choose_and_exclude():
    table = assign_splits(a_class_table(), splits(test=["set/d[0-2]", "!set/d1"], validation=["set/d1"]), seed=0)
    by_split = table.groupby("split")["domain"].unique()
    assert set(by_split["test"]) == {"set/d0", "set/d2"}
    assert set(by_split["validation"]) == {"set/d1"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test": ["set/d0"], "validation": ["set/*"]}, "domain set/d0 is in both validation and test"),
        ({"test": ["greek"]}, "'greek' matches no domain; there are set/d0"),
        ({"train": "rest", "test": "rest"}, 'only one of train, test can be "rest"'),
        ({"train": ["set/d1"], "validation": ["set/d1", "!set/d1"]}, "leaves no domain for validation"),
    ],
)
def test_a_split_that_cannot_be(changes, message):
    with pytest.raises(MetaloomError, match=message):
        assign_splits(a_class_table(), splits(**changes), seed=0)


def test_too_few_domains():
    with pytest.raises(MetaloomError, match="data/ has 1 domain"):
        assign_splits(a_class_table(1), splits(), seed=0)


def test_fixed_episodes_are_what_they_say(tmp_path):
    classes = assign_splits(a_class_table(), splits(), seed=0)
    table = draw_fixed_episodes(classes, episodes(), seed=0)
    table.to_parquet(tmp_path / "episodes.parquet")
    class_of = np.repeat(np.arange(48), 10)
    domain_of = class_of // 6
    test_rows = {
        row
        for f, n in classes.loc[classes["split"] == "test", ["first", "count"]].to_numpy()
        for row in range(f, f + n)
    }
    for name, drawn in load_episodes(tmp_path, "test", []).items():
        assert drawn.support.shape == (9, 3, 2 if "2s" in name else 1)
        both = np.concatenate([drawn.support, drawn.query], axis=2)
        assert set(both.ravel()) <= test_rows
        for episode in both:
            assert len(np.unique(episode)) == episode.size
            of_way = class_of[episode]
            assert (of_way == of_way[:, :1]).all()
            assert len(np.unique(of_way[:, 0])) == 3
            if name.endswith("_domain"):
                assert len(np.unique(domain_of[episode])) == 1


def test_episodes_of_classes_of_many_sizes_stay_within_their_classes():
    owner = np.repeat(np.arange(6), [4, 9, 4, 6, 4, 5])  # the class of each row
    items = pd.DataFrame({"class": [f"d/c{each}" for each in owner], "domain": "d", "row": range(len(owner))})
    pool = class_table(items)
    both = pd.concat([pool.assign(split="validation"), pool.assign(split="test")])
    table = draw_fixed_episodes(both, episodes(settings=["3w1s"], within_domain=False, validation=60, test=60), seed=0)
    drawn = table.assign(owner=owner[table["row"]]).groupby(["split", "episode", "way"])
    assert (drawn["owner"].nunique() == 1).all() and (drawn["row"].nunique() == 4).all()


def test_fixed_episodes_depend_on_seed_and_name_alone():
    classes = assign_splits(a_class_table(), splits(), seed=0)
    full = draw_fixed_episodes(classes, episodes(), seed=0)
    fewer = draw_fixed_episodes(classes, episodes(settings=["3w2s"]), seed=0)
    shared = full[full["setting"].isin(fewer["setting"].unique())].reset_index(drop=True)
    pd.testing.assert_frame_equal(shared, fewer)
    assert not full.equals(draw_fixed_episodes(classes, episodes(), seed=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"settings": ["500w1s"], "within_domain": False},
            "largest that works is (6|12) ways: lower the ways",
        ),
        ({"settings": ["8w1s"], "within_domain": True}, "largest that works is 6 ways"),
        ({"settings": ["3w9s"]}, "needs 12 examples per class .* has 10"),
    ],
)
def test_a_setting_that_the_split_cannot_serve(changes, message):
    classes = assign_splits(a_class_table(), splits(), seed=0)
    with pytest.raises(MetaloomError, match=message):
        draw_fixed_episodes(classes, episodes(**changes), seed=0)


def test_load_episodes_says_what_is_missing(tmp_path):
    with pytest.raises(MetaloomError, match="dvc repro split"):
        load_episodes(tmp_path, "test", [])
