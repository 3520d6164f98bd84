"""Do the tests notice? Twenty planted bugs (`tests/mutants.py`), each run with -x against the tests that touch it.

    python tests/mutations.py -m "not slow and not sweep" --work build/mutations --out fast.json

A bug is planted in a clone of the last commit. The tests run there once as they are, with coverage: which of them pass
which line, and how long each takes. Then for each bug those that pass its line go first, and next those that share a
fixture in whose making it is passed; of each the quickest first. A line outside of all functions (the fields of a
class) is touched by whatever runs a function of its file. A test that fails counts once it has passed without the bug.

--coverage and --durations take a coverage file and a log that are there already, of that very commit:

    pytest -n0 -m "not slow and not sweep" --cov --cov-context=test --cov-report= --durations=0 -vv > tests.log

Give names of bugs for some of them only. --out is added to, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from mutants import MUTANTS, Mutant
from touching import Collector, Place, Touching

REPO = Path(__file__).resolve().parents[1]
ROOTS = ("src", "flows")
FEW, MANY = 30.0, 240.0  # seconds of tests in the first call of pytest for a bug, and in every other one
START, SLOWER = 400.0, 4  # seconds that a call may take beside its tests (a run that they share), and their factor
WHOLE = 7200.0  # seconds in which all tests have to end
ONE_PROCESS = ["-n0"] if find_spec("xdist") else []  # whatever pyproject.toml says

NO_END = "(no end)"
ITS_OWN = "tests/test_mutations.py"  # fails wherever a bug is planted, since it looks for the sound text


@dataclass(frozen=True)
class Verdict:
    """What became of one bug.

    Args:
        name, room, breaks: as in `Mutant`.
        caught: whether a test failed.
        by: that test.
        tests: how many touch the bug.
        left: how many of them did not run, because one failed before or the time was over.
        seconds: until it was known.
    """

    name: str
    room: str
    breaks: str
    caught: bool
    by: str
    tests: int
    left: int
    seconds: float


def place_of(mutant: Mutant, root: Path) -> Place:
    """Find the text that the mutant replaces.

    Raises:
        LookupError: it is in no source below `root`, or in more than one place; says where.
    """
    sources = {path: path.read_text(encoding="utf-8") for name in ROOTS for path in sorted((root / name).rglob("*.py"))}
    found = [path for path, text in sources.items() for _ in range(text.count(mutant.old))]
    if len(found) != 1:
        where = ", ".join(path.relative_to(root).as_posix() for path in found) or "in no source"
        raise LookupError(f"the text of mutant {mutant.name} stands {len(found)} times ({where}): {mutant.old!r}")
    (path,), text = found, sources[found[0]]
    first = text[: text.index(mutant.old)].count("\n") + 1
    return Place.of(path.relative_to(root).as_posix(), text, first, first + mutant.old.count("\n"))


class Clone:
    """A copy of the last commit in which bugs are planted and tests run.

    Args:
        repo: what is copied.
        folder: for the copy; one that is there is brought to that commit.
        prefix: goes before every command.
    """

    def __init__(self, repo: Path, folder: Path, prefix: Sequence[str] = ()) -> None:
        self.root, self._prefix = folder / "clone", list(prefix)
        if not self.root.exists():
            subprocess.run(["git", "clone", "--quiet", "--shared", repo.resolve(), self.root], check=True)
            (self.root / ".venv").symlink_to(sys.prefix)
        git = ["git", "-C", str(self.root)]
        subprocess.run([*git, "fetch", "--quiet", repo.resolve(), "HEAD"], check=True)
        subprocess.run([*git, "reset", "--quiet", "--hard", "FETCH_HEAD"], check=True)

    def covered(self, marks: str) -> tuple[Path, Path]:
        """The coverage of the tests that the marks choose, and what pytest printed; made once for a commit and marks.

        Raises:
            RuntimeError: the tests cannot run, or take too long.
        """
        commit, chosen = (self.root / ".git/FETCH_HEAD").read_text(encoding="utf-8")[:12], re.sub(r"\W+", "_", marks)
        coverage, log = (self.root.with_name(f"{commit}_{chosen}.{kind}") for kind in ("coverage", "log"))
        if not log.exists():
            measure = ["--cov", "--cov-context=test", "--cov-report=", "--durations=0", "-vv", "-m", marks]
            with mock.patch.dict(os.environ, COVERAGE_FILE=str(coverage)):
                code, text = self._python(["-m", "pytest", "-p", "no:cacheprovider", *ONE_PROCESS, *measure], WHOLE)
            if code not in (0, 1):  # 1: some fail, which is found out again before they count
                raise RuntimeError(f"the tests cannot run ({code}) or do not end in {WHOLE:.0f} s:\n{text[-3000:]}")
            log.write_text(text, encoding="utf-8")
        return coverage, log

    def fixtures(self, marks: str) -> dict[str, list[str]]:
        """For every test that the marks choose the fixtures that it may share with others."""
        out = self.root.with_name("fixtures.json")
        code, text = self._python([__file__, "--collect", str(out), "-m", marks], 300)
        if code:
            raise RuntimeError(f"the tests cannot be collected ({code}):\n{text[-3000:]}")
        return json.loads(out.read_text(encoding="utf-8"))

    @contextlib.contextmanager
    def planted(self, mutant: Mutant) -> Iterator[None]:
        path = self.root / place_of(mutant, self.root).path
        sound = path.read_text(encoding="utf-8")
        self._write(path, sound.replace(mutant.old, mutant.new))
        try:
            yield
        finally:
            self._write(path, sound)

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text, encoding="utf-8")
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            compiled.unlink()  # Python takes a source of the same size and second for the same

    def failing(self, tests: Sequence[str], seconds: float) -> str | None:
        """The first test that fails, or None; `NO_END` where they have not ended after so many seconds."""
        code, text = self._python(
            ["-m", "pytest", "-x", "-rfE", "-p", "no:cacheprovider", *ONE_PROCESS, *tests], seconds
        )
        if code is None:
            return NO_END
        if code == 0:
            return None
        failed = next((test for test in tests if named(test, text)), None)
        if failed is None:
            raise RuntimeError(f"pytest ended with {code} and names no test that failed:\n{text[-3000:]}")
        return failed

    def _python(self, arguments: Sequence[str], seconds: float) -> tuple[int | None, str]:
        """Exit code (None: still running after so many seconds) and output."""
        paths = [self.root / "src", self.root, self.root / "tests"]
        variables = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}
        command = [*self._prefix, "timeout", "--foreground", "-k", "20", f"{seconds:.0f}", sys.executable, *arguments]
        done = subprocess.run(command, cwd=self.root, env=variables, capture_output=True, text=True)
        late = done.returncode in (124, 128 + signal.SIGKILL)
        return None if late else done.returncode, done.stdout + done.stderr


def named(test: str, text: str) -> bool:
    """Whether pytest's summary says that the test failed, or that its file cannot be collected."""
    names = "|".join(re.escape(name) for name in (test, test.partition("::")[0]))
    return bool(re.search(rf"^(FAILED|ERROR) ({names})( - |$)", text, re.MULTILINE))


def judge(mutant: Mutant, clone: Clone, touching: Touching, limit: float) -> Verdict:
    """Run the tests that touch the mutant until one fails that passes without it, or until `limit` seconds are over."""
    started, caught, most = time.monotonic(), "", FEW
    tests = [test for test in touching.tests(place_of(mutant, clone.root)) if not test.startswith(ITS_OWN)]
    waiting = list(tests)
    while waiting and not caught and time.monotonic() - started < limit:
        chunk, most = touching.first(waiting, most), MANY
        allowed = START + SLOWER * sum(map(touching.seconds, chunk))
        with clone.planted(mutant):
            failed = clone.failing(chunk, allowed)
        asked = chunk if failed in (None, NO_END) else [failed]
        waiting = waiting[waiting.index(asked[-1]) + 1 :]
        if failed and clone.failing(asked, allowed) is None:
            caught = failed
        elif failed:
            print(f"{failed} without the bug too: left out", file=sys.stderr, flush=True)
    seconds = round(time.monotonic() - started, 1)
    return Verdict(mutant.name, mutant.room, mutant.breaks, bool(caught), caught, len(tests), len(waiting), seconds)


def as_markdown(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """The table, and how many were caught."""
    rows = []
    for v in verdicts:
        by = v["by"] or "**missed**" + (f", {v['left']} not run" if v["left"] else "")
        rows.append(f"| {v['name']} | {v['room']} | {v['breaks']} | {by} | {v['tests']} | {v['seconds']:.0f} |")
    head = ["| bug | room | what it breaks | caught by | tests that touch it | seconds |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *rows, "", f"{sum(v['caught'] for v in verdicts)} of {len(verdicts)} caught"])


def run(given: argparse.Namespace, folder: Path) -> None:
    """Judge the bugs that are asked for; the table is written after each."""
    known = json.loads(given.out.read_text(encoding="utf-8")) if given.out.is_file() else []
    verdicts = {each["name"]: each for each in known}
    clone = Clone(given.repo, folder, shlex.split(given.prefix))
    coverage, log = (given.coverage, given.durations) if given.coverage else clone.covered(given.marks)
    touching = Touching(coverage, log, clone.fixtures(given.marks))
    for mutant in MUTANTS:
        if mutant.name in (given.names or {each.name for each in MUTANTS} - verdicts.keys()):
            verdicts[mutant.name] = asdict(judge(mutant, clone, touching, given.limit))
            print(json.dumps(verdicts[mutant.name], ensure_ascii=False), file=sys.stderr, flush=True)
            text = json.dumps([verdicts[each.name] for each in MUTANTS if each.name in verdicts], indent=2)
            given.out.write_text(text + "\n", encoding="utf-8")
    print(as_markdown([verdicts[each.name] for each in MUTANTS if each.name in verdicts]))


def collect(out: Path, marks: str) -> int:
    collector = Collector()
    code = pytest.main(["--collect-only", "-m", marks, *ONE_PROCESS], plugins=[collector])
    out.write_text(json.dumps(collector.found), encoding="utf-8")
    return int(code)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="of bugs; by default all that --out does not have yet")
    parser.add_argument("--coverage", type=Path, help="a file with a context for each test; else it is made")
    parser.add_argument("--durations", type=Path, help="what `pytest --durations=0 -vv` has printed")
    parser.add_argument("-m", dest="marks", default="", help="which tests, as for pytest")
    parser.add_argument("--out", type=Path, default=Path("mutations.json"), help="JSON of the table; is added to")
    parser.add_argument("--limit", type=float, default=1800, help="seconds after which a bug counts as missed")
    parser.add_argument("--prefix", default="", help="goes before every call of pytest, for example `nice`")
    parser.add_argument("--repo", type=Path, default=REPO, help="whose last commit is tested")
    parser.add_argument("--work", type=Path, help="folder for clone, coverage and compiled kernels, which stay")
    parser.add_argument("--collect", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.collect:
        sys.exit(collect(given.collect, given.marks))
    unknown = set(given.names) - {mutant.name for mutant in MUTANTS}
    if unknown:
        parser.error(f"no such bug: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as folder:
        run(given, (given.work or Path(folder)).resolve())


if __name__ == "__main__":
    main()
