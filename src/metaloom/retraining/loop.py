"""One retraining from beginning to end: a run that was killed, or could not reach a remote, is gone on with."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from metaloom.config import PARAMS, load_settings
from metaloom.config.changing import check_changeable
from metaloom.config.retraining import RetrainSettings
from metaloom.errors import MetaloomError
from metaloom.pipeline.due import await_settled
from metaloom.retraining import others, steps
from metaloom.retraining.clones import handover
from metaloom.retraining.energy import counted
from metaloom.retraining.git import file_at, remote_of
from metaloom.retraining.locks import clear_locks
from metaloom.retraining.nights import FOLDER, LASTING, Night, current_keys, named, nights, nothing_comes_of
from metaloom.retraining.steps import NothingNewError, NotYetError, Train, has_bundle
from metaloom.retraining.taking import SPLITS, Start, find_start, key_of, save_data
from metaloom.retraining.telling import failures_told, tell, tell_quiet
from metaloom.retraining.tracking import follow, track
from metaloom.retraining.workspace import clear, remove
from metaloom.system.lock import project_lock
from metaloom.system.provenance import DATA, POINTER
from metaloom.system.terminal import say
from metaloom.versioning.registry import in_stage

SKIPPED, DONE = "Skipped", "Completed"
EMBEDDED = "embedded"  # in the name of a retraining whose data come with metaloom


@dataclass(frozen=True)
class Result:
    """What a run of the loop came to: `Skipped` where there was nothing to do, a line, and the retraining."""

    state: str
    message: str
    night: Night | None = None


def retrain(
    root: Path,
    train: Train,
    force: bool = False,
    dry_run: bool = False,
    wait: float = 0,
    settle: float = 0,
    now: Callable[[], float] = time.time,
    changed: dict[str, Any] | None = None,
) -> Result:
    """Train what is new, judge it, commit it, share it and promote it; a retraining that was broken off goes on first.

    Args:
        root: the project's.
        train: runs the pipeline in a workspace.
        force: run every stage, though nothing is new.
        dry_run: only say what would be done.
        wait: seconds to wait for another retraining, and for data/ to settle.
        settle: seconds that the newest file of data/ has to be old.
        now: Unix time.
        changed: settings for this retraining alone, by dotted keys; they are part of its commit.

    Raises:
        BusyError: another retraining is at work, or a remote does not answer: the next run goes on.
        MetaloomError: whatever else stops it; what was finished is kept.
    """
    loop = loop_of(root, train, now, changed)
    root = loop.root
    with project_lock(root / FOLDER, wait):
        if dry_run:
            return loop.would(force)
        with failures_told(root, loop.settings):
            result = loop.run(force, wait, settle)
        if result.state == SKIPPED:
            tell_quiet(root, loop.settings, now())
        return result


def loop_of(root: Path, train: Train, now: Callable[[], float], changed: dict[str, Any] | None) -> Loop:
    """The loop of a project, whose settings and what is to be changed of them are checked; arguments of `retrain`."""
    root, changed = Path(root).resolve(), changed or {}
    check_changeable(changed)
    settings = load_settings(root / PARAMS).retrain
    _check_installed(settings)
    if changed:
        load_settings(root / PARAMS, changed)
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    return Loop(root, settings, train, now, changed)


def _check_installed(settings: RetrainSettings) -> None:
    for name, package in (("mlflow", "mlflow"), ("energy", "codecarbon")):
        if getattr(settings, name) and find_spec(package) is None:
            raise MetaloomError(
                f"retrain.{name} is set, and {package} is not installed: `pip install 'metaloom[{package}]'`"
            )


@dataclass(frozen=True)
class Loop:
    """The retraining of one project.

    Args:
        root: the project's.
        settings: of params.yaml.
        train: runs the pipeline in a workspace.
        now: Unix time.
        changed: settings for this retraining alone, by dotted keys.
    """

    root: Path
    settings: RetrainSettings
    train: Train
    now: Callable[[], float]
    changed: dict[str, Any] = field(default_factory=dict)

    def run(self, force: bool, wait: float, settle: float) -> Result:
        """Finish what was broken off, then train what is new; arguments and errors of `retrain`."""
        clear_locks(self.root)
        self._take_records()
        before = nights(self.root)
        self._clear({night.name for night in before if not night.outcome})
        for night in before:
            if night.outcome and not night.told:  # killed just then, or the webhook was away
                self._tell(night)
        for night in steps.left(self.root, self.settings, self.now()):
            self._wait_no_longer(night)
        self._log(nights(self.root))
        result, error = self._go_on(before)
        if self.settings.data == "folder":
            await_settled(self.root, settle, wait)
        start = find_start(self.root, self.settings.data, nights(self.root), self.changed)
        if start.left_out:
            say(start.left_out)
        self._refuse_embedded(start)
        night = self._broken_off(start)
        if night is None and not force and self._known(start):
            if error:
                raise error
            return result or Result(SKIPPED, f"nothing is new: {_words(start)}, and settings and code are as they were")
        if night is None and not force and (line := steps.still_waits(self.root, start.key, self.settings, self.now())):
            if error:
                raise error
            return result or Result(SKIPPED, line)
        for each in nights(self.root):
            if not each.outcome and not each.commit and (night is None or each.name != night.name):
                self._drop(each)
        result = self._finish(night or self._begin(start), force)
        if error:
            raise error
        return result

    def would(self, force: bool) -> Result:
        """What `run` would do, in a line; remotes are asked, and nothing else is changed."""
        self._take_records()
        start = find_start(self.root, self.settings.data, nights(self.root), self.changed)
        if start.left_out:
            say(start.left_out)
        self._refuse_embedded(start)
        night = self._broken_off(start)
        if night is None and not force and self._known(start):
            return Result(SKIPPED, f"nothing is new: {_words(start)}, and settings and code are as they were")
        if night is None and not force and (line := steps.still_waits(self.root, start.key, self.settings, self.now())):
            return Result(SKIPPED, line)
        name = night.name if night else named(self.root, self._date(), start.data or EMBEDDED)
        stage, present = self.settings.stage, None
        if has_bundle(self.root):
            present = in_stage(self.root, stage)
        against = f"judged against {present[0]}, which is {stage}" if present else f"the first in {stage}"
        goes = f", pushed to {remote}" if self.settings.push and (remote := remote_of(self.root)) else ""
        verb = "would go on" if night else "would be trained"
        return Result(
            SKIPPED, f"{_words(start)}: retrain/{name} {verb}, from commit {start.commit[:8]}, {against}{goes}"
        )

    def of_past(self, start: Start, force: bool, dry_run: bool) -> Result:
        """Train a data version of the past, unless that was done; arguments and errors of `backfill`."""
        version = f"data version {start.data[:8]} of {start.past[:8]}"
        night = self._broken_off(start)
        if night is None and not force and self._known(start):
            return Result(SKIPPED, f"{version}: trained before with these settings and this code")
        if dry_run:
            return Result(SKIPPED, f"{version}: {'would go on' if night else 'would be trained'}")
        return self._finish(night or self._begin(start), force)

    def _go_on(self, before: list[Night]) -> tuple[Result | None, MetaloomError | None]:
        """Finish retrainings that have a commit and not yet all that comes after; the last result and the first error.

        One that cannot be finished, as a remote is away, keeps no other from being trained.
        """
        result, error = None, None
        for night in before:
            if night.commit and not night.outcome:
                try:
                    result = self._finish(night, force=False)
                except MetaloomError as failure:
                    error = error or failure
        return result, error

    def _broken_off(self, start: Start) -> Night | None:
        """A retraining of the same that has no commit yet; one of the past goes on as such alone."""
        open_ones = (night for night in nights(self.root) if not night.outcome and not night.commit)
        wanted = start.key, bool(start.past)
        return next((night for night in open_ones if (night.key, bool(night.past)) == wanted), None)

    def _known(self, start: Start) -> bool:
        """Whether the same was trained, or is only waiting for a remote.

        One of the past, which promotes nothing, does not count for the data of now.
        """
        keys = {start.key, _key_known(start.key, start.past)}
        if keys & set(current_keys(self.root)):
            return True
        same = (night for night in nights(self.root) if night.key == start.key and (start.past or not night.past))
        return any(night.commit and night.outcome != "dropped" for night in same)

    def _refuse_embedded(self, start: Start) -> None:
        """Raises MetaloomError where data are gone: the data set that comes with metaloom would take their place."""
        if start.data or not has_bundle(self.root):
            return
        present = in_stage(self.root, self.settings.stage)
        if present is not None and file_at(self.root, present[1], POINTER):
            version, commit = present
            if any(night.version == version and EMBEDDED in night.name for night in nights(self.root)):
                return
            raise MetaloomError(
                f"{DATA}/ holds nothing, and no {POINTER} names a version, while {version} is {self.settings.stage}: "
                f"put the data back (is a disk not mounted?), or `git checkout {commit[:8]} -- {POINTER}`"
            )

    def _begin(self, start: Start) -> Night:
        """A record, and data/ as it is now in DVC's cache."""
        root, data, key = self.root, start.data, start.key
        if self.settings.data == "folder" and not start.past and data and _any_in(root / DATA):
            data = save_data(root, start.data)
            key = key_of(root, start.commit, data, start.splits, start.changed)
        name = named(root, self._date(), data or EMBEDDED)
        night = Night(name, key, start.commit, data, self.now(), start.splits, start.past, start.changed)
        if start.left_out:
            night.note(start.left_out)
        night.save(root)
        return night

    def _finish(self, night: Night, force: bool) -> Result:
        """Do the steps that are not done.

        Raises:
            MetaloomError: one of them failed; the next run goes on with it.
        """
        began, before = self.now(), night.seconds
        try:
            for name, step in self._steps(night, force).items():
                if name not in night.done:
                    step()
                    night.done.append(name)
                    night.seconds = before + max(0.0, self.now() - began)
                    night.ended = self.now() if night.outcome else 0.0
                    night.save(self.root)
        except NothingNewError as same:
            if not isinstance(same, NotYetError):
                nothing_comes_of(self.root, _key_known(night.key, night.past))
            remove(self.root, night.workspace(self.root))
            night.forget(self.root)
            return Result(SKIPPED, str(same))
        except MetaloomError as error:
            night.reason = str(error)
            with suppress(OSError):  # a full disk, which has ended it
                night.save(self.root)
            raise
        self._remember(night)
        self._clear(set())
        self.close(night)
        return Result(DONE, night.reason, night)

    def close(self, night: Night) -> None:
        """Tell what has become of a retraining, and log it."""
        night.logged = False
        self._tell(night)
        self._log([night])
        if remote := self._remote_of_others():
            others.tell_others(self.root, night, remote)

    def _wait_no_longer(self, night: Night) -> None:
        """One that was put into the stage by hand, or that nobody has answered for."""
        try:
            steps.leave(self.root, night, self.settings)
        except MetaloomError as error:  # it waits until the next run
            say(f"{night.version} cannot leave {self.settings.candidate}: {error}")
        else:
            self.close(night)

    def _take_records(self) -> None:
        """What other clones have retrained counts as if it had been here."""
        if remote := self._remote_of_others():
            for night in others.take_records(self.root, remote):
                if night.outcome:
                    self._remember(night)

    def _remote_of_others(self) -> str:
        """git's remote, where this clone is one of several that retrain the project."""
        several = self.settings.push and handover(self.root) is not None
        return remote_of(self.root) if several else ""

    def _remember(self, night: Night) -> None:
        if not night.past:
            nothing_comes_of(self.root, night.key, *self._keys_after(night))

    def _tell(self, night: Night) -> None:
        notes = f" ({'; '.join(night.notes)})" if night.notes else ""
        night.told = tell(self.root, self.settings, night.outcome, night.reason + notes)
        night.save(self.root)

    def _log(self, found: list[Night]) -> None:
        """Have those in MLflow that have ended and are not there, and its alias where the stage is."""
        if not self.settings.mlflow:
            return
        for night in found:
            if night.outcome not in ("", "dropped") and not night.logged:
                if not track(self.root, night, self.settings):
                    return
                night.logged = True
                night.save(self.root)
        follow(self.root, self.settings)

    def _steps(self, night: Night, force: bool) -> dict[str, Callable[[], None]]:
        root, settings = self.root, self.settings
        return {
            "train": lambda: self._train(night, force),
            "judge": lambda: steps.judge(root, night, settings),
            "commit": lambda: steps.commit(root, night, settings),
            "share": lambda: steps.share(root, night, settings),
            "promote": lambda: steps.promote(root, night, settings),
        }

    def _train(self, night: Night, force: bool) -> None:
        if not force:
            steps.look(self.root, night, self.settings, self.now())
        with counted(night, self.settings.energy):
            steps.train(self.root, night, self.train, force)

    def _keys_after(self, night: Night) -> list[str]:
        """The same data with the split table that has come out, which the next retraining starts from."""
        splits = file_at(self.root, night.commit, SPLITS) if night.outcome in LASTING else ""
        return [key_of(self.root, night.base, night.data, splits, night.changed)] if splits else []

    def _drop(self, night: Night) -> None:
        """One that was broken off, and whose data, settings or code are no longer those of now."""
        night.outcome, night.reason = "dropped", "broken off, and begun again with what is new since"
        night.ended, night.told = self.now(), True
        night.save(self.root)
        remove(self.root, night.workspace(self.root))

    def _clear(self, busy: set[str]) -> None:
        clear(self.root, self.settings.keep, self.settings.keep_days, busy, self.now())

    def _date(self) -> str:
        return datetime.fromtimestamp(self.now(), UTC).date().isoformat()


def _key_known(key: str, past: str) -> str:
    """The key, as `current_keys` has it for a retraining of the past or of now."""
    return f"past {key}" if past else key


def _any_in(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _words(start: Start) -> str:
    return f"data/ is version {start.data[:8]}" if start.data else "data/ is absent"
