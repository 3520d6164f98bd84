"""Stages of one retraining that several workers train at once.

The worker that has the retraining offers its state: what git keeps of it is a commit that a ref names, and the outputs
of the stages so far are in DVC's remote. Another makes one stage of it, in a workspace of its own, and gives back a
commit; of that the first takes the stage's entry in dvc.lock, its metrics and its outputs, and nothing else.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from metaloom.errors import MetaloomError
from metaloom.pipeline.code import take_over
from metaloom.pipeline.stages import stage_names
from metaloom.retraining import relay, transfers
from metaloom.retraining.clones import handover
from metaloom.retraining.git import asked, file_at, git, remote_of
from metaloom.retraining.nights import FOLDER, Night
from metaloom.retraining.workspace import its_own_code, open_workspace, remove
from metaloom.system.lock import STATE, project_lock
from metaloom.system.provenance import LOCK
from metaloom.versioning.project import DAG, open_project

INDEX = f"{STATE}/offer-index"  # the relay's process may be at its own
OFFERED = "offered"  # beside the refs of stages


def offer(root: Path, place: Path, night: Night) -> None:
    """Leave the state of a workspace for workers that make single stages of it.

    Args:
        root: the project's.
        place: the workspace.
        night: the retraining.

    Raises:
        MetaloomError: there is no remote of git or of DVC, or it refuses, or does not answer.
    """
    if not (remote_of(root) and transfers.send_outputs(place, night.key)):
        raise MetaloomError("other workers reach neither git's remote nor DVC's: the project has none")
    relay.leave_state(root, place, night, _ref(night.key, OFFERED), INDEX)


def take_stage(root: Path, place: Path, night: Night, name: str) -> None:
    """Have a stage as another worker has made it; whether that is up to date here, DVC says.

    Args:
        root: the project's.
        place: the workspace.
        night: the retraining.
        name: of the stage.

    Raises:
        MetaloomError: it is not there, or a remote does not answer.
    """
    from dvc.utils.serialize import modify_yaml

    ref = _ref(night.key, name)
    git(root, "fetch", "--quiet", "--no-tags", remote_of(root), f"+{ref}:{ref}")
    entry = transfers.stages_in(file_at(place, ref, LOCK)).get(name)
    if entry is None:
        raise MetaloomError(f"{ref} has no {name} in its {LOCK}")
    if of_git := _kept_by_git(place, name):
        git(place, "checkout", "--quiet", ref, "--", *of_git)
    with modify_yaml(str(place / LOCK)) as lock:
        lock.setdefault("schema", "2.0")
        lock.setdefault("stages", {})[name] = entry
    transfers.fetch_outputs(place, name)


def _kept_by_git(place: Path, name: str) -> list[str]:
    with open_project(place) as repo:
        stage = repo.stage.load_one(str(place / DAG), name)
        return [str(Path(out.fs_path).relative_to(place)) for out in stage.outs if not out.use_cache]


def put_in_order(place: Path, names: list[str]) -> None:
    """Have dvc.lock name stages in the order in which one worker alone would have made them."""
    from dvc.utils.serialize import modify_yaml

    with modify_yaml(str(place / LOCK)) as lock:
        entries = lock["stages"]
        there = [name for name in entries if name in names]
        wanted = [name for name in names if name in entries]
        if there == wanted:
            return
        following = iter(wanted)
        order = [next(following) if name in wanted else name for name in entries]
        ordered = {name: entries[name] for name in order}
        entries.clear()
        entries.update(ordered)


@contextmanager
def taken_up(root: Path, key: str, name: str) -> Iterator[tuple[Path, Night]]:
    """A workspace in which one stage of another worker's retraining is made.

    While the block runs, the stage's checkpoints go to DVC's remote, as those of a retraining do.

    Args:
        root: the project's, in this worker's clone.
        key: of the retraining.
        name: of the stage.

    Yields:
        The workspace, and what is known of the retraining.

    Raises:
        BusyError: this clone is at work.
        MetaloomError: git's remote does not answer, nothing is offered under this key, it has no such stage, or it is
            of another metaloom.
    """
    minutes, remote, ref = handover(root), remote_of(root), _ref(key, OFFERED)
    if minutes is None or not remote:
        raise MetaloomError("stages are made for other workers in a worker's clone alone: docs/scheduling.md, Workers")
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    with project_lock(root / FOLDER):
        if not git(root, "ls-remote", remote, ref):
            raise MetaloomError(f"no retraining {key[:8]} is offered in git's remote: it has ended")
        git(root, "fetch", "--quiet", "--no-tags", remote, f"+{ref}:{ref}")
        night = Night(f"stage-{name.replace('@', '-')}", key, git(root, "rev-parse", ref), "", time.time())
        try:
            place = _opened(root, night, name)
            seconds = str(60 * minutes)
            with its_own_code(place), relay.sending(root, __name__, str(place), key, seconds):
                yield place, night
        finally:
            remove(root, night.workspace(root))
            asked(root, "update-ref", "-d", ref)


def _opened(root: Path, night: Night, name: str) -> Path:
    place = open_workspace(root, night)
    if name not in stage_names(place):
        raise MetaloomError(f"{DAG} of retraining {night.key[:8]} has no stage {name}")
    if other := take_over(place):
        raise MetaloomError(f"this worker has another metaloom than the one that retrains ({other}): install the same")
    transfers.fetch_outputs(place)
    with suppress(MetaloomError):  # it begins from the start
        transfers.take_checkpoints(place, night.key, name)
    return place


def is_given(root: Path, key: str, name: str) -> bool:
    """Whether git's remote has a stage that another worker has made for this retraining.

    Args:
        root: the project's.
        key: of the retraining.
        name: of the stage.

    Raises:
        MetaloomError: git's remote does not answer.
    """
    return bool(git(root, "ls-remote", remote_of(root), _ref(key, name)))


def give_stage(root: Path, place: Path, night: Night, name: str) -> None:
    """Send what the stage has made; arguments and errors of `take_stage`, `night` being that of `taken_up`."""
    transfers.send_outputs(place, night.key, name)
    relay.leave_state(root, place, night, _ref(night.key, name))


def _ref(key: str, name: str) -> str:
    return f"{relay.STAGES}/{key}/{name}"


def main() -> None:
    """Send what is new of a stage's checkpoints; those that are there at the start came from the remote."""
    place, key, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    sent = {path.name: written for path, written in transfers.checkpoints(place)}
    if seconds:
        relay.again_and_again(lambda: transfers.leave_checkpoints(place, key, sent), seconds)


if __name__ == "__main__":
    main()
