"""A person's word on a better model: yes, no, too late, or given by hand."""

from __future__ import annotations

import os

import pytest
from nights import Receiver, share

from metaloom.errors import MetaloomError
from metaloom.retraining.approving import answer
from metaloom.retraining.nights import Night
from metaloom.retraining.others import _is_further
from metaloom.versioning.registry import in_stage, put_into

HOUR = 3600.0


@pytest.fixture
def candidate(small, receiver):
    """A second model that is better than the first, and waits."""
    small.night()
    small.set(approval="true", notify=f"http://127.0.0.1:{receiver.server_port}/hook", approval_hours="36")
    small.data(0.7)
    assert small.night().night.outcome == "candidate"
    return small


def causes() -> list[str]:
    return [each["cause"] for each in Receiver.taken]


@pytest.mark.slow
def test_yes_no_and_nothing_to_answer(candidate):
    second = candidate.nights()[1]
    found = answer(candidate.root, second.name, True, "looked at it", now=lambda: candidate.clock)
    assert found.message.startswith("v0.0.2 is prod now")
    assert in_stage(candidate.root, "prod") == ("v0.0.2", second.commit)
    assert candidate.nights()[1].notes == ["looked at it"] and causes() == ["candidate", "promoted"]
    assert in_stage(candidate.root, "candidate") is None
    assert answer(candidate.root, second.name, False, now=lambda: candidate.clock).state == "Skipped"
    candidate.data(0.9)
    third = candidate.night().night
    assert answer(candidate.root, third.name, False, now=lambda: candidate.clock).night.outcome == "held"
    assert candidate.nights()[2].reason == "v0.0.3 is not approved, and v0.0.2 stays prod"
    assert in_stage(candidate.root, "candidate") is None
    assert candidate.outcomes() == ["promoted", "promoted", "held"] and causes()[2:] == ["candidate", "held"]


@pytest.mark.slow
def test_a_yes_that_comes_too_late(candidate):
    name, late = candidate.nights()[1].name, candidate.clock + 37 * HOUR
    found = answer(candidate.root, name, True, now=lambda: late)
    assert found.state == "Skipped" and found.message == "v0.0.2 is held: nobody approved it within 36 hours"
    assert causes() == ["candidate", "held"] and in_stage(candidate.root, "prod")[0] == "v0.0.1"
    assert in_stage(candidate.root, "candidate") is None


@pytest.mark.slow
def test_what_nobody_answers_is_held_after_its_hours(candidate):
    assert candidate.night().state == "Skipped" and candidate.outcomes()[-1] == "candidate"
    candidate.night()
    assert candidate.nights()[-1].reason == "v0.0.2 is held: nobody approved it within 36 hours"
    assert causes() == ["candidate", "held"] and in_stage(candidate.root, "prod")[0] == "v0.0.1"
    assert in_stage(candidate.root, "candidate") is None
    assert candidate.night().state == "Skipped" and causes() == ["candidate", "held"]


@pytest.mark.slow
def test_what_was_promoted_by_hand_is_promoted(candidate):
    put_into(candidate.root, "v0.0.2", "prod")
    candidate.night()
    assert candidate.nights()[-1].reason == "v0.0.2 is prod now, put there by hand"
    assert in_stage(candidate.root, "candidate") is None


@pytest.mark.slow
def test_what_was_promoted_by_hand_and_not_shared_is_shared_with_its_leaving(candidate, tmp_path):
    share(candidate, tmp_path)
    put_into(candidate.root, "v0.0.2", "prod")
    candidate.night()
    there = candidate.git("ls-remote", "--tags", str(tmp_path / "origin.git"))
    assert "handoff#candidate!#" in there and "handoff#prod#3" in there and "handoff@v0.0.2" in there


@pytest.mark.slow
def test_why_not_is_part_of_the_reason(candidate):
    second = candidate.nights()[1]
    answer(candidate.root, second.name, False, "not tried on devices", now=lambda: candidate.clock)
    found = candidate.nights()[1]
    assert found.reason == "v0.0.2 is not approved (not tried on devices), and v0.0.1 stays prod" and not found.notes


@pytest.mark.slow
def test_one_that_is_no_longer_better_is_not_promoted(candidate):
    """Another has come into the stage since."""
    waits = candidate.nights()[1].name
    candidate.set(approval="false")
    candidate.data(0.9)
    assert candidate.night().night.outcome == "promoted"
    found = answer(candidate.root, waits, True, now=lambda: candidate.clock).night
    assert isinstance(found, Night) and found.outcome == "held" and "worse at greek" in found.reason
    assert in_stage(candidate.root, "candidate") is None


@pytest.mark.slow
def test_it_leaves_the_stage_in_the_remote_too_or_waits(candidate, tmp_path):
    share(candidate, tmp_path)
    origin = tmp_path / "origin.git"
    candidate.data(0.9)
    third = candidate.night().night
    assert in_stage(candidate.root, "candidate")[0] == third.version == "v0.0.3"
    os.rename(origin, tmp_path / "away")
    with pytest.raises(MetaloomError):
        answer(candidate.root, third.name, False, now=lambda: candidate.clock)
    assert candidate.outcomes()[-1] == "candidate" and in_stage(candidate.root, "candidate")[0] == "v0.0.3"
    candidate.set(approval_hours="1")
    candidate.clock += 2 * HOUR
    candidate.night()  # nobody has answered in time, and the remote is still away
    assert candidate.outcomes()[-2:] == ["candidate", "candidate"]
    os.rename(tmp_path / "away", origin)
    assert answer(candidate.root, third.name, False, now=lambda: candidate.clock).night.outcome == "held"
    assert in_stage(candidate.root, "candidate")[0] == "v0.0.2"  # which waits, too
    assert "handoff#candidate!#" in candidate.git("ls-remote", "--tags", str(origin))


def test_what_was_answered_elsewhere_does_not_wait_here():
    waits, held = Night("n", "k", "b", "d", 1.0, outcome="candidate"), Night("n", "k", "b", "d", 1.0, outcome="held")
    assert _is_further(held, waits) and not _is_further(waits, held) and not _is_further(waits, waits)
