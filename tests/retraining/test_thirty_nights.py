"""A month that nobody looks at: data on ten of thirty nights, two of them bad, and a remote that is away for one."""

from __future__ import annotations

import pytest
from nights import Receiver

from metaloom.errors import MetaloomError
from metaloom.retraining.history import table

ARRIVES = {1: 0.5, 4: 0.6, 6: "broken", 9: 0.605, 12: 0.7, 15: 0.3, 16: 0.705, 18: 0.8, 20: 0.9, 28: 0.905}
AWAY = 12  # the night on which git's remote does not answer
OUTCOMES = {  # of each night that makes something: what becomes of it, and against what it was judged
    1: ("promoted", ""),
    4: ("promoted", "v0.0.1"),
    6: ("dropped", ""),
    9: ("kept", "v0.0.2"),
    12: ("promoted", "v0.0.2"),
    15: ("held", "v0.0.4"),
    16: ("kept", "v0.0.4"),
    18: ("promoted", "v0.0.4"),
    20: ("promoted", "v0.0.6"),
    28: ("kept", "v0.0.7"),
}
TOLD = {  # night: causes; each stays as it is on the nights after, and is told once
    1: ["promoted"],
    4: ["promoted"],
    6: ["failed"],
    12: ["failed"],
    13: ["promoted"],
    15: ["held"],
    18: ["promoted"],
    20: ["promoted"],
    27: ["quiet"],
}


def arrive(project, what: float | str) -> None:
    """New data; those that are broken stop the pipeline until others come."""
    if what == "broken":
        (project.root / "data/bad").touch()
    else:
        (project.root / "data/bad").unlink(missing_ok=True)
        project.data(what)


def careful(project):
    """The project's training, which refuses what is broken."""
    plain = project.train

    def train(place, force):
        if (place / "data/bad").exists():
            raise MetaloomError("stage export failed: data/bad is bad: remove it")
        plain(place, force)

    return train


@pytest.mark.slow
def test_thirty_nights(shared, receiver, tmp_path):
    shared.set(notify=f"http://127.0.0.1:{receiver.server_port}/hook", quiet_days="6")
    shared.git("push", "-q")
    shared.train = careful(shared)
    origin, away = tmp_path / "origin.git", tmp_path / "away.git"
    before, told, failed = shared.git("rev-parse", "HEAD"), {}, []
    for night in range(1, 31):
        if night in ARRIVES:
            arrive(shared, ARRIVES[night])
        if night == AWAY:
            origin.rename(away)
        if night == AWAY + 1:
            away.rename(origin)
        heard = len(Receiver.taken)
        try:
            result = shared.night()
        except MetaloomError:
            failed.append(night)
        else:
            made = night in OUTCOMES or night == AWAY + 1
            assert result.state == ("Completed" if made else "Skipped"), (night, result)
        if new := [each["cause"] for each in Receiver.taken[heard:]]:
            told[night] = new
        assert (shared.git("rev-parse", "HEAD"), shared.git("status", "--porcelain")) == (before, ""), night
    assert failed == [6, 7, 8, 12]
    assert told == TOLD
    found = shared.nights()
    assert [(each.outcome, each.champion) for each in found] == list(OUTCOMES.values())
    assert all(each.told for each in found)
    versions = [f"handoff@v0.0.{number}" for number in range(1, 9)]
    assert shared.tags() == [*(f"handoff#prod#{number}" for number in range(1, 6)), *versions]
    in_prod = shared.git("rev-list", "-n1", "handoff#prod#5")
    assert in_prod == shared.git("rev-list", "-n1", "handoff@v0.0.7") == found[8].commit
    assert len(shared.branches()) == 9  # the night of broken data made none
    refs = ("--format=%(refname) %(objectname)", "refs/tags", "refs/heads/retrain")
    assert shared.git("for-each-ref", *refs) == shared.git(f"--git-dir={origin}", "for-each-ref", *refs)
    rows = [line.split() for line in table(found).splitlines()]
    assert [row[1] for row in rows[1:]] == [outcome for outcome, _ in reversed(OUTCOMES.values())]
