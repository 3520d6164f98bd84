from __future__ import annotations

import json
import os
import stat

import pytest

from metaloom.errors import MetaloomError
from metaloom.system.files import atomic_dir, atomic_file, read_json, strict_json, write_json
from metaloom.system.plural import some
from metaloom.system.rounding import nulled


def test_a_folder_takes_the_place_of_the_old_one_as_a_whole(tmp_path):
    for text in ("first", "second"):
        with atomic_dir(tmp_path / "out") as folder:
            (folder / text).write_text(text)
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["second"]
    assert os.listdir(tmp_path) == ["out"]


def test_a_folder_is_as_it_was_when_writing_fails(tmp_path):
    with atomic_dir(tmp_path / "out") as folder:
        (folder / "good").touch()
    with pytest.raises(ZeroDivisionError), atomic_dir(tmp_path / "out") as folder:
        (folder / "half").touch()
        1 / 0  # noqa: B018
    assert os.listdir(tmp_path / "out") == ["good"]
    assert os.listdir(tmp_path) == ["out"]


def test_what_a_killed_process_left_is_cleared(tmp_path):
    (tmp_path / ".out.new").mkdir()
    (tmp_path / ".out.new" / "half").touch()
    with atomic_dir(tmp_path / "out") as folder:
        (folder / "whole").touch()
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(tmp_path / "out") == ["whole"]


def test_what_a_process_killed_between_two_renames_moved_away_comes_back(tmp_path):
    (tmp_path / ".out.old").mkdir()
    (tmp_path / ".out.old" / "good").touch()
    with pytest.raises(ZeroDivisionError), atomic_dir(tmp_path / "out"):
        1 / 0  # noqa: B018
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(tmp_path / "out") == ["good"]


def test_what_a_killed_process_left_of_a_file_is_written_over(tmp_path):
    (tmp_path / ".f.new").write_text("a longer half of what was to be written")
    write_json(tmp_path / "f", 1)
    assert os.listdir(tmp_path) == ["f"] and read_json(tmp_path / "f") == 1


def test_a_file_is_written_whole_or_not_at_all_and_readable_for_others(tmp_path):
    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / "f") as temporary:
        temporary.write_text("half")
        1 / 0  # noqa: B018
    assert os.listdir(tmp_path) == []
    write_json(tmp_path / "f", {"a": 1})
    (tmp_path / "plain").touch()
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert read_json(tmp_path / "f") == {"a": 1}


def test_missing_and_broken_json_say_what_to_do(tmp_path):
    with pytest.raises(MetaloomError, match="dvc repro evaluate"):
        read_json(tmp_path / "f.json", made_by="evaluate")
    (tmp_path / "f.json").write_text("{")
    with pytest.raises(MetaloomError, match="no valid JSON"):
        read_json(tmp_path / "f.json")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_json_has_not_is_refused_with_its_place(number, tmp_path):
    write_json(tmp_path / "f.json", {"a": 1})
    with pytest.raises(MetaloomError, match=rf"f\.json is not written: maml\.5w1s\.1\.nll is {number}, which JSON"):
        write_json(tmp_path / "f.json", {"maml": {"5w1s": [{"nll": 0.1}, {"nll": number}]}})
    assert read_json(tmp_path / "f.json") == {"a": 1}


def test_figures_that_do_not_exist_are_null():
    figures = {"a": {"x": float("nan"), "y": 0.5}, "b": [float("nan"), 1], "c": (None, "nan")}
    assert nulled(figures) == {"a": {"x": None, "y": 0.5}, "b": [None, 1], "c": [None, "nan"]}

    def refused(constant: str) -> None:
        raise AssertionError(constant)

    assert json.loads(strict_json(figures), parse_constant=refused) == nulled(figures)


@pytest.mark.parametrize(
    ("names", "said"), [([], ""), (["a"], "a"), (["a", "b"], "a, b"), (["a", "b", "c", "d"], "a, b and 2 more")]
)
def test_a_long_list_is_said_in_short(names, said):
    assert some(names, 2) == said
