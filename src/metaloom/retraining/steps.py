"""The steps of a retraining; each may be done again, and then changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from metaloom.config.retraining import RetrainSettings
from metaloom.errors import MetaloomError
from metaloom.judging.records import moved
from metaloom.pipeline.code import renew_code
from metaloom.pipeline.stages import due_stages
from metaloom.retraining import committing, relay, sharing, since
from metaloom.retraining.champion import start_from_champion
from metaloom.retraining.clones import handover
from metaloom.retraining.git import GitError, asked, fetch_tags, file_at, remote_of
from metaloom.retraining.judged import FIRST, judged
from metaloom.retraining.nights import Night, nights
from metaloom.retraining.transfers import fetch_outputs, text_of
from metaloom.retraining.workspace import its_own_code, open_workspace
from metaloom.system.provenance import LOCK, POINTER, data_version, version_in
from metaloom.versioning.paths import Outputs
from metaloom.versioning.quality import handed
from metaloom.versioning.registry import in_stage, metadata_of
from metaloom.versioning.remotes import push_version

Train = Callable[[Path, bool], None]  # brings a workspace up to date, by force or not; raises MetaloomError
TRIES = 3  # at promoting, while others promote
HOUR = 3600.0
NEW = "the new model"  # in a verdict's message: it is no version yet


class NothingNewError(Exception):
    """What came out is what there was; the message says of what."""


class NotYetError(NothingNewError):
    """What is new is less than the settings wait for; the message says both."""


def look(root: Path, night: Night, settings: RetrainSettings, now: float) -> None:
    """See whether enough is new since the model in the stage, where settings ask for that.

    Raises:
        NotYetError: it is not.
        MetaloomError: the data are refused, or those of the model in the stage are not to be had.
    """
    if not settings.when.asked or night.past or night.changed or not has_bundle(root):
        return
    present = in_stage(root, settings.stage)
    if present is None:
        return
    place = open_workspace(root, night)
    renew_code(place)
    with its_own_code(place):
        found = since.measured(root, place, night, present, bool(settings.when.drift))
    if found and (line := since.waits(root, settings.when, found, settings.stage, present[0], now)):
        raise NotYetError(line)


def still_waits(root: Path, key: str, settings: RetrainSettings, now: float) -> str:
    """The same of what was measured on an earlier night, in no time; empty where there is no telling.

    Args:
        root: the project's.
        key: of what a night would start from.
        settings: what is waited for.
        now: Unix time.
    """
    if not settings.when.asked or not has_bundle(root):
        return ""
    present = in_stage(root, settings.stage)
    found = present and since.remembered(root, key, present[1], bool(settings.when.drift))
    if not (present and found):
        return ""
    return since.waits(root, settings.when, found, settings.stage, present[0], now)


def train(root: Path, night: Night, run: Train, force: bool) -> None:
    """Bring the workspace up to date.

    Raises:
        NothingNewError: it is.
        MetaloomError: a stage failed, or the workspace could not be made.
    """
    place = open_workspace(root, night)
    renew_code(place)
    pointer = file_at(place, "HEAD", POINTER)
    same_data = pointer and version_in(pointer, POINTER) == night.data
    untouched = file_at(place, "HEAD", LOCK) == text_of(place / LOCK)  # else a run before has trained, and was killed
    if not force and same_data and untouched and _is_made(place):
        raise NothingNewError(f"everything is up to date with data/, which is version {night.data[:8]}")
    with its_own_code(place), relay.relayed(root, place, night, force):
        start_from_champion(root, place, night, force)
        run(place, force)
    night.data = data_version(place) or night.data


def _is_made(place: Path) -> bool:
    """Whether all is up to date, in a clone that has not made it once DVC's remote has brought it."""
    if not due_stages(place, beside=False):
        return True
    with suppress(MetaloomError):  # it is made again
        fetch_outputs(place)
    return not due_stages(place, beside=False)


def judge(root: Path, night: Night, settings: RetrainSettings) -> None:
    """Compare with what is in the stage; the commit is not on the branch yet, as its message says the verdict."""
    place = open_workspace(root, night)
    tree = committing.stage_results(place)
    _refuse_old(root, night, tree)
    challenger = committing.make_commit(root, night, tree, committing.message_of(night, settings.skip_ci))
    if not has_bundle(root):
        night.verdict = {"outcome": "", "message": "dvc.yaml has no bundle, so there is nothing to promote"}
        return
    if settings.push and (remote := remote_of(root)):
        with suppress(GitError):  # asked again before anything is promoted
            fetch_tags(root, remote)
        sharing.fetch_ledger(root, remote)
    found = handed(metadata_of(root, challenger))
    if found is not None:
        night.figures = {name: getattr(found, name) for name in ("task", "accuracy", "low95", "high95")}
    _ask(root, night, settings, challenger)


def _ask(root: Path, night: Night, settings: RetrainSettings, challenger: str) -> None:
    present = in_stage(root, settings.stage)
    night.champion = present[0] if present else ""
    if present is None:
        told = (
            f"nothing is {settings.stage} to compare it with"
            if night.past
            else f"the first version in {settings.stage}"
        )
        night.verdict = {"outcome": FIRST, "message": told, "evidence": {}}
        return
    if present[1] == challenger:
        return
    verdict = judged(root, present[1], challenger, note=not night.past, names=(present[0], night.version or NEW))
    held = list(verdict.held)  # by guards, though it is better
    told = {"outcome": verdict.outcome, "message": verdict.message}
    night.verdict = told | {"evidence": dict(verdict.evidence), "held": held}


def _refuse_old(root: Path, night: Night, tree: str) -> None:
    """Raise where the result is that of the commit that it started from, or of an earlier retraining."""
    lock = asked(night.workspace(root), "show", f":{asked(root, 'rev-parse', '--show-prefix')}{LOCK}")
    same_tree = asked(root, "rev-parse", f"{night.base}^{{tree}}") == tree
    if same_tree or (lock and file_at(root, night.base, LOCK) == lock):
        raise NothingNewError(f"everything is up to date with data/, which is version {night.data[:8]}")
    for each in reversed(nights(root)):
        counts = each.outcome and each.commit and (night.past or not each.past)  # one of the past promotes nothing
        if counts and lock and file_at(root, each.commit, LOCK) == lock:
            raise NothingNewError(f"the result is that of {each.branch} ({each.outcome}), to the last byte")


def has_bundle(root: Path) -> bool:
    """Whether dvc.yaml says what a model is; without, there is nothing to judge or to promote."""
    return Outputs(root).known("bundle") is not None


def commit(root: Path, night: Night, settings: RetrainSettings) -> None:
    """Put the result, with what the judge said, on a branch of its own."""
    tree = committing.stage_results(open_workspace(root, night))
    made = committing.make_commit(root, night, tree, committing.message_of(night, settings.skip_ci))
    committing.put_on_branch(root, night, made)
    if judged_commit := night.verdict.get("evidence", {}).get("challenger", {}).get("commit"):
        moved(root, judged_commit, made)  # whose message has no verdict yet
    night.commit = made
    if files := committing.does_not_merge(root, made):
        night.note(
            f"the branch has moved on meanwhile, and {files} differ in both: after `git merge {night.branch}`, "
            "`metaloom run` makes them again"
        )


def share(root: Path, night: Night, settings: RetrainSettings) -> None:
    """Send the files to DVC's remote and the branch to git's, where there are such.

    Raises:
        MetaloomError: one of them refuses, or does not answer.
    """
    if not settings.push:
        return
    with _kept():
        push_version(root, night.commit)
        if remote := remote_of(root):
            sharing.push_branch(root, night, remote, recorded=handover(root) is not None)
    relay.forget(root, night)


@contextmanager
def _kept() -> Iterator[None]:
    """A refusal of a remote says that nothing is lost; it stays of its type."""
    try:
        yield
    except MetaloomError as error:
        error.args = (f"{error}: what was trained is kept, and the next run sends it", *error.args[1:])
        raise


def promote(root: Path, night: Night, settings: RetrainSettings) -> None:
    """Versions and stages by the verdict, which is asked for again where another version is in the stage by now."""
    remote = remote_of(root) if settings.push else ""
    if not has_bundle(root):
        night.outcome, night.reason = "kept", f"{night.branch} is trained; {night.verdict['message']}"
        return
    for _ in range(TRIES):
        if remote:
            sharing.drop_taken(root, night, remote)
            fetch_tags(root, remote)
        present = in_stage(root, settings.stage)
        if present is not None and present[1] != night.commit and present[0] != night.champion:
            night.note(f"{present[0]} has become {settings.stage} meanwhile, so it was judged against that")
            _ask(root, night, settings, night.commit)
            if in_stage(root, settings.stage) != present:  # and again, while it was judged
                continue
        outcome, stage = _by_verdict(night, settings)
        if outcome != "held":
            sharing.make_tags(root, night, stage, settings.candidate)
            if remote and not sharing.push_tags(root, night, remote):
                continue
        if remote:
            sharing.push_ledger(root, remote)
        night.outcome, night.reason = outcome, _reason(night, outcome, settings)
        if outcome == "held" and night.version:  # it was waiting
            leave(root, night, settings)
        return
    raise MetaloomError(f"others have promoted {TRIES} times in a row while {night.branch} was: the next run goes on")


def waiting(root: Path) -> list[Night]:
    """The retrainings whose model waits for approval, the oldest first."""
    return [night for night in nights(root) if night.outcome == "candidate"]


def leave(root: Path, night: Night, settings: RetrainSettings) -> None:
    """Have a version that waits no longer leave the stage of those that do.

    Raises:
        MetaloomError: git's remote refuses, or does not answer; it is in the stage still.
    """
    remote = remote_of(root) if settings.push else ""
    if remote:
        fetch_tags(root, remote)  # another clone may have done it
    sharing.leave_stage(root, night, settings.candidate, remote)


def left(root: Path, settings: RetrainSettings, now: float) -> list[Night]:
    """Of those that wait, the ones that somebody has promoted by hand, or that nobody has answered in time.

    Args:
        root: the project's.
        settings: the stage, and how long they may wait.
        now: Unix time.

    Returns:
        They, with what becomes of them; not saved yet.
    """
    found, present = waiting(root), None
    if found:
        present = in_stage(root, settings.stage)
    for night in found:
        if present and present[0] == night.version:
            night.outcome, night.reason = "promoted", f"{night.version} is {settings.stage} now, put there by hand"
        elif settings.approval_hours and now - night.ended > settings.approval_hours * HOUR:
            night.outcome = "held"
            night.reason = f"{night.version} is held: nobody approved it within {settings.approval_hours:g} hours"
    return [night for night in found if night.outcome != "candidate"]


def _by_verdict(night: Night, settings: RetrainSettings) -> tuple[str, str]:
    """The outcome, and the stage that the version goes into."""
    verdict = night.verdict["outcome"]
    if night.past:
        return ("held" if verdict == "worse" else "kept"), ""
    if night.verdict.get("held"):
        return "held", ""
    if verdict in (FIRST, "better"):
        return ("candidate", settings.candidate) if settings.approval else ("promoted", settings.stage)
    return ("held", "") if verdict == "worse" else ("kept", "")


def _reason(night: Night, outcome: str, settings: RetrainSettings) -> str:
    told = night.verdict["message"]
    return {
        "promoted": f"{night.version} is {settings.stage} now ({night.branch}): {told}",
        "candidate": f"{night.version} is {settings.candidate} ({night.branch}), and `metaloom promote "
        f"{night.version}` approves it: {told}",
        "kept": f"{night.version} is kept as a version ({night.branch}), and {night.champion or 'nothing'} stays "
        f"{settings.stage}: {told}",
        "held": f"{night.branch} is held, and {night.champion} stays {settings.stage}: {told}",
    }[outcome]
