"""A person's answer to a model that waits, and labels that end a version's use, killed with all their processes at
moments that are chosen by number: what is in the stage is the one or the other, and the next call makes it whole."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
import together
from killed import at_clock, git, outcome, refs, settle_locks
from moments import NEVER, Commands, commands, sampled
from nights import BEGAN, NIGHT, Project, share, template

from metaloom.judging.shadow.log import Log, Party, begun, read_log
from metaloom.versioning.registry import model_versions, version_in

MOMENTS, SEED = 12, 22
SLOW = 3  # of them in `make test-slow`, the others in `make sweep`
HOURS = 4 * 3600.0  # between a kill and the next try
INPUTS = 60
LOG = "project/.metaloom/shadow/log.jsonl"
VERSIONS = ("v0.0.1", "v0.0.2")
DECISIONS = {"yes": ("one_answer", "v0.0.2"), "no": ("one_answer", "v0.0.1"), "shadow": ("one_shadow", "v0.0.1")}


@pytest.fixture(scope="module")
def forked():
    """What runs nights, answers and `metaloom shadow`, again and again."""
    with commands("one_night") as night, commands("one_answer") as answer, commands("one_shadow") as shadow:
        yield {"one_night": night, "one_answer": answer, "one_shadow": shadow}


def around(root: Path, clock: float, decision: str) -> dict[str, str]:
    return at_clock(clock) | {"APPROVED": decision, "TOLD": str(root / "told")}


def two_nights(root: Path, night: Commands, approval: str) -> Project:
    """A project whose second model is better, and in use or waiting."""
    root.mkdir()
    shutil.copytree(together.once("retrained", template), root / "project", symlinks=True)
    project = Project(root / "project", [])
    project.set(approval="false")
    share(project, root)
    for number, (accuracy, asks) in enumerate(((0.5, "false"), (0.7, approval))):
        project.data(accuracy)
        if asks == "true":
            project.set(approval=asks)
            project.git("push", "-q", "origin", "main")
        environment = at_clock(BEGAN + number * NIGHT)
        assert night.run(root, root, environment=environment) == 0, (root / "printed").read_text()
    return project


def answered(project: Project) -> None:
    """A log in which both versions have answered, and a table of labels of which the one in use has none right."""
    path = project.root.parent / LOG
    path.parent.mkdir(parents=True)
    one, other = (Party(each.version, each.commit, each.version) for each in reversed(model_versions(project.root)))
    assert (one.name, other.name) == VERSIONS
    log: Log = begun(path, one, other, ["a", "b"], None, datetime.now(UTC).isoformat())
    sides = {"prod": {"label": "a"}, "candidate": {"label": "b"}}
    log.append({"input": f"{number}.png", "sha256": str(number)} | sides for number in range(INPUTS))
    rows = "".join(f"{number}.png,a\n" for number in range(INPUTS))
    (project.root.parent / "labels.csv").write_text(f"example,label\n{rows}")


def undisturbed(folder: Path, decision: str, forked: dict[str, Commands]) -> None:
    """Fill a folder with the project before it is decided, what the decision leaves, and the moments of it."""
    command, version = DECISIONS[decision]
    before, scratch = folder / "before", folder / "scratch"
    scratch.mkdir()
    project = two_nights(before, forked["one_night"], "false" if command == "one_shadow" else "true")
    if command == "one_shadow":
        answered(project)
    after = Path(shutil.copytree(before, folder / "after", symlinks=True))
    environment = around(after, BEGAN + 2 * NIGHT, decision)
    moments = forked[command].killed_at(after, NEVER, scratch, environment=environment)
    assert version_in(after / "project", "prod") == version, (scratch / "printed").read_text()
    (told,) = (after / "told").read_text().splitlines()
    expected = {"outcome": outcome(after), "told": told, "numbers": sampled(moments, MOMENTS, SEED)}
    (folder / "made.json").write_text(json.dumps(expected))


def tags(repository: Path) -> set[str]:
    return set(refs(repository, "refs/tags"))


def marks(index: int) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow if index < SLOW else pytest.mark.sweep]


@pytest.mark.parametrize("decision", DECISIONS)
@pytest.mark.parametrize("index", [pytest.param(index, marks=marks(index)) for index in range(MOMENTS)])
def test_a_decision_that_was_killed_is_made_whole(tmp_path, forked, decision, index):
    command, version = DECISIONS[decision]
    made = together.once(f"killed_{decision}", lambda folder: undisturbed(folder, decision, forked))
    expected = json.loads((made / "made.json").read_text())
    root = Path(shutil.copytree(made / "before", tmp_path / "root", symlinks=True))
    scratch, clock = tmp_path / "scratch", BEGAN + 2 * NIGHT
    scratch.mkdir()
    number = expected["numbers"][index]
    *_, last = forked[command].killed_at(root, number, scratch, environment=around(root, clock, decision))
    assert git(root / "project", "status", "--porcelain") == "", last
    assert version_in(root / "project", "prod") in VERSIONS, last
    shared = [tags(each / "origin.git") for each in (root, made / "before", made / "after")]
    assert shared[0] in shared[1:], f"{last}: half of the tags have arrived"
    settle_locks(root, HOURS)
    at_once = command == "one_shadow"  # whose share of the error would be another later
    for each, later in ((command, 0.0 if at_once else HOURS), ("one_night", NIGHT)):
        environment = around(root, clock + later, decision)
        assert forked[each].run(root, scratch, environment=environment) == 0, (scratch / "printed").read_text()
    assert version_in(root / "project", "prod") == version, last
    assert outcome(root) == expected["outcome"], last
    told = (root / "told").read_text().splitlines()
    assert set(told) == {expected["told"]} and len(told) < 3, last  # twice where it was killed as it was told
    if command == "one_shadow":
        log = read_log(root / LOG)
        assert (log.verdict, log.untold, len(log.labels)) == ("worse", "", INPUTS), last
