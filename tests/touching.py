"""Which tests run which lines, from a coverage file with a context for each test."""

from __future__ import annotations

import ast
import base64
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from coverage import CoverageData

SETUP, RUN, TEARDOWN = "setup", "run", "teardown"  # a context is `test|setup` and so on, as pytest-cov writes it
DURATION = re.compile(r"^ *([\d.]+)s +(?:setup|call|teardown) +(tests/.*)$", re.MULTILINE)
UNKNOWN = 0.005  # seconds of a test that the log does not name: pytest leaves out the quickest
OF_CHILDREN = "COVERAGE_PROCESS_CONFIG"  # how coverage tells child processes what to do


@dataclass(frozen=True)
class Place:
    """Lines of a file, which is named from the repo's root, and all lines of its functions."""

    path: str
    lines: Sequence[int]
    functions: Sequence[int]

    @classmethod
    def of(cls, path: str, text: str, first: int, last: int) -> Place:
        """The statement that holds these lines of a source; where that is in no function, and so runs while modules are
        imported, which children do for any test, all functions of the file."""
        module = ast.parse(text)
        found = [node for node in ast.walk(module) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        functions = {line for node in found for line in range(node.body[0].lineno, (node.end_lineno or 0) + 1)}
        lines = statement(module, first, last)
        return cls(path, lines if functions.issuperset(lines) else sorted(functions), sorted(functions))


class Touching:
    """Chooses tests for a place.

    Args:
        coverage: the file.
        durations: what `pytest --durations=0` has printed; None: all tests count as equally quick.
        fixtures: of every test that may be chosen, those that it may share with others (see `Collector`).
    """

    def __init__(self, coverage: Path, durations: Path | None, fixtures: Mapping[str, Sequence[str]]) -> None:
        self._data = CoverageData(str(coverage))
        self._data.read()
        self._fixtures = fixtures
        self._seconds: dict[str, float] = {}
        for seconds, test in DURATION.findall(durations.read_text(encoding="utf-8")) if durations else []:
            self._seconds[test] = self._seconds.get(test, 0.0) + float(seconds)

    @cached_property
    def _files(self) -> dict[str, str]:
        return {Path(name).as_posix(): name for name in self._data.measured_files()}

    def seconds(self, test: str) -> float:
        return self._seconds.get(test, UNKNOWN)

    def tests(self, place: Place) -> list[str]:
        """Those that pass the lines, then those that share a fixture with one that passes them in its setup; of each
        the quickest first. Where nobody passes them: all that run any function of the file."""
        names = [name for path, name in self._files.items() if f"/{path}".endswith(f"/{place.path}")]
        passing = self._passing(names, place.lines) or self._passing(names, place.functions)
        phases = [context.rpartition("|")[::2] for context in passing]
        own = {test for test, _ in phases if test in self._fixtures}
        shared = {fixture for test, phase in phases if phase == SETUP for fixture in self._fixtures.get(test, ())}
        others = {test for test, fixtures in self._fixtures.items() if shared.intersection(fixtures)} - own
        return [test for group in (own, others) for test in sorted(group, key=lambda test: (self.seconds(test), test))]

    def _passing(self, names: Sequence[str], lines: Sequence[int]) -> set[str]:
        by_line = [self._data.contexts_by_lineno(name) for name in names]
        return {context for known in by_line for line in lines for context in known.get(line, ())} - {""}

    def first(self, tests: Sequence[str], seconds: float) -> list[str]:
        """The first tests, for so many seconds, at least one."""
        spent = self.seconds(tests[0])
        for place, test in enumerate(tests[1:], start=1):
            spent += self.seconds(test)
            if spent > seconds:
                return list(tests[:place])
        return list(tests)


def statement(module: ast.Module, first: int, last: int) -> range:
    """Lines of the innermost statement that holds these ones, and of its body none but these."""
    holding = [
        node
        for node in ast.walk(module)
        if isinstance(node, ast.stmt) and node.lineno <= first and last <= (node.end_lineno or node.lineno)
    ]
    if not holding:
        return range(first, last + 1)
    node = max(holding, key=lambda each: (each.lineno, -(each.end_lineno or each.lineno)))
    body = getattr(node, "body", None)
    if not body:
        return range(node.lineno, (node.end_lineno or last) + 1)
    inside = first >= body[0].lineno
    return range(first if inside else node.lineno, max(0 if inside else body[0].lineno - 1, last) + 1)


class Collector:
    """A plugin of pytest that notes which fixtures each test may share with others."""

    def __init__(self) -> None:
        self.found: dict[str, list[str]] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            known = item._fixtureinfo.name2fixturedefs  # type: ignore[attr-defined]  # there is no public way to it
            last = {name: fixtures[-1] for name, fixtures in known.items() if fixtures}
            self.found[item.nodeid] = [f"{each.baseid}:{name}" for name, each in last.items() if is_shared(each)]


def is_shared(fixture: Any) -> bool:
    """Whether it may live longer than one test; those of pytest and its plugins make nothing of ours."""
    return fixture.scope != "function" and bool(fixture.baseid)


# As a plugin (tests/conftest.py names it): what child processes run is noted under the test that started them


def pytest_runtest_setup(item: pytest.Item) -> None:
    note_children(item, SETUP)


def pytest_runtest_call(item: pytest.Item) -> None:
    note_children(item, RUN)


def pytest_runtest_teardown(item: pytest.Item) -> None:
    note_children(item, TEARDOWN)


def note_children(item: pytest.Item, phase: str) -> None:
    """The context of child processes that start from now on; nothing where no coverage is measured."""
    config = os.environ.get(OF_CHILDREN)
    if config:
        changed = json.loads(base64.b64decode(config)) | {"context": f"{item.nodeid}|{phase}"}
        os.environ[OF_CHILDREN] = base64.b64encode(json.dumps(changed).encode()).decode()
