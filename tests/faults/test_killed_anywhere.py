"""`metaloom run` and plain `dvc repro`, killed with all their processes at moments that are chosen by number: what the
next run leaves is what a run that nobody disturbed leaves, to the last byte."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path

import pytest
import together
import yaml
from moments import NEVER, Commands, chosen, commands
from projects import REPO, metaloom, run_here

MOMENTS, SEED = 60, 19
SLOW = 10  # of them in `make test-slow`, the others in `make sweep`
COMMANDS = {"run": ["metaloom", "run"], "repro": ["dvc", "repro"]}
IN_PLACE = ("dvc.lock", ".dvc/tmp/rwlock", "data.dvc")  # which DVC itself may leave cut off

DAG = """\
stages:
  prepare:
    cmd: python step.py data prepared
    deps: [data, step.py]
    params: [prepare]
    outs: [prepared]
  report:
    cmd: python step.py prepared report
    deps: [prepared, step.py]
    outs: [report]
"""

STEP = """\
import hashlib, sys
from pathlib import Path
from metaloom.system.files import atomic_dir
from metaloom.system.unchanged import unchanged

with unchanged(sys.argv[1]) as source, atomic_dir(sys.argv[2]) as folder:
    for path in sorted(source.iterdir()):
        (folder / path.name).write_text(hashlib.sha256(path.read_bytes()).hexdigest())
"""


def make(root: Path, command: str, server: dict[str, str]) -> None:
    """A project after a run, whose data have changed since: all of it is due."""
    (root / "dvc.yaml").write_text(DAG)
    (root / "step.py").write_text(STEP)
    (root / ".gitignore").write_text("/.metaloom/\n")
    shutil.copy(REPO / "params.yaml", root)
    (root / "flows").symlink_to(REPO / "flows")
    (root / "data").mkdir()
    for name in "abc":
        (root / "data" / name).write_text(name)
    run_here(root, "git", "init", "-q")
    run_here(root, "dvc", "init", "-q")
    run_here(root, "dvc", "add", "-q", "data")
    run_here(root, *COMMANDS[command], **server)
    (root / "data/b").write_text("other")
    (root / "data/d").write_text("new")


def outcome(root: Path) -> dict[str, str]:
    """What a run leaves: each file's hash, and what dvc.lock says."""
    files = [path for name in ("prepared", "report", "data") for path in (root / name).iterdir()]
    left = {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return (
        left
        | {"data.dvc": (root / "data.dvc").read_text()}
        | {"dvc.lock": json.dumps(yaml.safe_load((root / "dvc.lock").read_text()), sort_keys=True)}
    )


def undisturbed(folder: Path, command: str, server: dict[str, str], commands: Commands) -> None:
    """Fill a folder with the project before the run, what the run leaves, and the moments chosen from it."""
    for name in ("before", "scratch"):
        (folder / name).mkdir()
    make(folder / "before", command, server)
    after = Path(shutil.copytree(folder / "before", folder / "after", symlinks=True))
    moments = commands.killed_at(after, NEVER, folder / "scratch")
    expected = {"outcome": outcome(after), "numbers": chosen(moments, MOMENTS, SEED), "moments": moments}
    (folder / "made.json").write_text(json.dumps(expected))


@pytest.fixture(scope="module")
def forks(request):
    """`forks("run")`: what runs the command."""
    with ExitStack() as stack:

        @cache
        def started(command: str) -> tuple[Commands, dict[str, str]]:
            server = request.getfixturevalue("prefect_server") if command == "run" else {}
            return stack.enter_context(commands(command, **server)), server

        yield started


def marks(index: int) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow if index < SLOW else pytest.mark.sweep]


@pytest.mark.parametrize("index", [pytest.param(index, marks=marks(index)) for index in range(MOMENTS)])
@pytest.mark.parametrize("command", COMMANDS)
def test_the_run_after_a_kill_is_whole(tmp_path, forks, command, index):
    forked, server = forks(command)
    made = together.once(f"killed_{command}", partial(undisturbed, command=command, server=server, commands=forked))
    expected = json.loads((made / "made.json").read_text())
    root = Path(shutil.copytree(made / "before", tmp_path / "project", symlinks=True))
    (tmp_path / "scratch").mkdir()
    *_, last = forked.killed_at(root, expected["numbers"][index], tmp_path / "scratch")
    code = forked.run(root, tmp_path / "scratch")
    if command == "repro" and (code or outcome(root) != expected["outcome"]):
        assert last.split()[-1] in IN_PLACE, last
        metaloom(root, "doctor", check=False)  # as any command of ours, it puts right what DVC has left cut off
        code = forked.run(root, tmp_path / "scratch")
    assert code == 0, (tmp_path / "scratch/printed").read_text()
    assert outcome(root) == expected["outcome"], last
