"""What several commands need of the project: its root, its trained models, and signals."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from metaloom.errors import INTERRUPTED, TERMINATED, MetaloomError
from metaloom.system.ending import end_after
from metaloom.versioning.of_run import check_of_run
from metaloom.versioning.paths import Outputs
from metaloom.versioning.project import find_root

TrainedMethod = Annotated[str | None, typer.Option(help="Meta-learner to adapt; default: the champion.")]


def go_to_root() -> Callable[[Path], Path]:
    """Go to the project's root from wherever in it the command was called.

    Returns:
        what a path that the user has given, from where the command was called, is from the root.

    Raises:
        MetaloomError: this is in no project.
    """
    here, root = Path.cwd(), find_root()
    os.chdir(root)
    return lambda path: path if here == root else here / path


def given_overrides(root: Path, set_: list[str] | None) -> dict[str, Any]:
    """The settings that --set gives, after all settings have been checked with them.

    Args:
        root: of the project.
        set_: KEY=VALUE each.

    Raises:
        MetaloomError: some of them, or of params.yaml, are no such settings; it names all.
    """
    from metaloom.config import (
        PARAMS,
        apply_overrides,
        environment_overrides,
        load_settings,
        parse_override,
        read_params,
    )

    problems: list[str] = []

    def tried(part: Callable[[], Any]) -> Any:
        try:
            return part()
        except MetaloomError as error:
            problems.append(str(error))
            return None

    parsed = [pair for text in set_ or [] if (pair := tried(lambda text=text: parse_override(text))) is not None]
    raw = read_params(root / PARAMS, {})
    known = [(key, value) for key, value in parsed if tried(lambda one=(key, value): apply_overrides(raw, dict([one])))]
    tried(lambda: load_settings(root / PARAMS, environment_overrides() | dict(known)))
    if problems:
        raise MetaloomError("; ".join(problems))
    return dict(parsed)


def enter_project() -> Path:
    """Go to the project's root, where `flows` is."""
    go_to_root()
    root = Path.cwd()
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return root


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM unwind, so that stages and a temporary server are ended too."""

    def terminate(*_: Any) -> None:
        end_after()
        raise SystemExit(TERMINATED)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted: what was finished is kept, the next run goes on from there", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _trained(models: Path, method: str) -> Path:
    if not (models / method / "learner.json").is_file():
        there = sorted(path.parent.name for path in models.glob("*/learner.json"))
        known = f"there are {', '.join(there)}" if there else "`metaloom run` trains them"
        raise MetaloomError(f"{models} has no meta-learner {method!r}: {known}")
    return models / method


def trained_or_champion(method: str | None) -> Path:
    """The folder of a method's meta-learner; without a method, of the one that validates best.

    Of those in params that are there: a run with `--set methods=[…]` trains some of them alone.

    Raises:
        MetaloomError: there is none, or it is not what the run has left there.
    """
    models = Path(Outputs().models)
    folder = _trained(models, method) if method else models / _champion(models)
    check_of_run(folder)
    return folder


def _champion(models: Path) -> str:
    from metaloom.config import load_settings
    from metaloom.learner import champion

    methods = load_settings().methods
    trained = [name for name in methods if (models / name / "metrics.json").is_file()]
    if not trained:
        raise MetaloomError(f"{models} has no meta-learner yet: `metaloom run` trains them")
    return champion(models, trained)
