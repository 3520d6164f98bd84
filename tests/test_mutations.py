"""The planted bugs are where they are thought to be, and are met by the tests that touch them."""

from __future__ import annotations

import ast
import base64
import json
import os

import pytest
from coverage import CoverageData
from mutants import MUTANTS, Mutant
from mutations import as_markdown, named, place_of
from touching import OF_CHILDREN, Place, Touching, note_children, statement
from undone import UNDONE

FILE = "src/metaloom/some.py"


def test_there_are_twenty_in_many_rooms():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) == 20
    assert len({mutant.room for mutant in MUTANTS}) >= 14


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_stands_once_in_the_sources_and_changes_code(mutant, repo):
    place = place_of(mutant, repo)
    text = (repo / place.path).read_text(encoding="utf-8")
    planted = ast.parse(text.replace(mutant.old, mutant.new))
    assert ast.dump(planted) != ast.dump(ast.parse(text))


def test_a_text_that_has_gone_or_stands_twice_is_refused_with_its_places(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/one.py").write_text("a = 1\na = 1\n")
    with pytest.raises(LookupError, match="x stands 2 times .src/one.py, src/one.py"):
        place_of(Mutant("x", "", "", "a = 1", "a = 2"), tmp_path)
    with pytest.raises(LookupError, match="x stands 0 times .in no source"):
        place_of(Mutant("x", "", "", "b = 1", "b = 2"), tmp_path)


def test_a_place_is_a_whole_statement_and_of_a_compound_one_its_head():
    module = ast.parse("def f(\n    a,\n):\n    if a:\n        return [\n            a,\n        ]\n    return 0\n")
    assert statement(module, 6, 6) == range(5, 8)
    assert statement(module, 4, 4) == range(4, 5)
    assert statement(module, 2, 2) == range(1, 4)
    assert statement(module, 4, 5) == range(4, 6)
    assert statement(module, 5, 8) == range(5, 9)


@pytest.fixture
def touching(tmp_path):
    """Line 3 is passed by a quick and a slow test, line 5 in a fixture's making, line 1 on import."""
    data = CoverageData(str(tmp_path / ".coverage"))
    for context, lines in (
        ("", [1, 2]),
        ("tests/a.py::slow|run", [3]),
        ("tests/a.py::quick|run", [3]),
        ("tests/b.py::maker|setup", [5]),
        ("tests/b.py::left_out|run", [3]),
    ):
        data.set_context(context)
        data.add_lines({FILE: lines})
    data.write()
    log = tmp_path / "log"
    log.write_text("1.50s call     tests/a.py::slow\n0.50s setup    tests/a.py::slow\n0.20s call  tests/a.py::quick\n")
    fixtures = {
        "tests/a.py::slow": [],
        "tests/a.py::quick": ["tests:settings"],
        "tests/b.py::maker": ["tests:model"],
        "tests/c.py::other": ["tests:model"],
    }
    return Touching(tmp_path / ".coverage", log, fixtures)


def test_tests_that_pass_a_line_come_quickest_first(touching):
    assert touching.tests(Place(FILE, [3], [3, 5])) == ["tests/a.py::quick", "tests/a.py::slow"]
    assert touching.seconds("tests/a.py::slow") == 2.0


def test_tests_that_share_a_fixture_come_after_the_one_that_made_it(touching):
    assert touching.tests(Place(FILE, [5], [3, 5])) == ["tests/b.py::maker", "tests/c.py::other"]


def test_a_line_that_nobody_passes_is_touched_by_whatever_runs_a_function_of_its_file(touching):
    assert touching.tests(Place(FILE, [4], [3, 4])) == ["tests/a.py::quick", "tests/a.py::slow"]
    assert touching.tests(Place("src/metaloom/unknown.py", [1], [1])) == []


def test_a_line_outside_of_all_functions_stands_for_all_functions():
    text = "class A:\n    b = 1\n\n    def c(self):\n        return 2\n\n\ndef d():\n    return 3\n"
    assert Place.of(FILE, text, 2, 2) == Place(FILE, [5, 9], [5, 9])
    assert list(Place.of(FILE, text, 9, 9).lines) == [9]


def test_tests_are_taken_for_so_many_seconds_and_at_least_one(touching):
    tests = ["tests/a.py::quick", "tests/a.py::slow", "tests/b.py::maker"]
    assert touching.first(tests, 0.1) == tests[:1]
    assert touching.first(tests, 2.0) == tests[:1]
    assert touching.first(tests, 2.2) == tests[:2]
    assert touching.first(tests, 9.0) == tests


def test_the_failed_test_is_read_from_the_summary():
    text = "FAILED tests/a.py::one[x - y] - AssertionError: no\nERROR tests/b.py - ImportError\n"
    assert named("tests/a.py::one[x - y]", text) and named("tests/b.py::two", text)
    assert not named("tests/a.py::one", text)


def test_the_table_says_what_was_missed():
    verdict = {
        "name": "a",
        "room": "r",
        "breaks": "b",
        "caught": False,
        "by": "",
        "tests": 3,
        "left": 0,
        "seconds": 1.2,
    }
    table = as_markdown([verdict, verdict | {"left": 2}, verdict | {"caught": True, "by": "tests/a.py::one"}])
    assert "| **missed** | 3 | 1 |" in table and "| **missed**, 2 not run | 3 | 1 |" in table
    assert "| tests/a.py::one | 3 | 1 |" in table and "1 of 3 caught" in table


def test_child_processes_are_noted_under_the_test_that_starts_them(request, monkeypatch):
    monkeypatch.setenv(OF_CHILDREN, base64.b64encode(b'{"branch": true, "context": null}').decode())
    note_children(request.node, "run")
    config = json.loads(base64.b64decode(os.environ[OF_CHILDREN]))
    assert config == {"branch": True, "context": f"{request.node.nodeid}|run"}


def test_without_coverage_children_are_told_nothing(request, monkeypatch):
    monkeypatch.delenv(OF_CHILDREN, raising=False)
    note_children(request.node, "run")
    assert OF_CHILDREN not in os.environ


@pytest.mark.parametrize("name", UNDONE)
def test_each_remedy_that_can_be_undone_stands_once_in_the_sources_and_has_a_test(name, repo):
    undone, tests = UNDONE[name]
    assert place_of(undone, repo) and undone.old != undone.new
    file, _, test = tests.partition("::")
    assert f"def {test}" in (repo / file).read_text(encoding="utf-8")
