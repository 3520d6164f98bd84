from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from metaloom.config import EpisodeSettings, SplitSettings
from metaloom.errors import MetaloomError
from metaloom.tasks import assign_splits, class_table, draw_fixed_episodes, load_episodes
from metaloom.tasks.kept import kept_for, read_kept, write_kept
from metaloom.tasks.splits import unit_of


def a_class_table(domains: int = 8, classes: int = 6, count: int = 10) -> pd.DataFrame:
    names = [(f"set/d{d}", f"set/d{d}/c{c}") for d in range(domains) for c in range(classes)]
    rows = [(cls, domain, row) for row, (domain, cls) in enumerate(n for n in names for _ in range(count))]
    return class_table(pd.DataFrame(rows, columns=["class", "domain", "row"]))


def splits(**changes) -> SplitSettings:
    default = {"by": "auto", "train": "rest", "validation": 0.2, "test": 0.25, "reassign": False}
    return SplitSettings(**(default | changes))


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


def put(place: Path, table: pd.DataFrame, **changes) -> dict[str, str]:
    """Splits as the stage would keep them in `place`, from one call to the next."""
    own, kept = kept_for(read_kept(place), table, splits(**changes), seed=0)
    after = assign_splits(table, own, 0, kept)
    write_kept(place, after, unit_of(table, own), splits(**changes), seed=0)
    return dict(zip(after["class"], after["split"], strict=True))


@pytest.mark.parametrize("domains", [1, 8])
def test_what_has_a_split_stays_there_when_data_are_added(tmp_path, domains):
    place, before = tmp_path / "splits.yaml", {}
    for more in range(5):
        table = a_class_table(domains, 12 + 3 * more) if domains == 1 else a_class_table(domains + 2 * more)
        after = put(place, table)
        assert before.items() <= after.items()
        before = after
    assert 0.15 < sum(split == "test" for split in after.values()) / len(after) < 0.35


def test_domains_that_come_later_do_not_move_classes(tmp_path):
    before = put(tmp_path / "splits.yaml", a_class_table(1, 12))
    after = put(tmp_path / "splits.yaml", a_class_table(6, 12))
    assert before.items() <= after.items() and read_kept(tmp_path / "splits.yaml").by == "class"


def test_another_setting_or_a_wish_draws_again(tmp_path):
    place, table = tmp_path / "splits.yaml", a_class_table(20)
    first = put(place, table)
    text = place.read_text()
    test, train = (next(name for name, split in first.items() if split == own) for own in ("test", "train"))
    test, train = test.rsplit("/", 1)[0], train.rsplit("/", 1)[0]
    swapped = {f"- {test}": f"- {train}", f"- {train}": f"- {test}"}
    place.write_text("\n".join(swapped.get(line, line) for line in text.split("\n")))
    moved = put(place, table)
    assert moved[f"{test}/c0"] == "train" and moved[f"{train}/c0"] == "test"  # by hand
    assert put(place, table, reassign=True) == first
    put(place, table)
    assert sum(split == "test" for split in put(place, table, test=0.5).values()) > 50
    assert put(place, table) == first


def test_a_table_of_splits_that_is_damaged(tmp_path):
    place = tmp_path / "splits.yaml"
    put(place, a_class_table())
    text = place.read_text()
    assert text.startswith("# The split of each domain")
    for broken, message in (
        ("by: [", "is no valid YAML .*: fix it, or remove it and the splits are drawn again"),
        (text.replace("by: domain", "by: colour"), "splits.yaml: by: "),
        (text + "- set/d0\n- set/d0\n", "has set/d0 in two places"),
    ):
        place.write_text(broken)
        with pytest.raises(MetaloomError, match=message):
            read_kept(place)


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
    with pytest.raises(MetaloomError, match=r"data/ has 1 domain, .* or set split.by to class"):
        assign_splits(a_class_table(1), splits(by="domain"), seed=0)
    for classes, words in ((1, "1 class"), (4, "4 classes")):
        with pytest.raises(MetaloomError, match=f"^data/ has {words}, and a run needs 6 or more .*: add classes$"):
            assign_splits(a_class_table(1, classes), splits(), seed=0)


def of_sizes(*sizes: int) -> pd.DataFrame:
    """A class table of domains with so many classes."""
    rows = [(f"d{d:02}/c{c:02}", f"d{d:02}") for d, n in enumerate(sizes) for c in range(n) for _ in range(10)]
    return class_table(pd.DataFrame(rows, columns=["class", "domain"]).assign(row=range(len(rows))))


def pairs(table: pd.DataFrame) -> dict[str, int]:
    """Classes of the domain that has most of them, by split."""
    return table.groupby(["split", "domain"]).size().groupby("split").max().to_dict()


@pytest.mark.parametrize("seed", range(8))
def test_validation_and_test_have_two_classes_of_one_domain(seed):
    """Where domains have a class each, or classes are shared out one by one, they would not by chance."""
    for table, own in (
        (of_sizes(*[1] * 24, 6, 6), splits()),
        (of_sizes(*[3] * 8), splits(by="class", validation=0.1, test=0.1)),
        (of_sizes(3, 3), splits()),
    ):
        found = assign_splits(table, own, seed)
        assert min(pairs(found)["validation"], pairs(found)["test"]) > 1
        assert set(found["split"]) == {"train", "validation", "test"}
    assert pairs(assign_splits(of_sizes(*[1] * 9), splits(), seed))["test"] == 1  # there is nothing to do about it


@pytest.mark.parametrize(("unit", "sizes"), [("domain", [*[1] * 9, 4, 4]), ("class", [2] * 9)])
def test_what_has_a_split_stays_there_though_it_is_alone_in_it(unit, sizes):
    own, before = splits(by=unit), of_sizes(*[1] * 9)
    kept = assign_splits(before, own, 0).set_index(unit)["split"].to_dict()
    after = assign_splits(of_sizes(*sizes), own, 0, kept)
    assert kept.items() <= after.set_index(unit)["split"].to_dict().items()
    assert min(pairs(after)["validation"], pairs(after)["test"]) > 1


@pytest.mark.parametrize(("classes", "sizes"), [(24, [13, 5, 6]), (10, [5, 2, 3]), (6, [2, 2, 2]), (100, [60, 15, 25])])
def test_a_single_domain_is_split_class_by_class(classes, sizes):
    table = assign_splits(a_class_table(1, classes), splits(validation=0.15), seed=0)
    assert [int((table["split"] == name).sum()) for name in ("train", "validation", "test")] == sizes
    assert unit_of(a_class_table(2), splits()) == "class" and unit_of(a_class_table(3), splits()) == "domain"


def test_patterns_of_classes():
    table = assign_splits(a_class_table(1), splits(by="class", test=["*/c[01]"], validation=["*/c2"]), seed=0)
    assert table.loc[table["split"] == "test", "class"].tolist() == ["set/d0/c0", "set/d0/c1"]
    with pytest.raises(MetaloomError, match=r"'set/d0' matches no class; there are set/d0/c0"):
        assign_splits(a_class_table(1), splits(test=["set/d0"]), seed=0)


def test_splits_that_the_data_name_are_kept():
    table = a_class_table(1)
    named = table.assign(given=["train", "test", "", "", "validation", "test"])
    after = assign_splits(named, splits(), seed=0).set_index("class")["split"]
    assert [after[f"set/d0/c{n}"] for n in (0, 1, 4, 5)] == ["train", "test", "validation", "test"]
    assert unit_of(a_class_table(3).assign(given=["train", "test"] * 9), splits()) == "class"


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
