"""`metaloom run` and `metaloom serve`: the flows from the command line."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from metaloom.cli.prefect_server import prefect_server
from metaloom.config import PARAMS, environment_overrides, load_settings, parse_override
from metaloom.errors import MetaloomError
from metaloom.pipeline.stages import stage_names
from metaloom.system.lock import project_lock
from metaloom.system.terminal import QUIET, console, quiet, say
from metaloom.versioning.project import find_root, overriding

FAILED, INTERRUPTED, TERMINATED = 1, 130, 143


def run(
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a setting for this run. Repeatable."),
    ] = None,
    locked: Annotated[bool, typer.Option("--locked", help="Refuse to make a new version of a changed data/.")] = False,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Wait so long for another run in this project.")
    ] = 0,
    be_quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary; errors only.")] = False,
) -> None:
    """Bring everything up to date: data version, dataset, splits, models, evaluation, bundle, report.

    Only what has changed is run. Ends with 0 when all is well, 1 when a stage failed, 2 on bad input.
    """
    if be_quiet:
        os.environ[QUIET] = "1"
    root = enter_project()
    overrides = dict(map(parse_override, set_ or []))
    load_settings(root / PARAMS, environment_overrides() | overrides)
    with ended_by_signals(), project_lock(root, wait):
        state = _pipeline(root, locked, overrides)
    _conclude(state)


def serve(
    cron: Annotated[str | None, typer.Option(help="When to retrain, as a cron line (UTC).")] = None,
    interval: Annotated[float | None, typer.Option(min=1, metavar="SECONDS", help="Or every so many seconds.")] = None,
) -> None:
    """Serve the deployment `retrain`: on a schedule, run what `metaloom run` does if data/ has changed.

    The schedule is the one in prefect.yaml unless given here. Runs are kept, seen and triggered in the
    Prefect server that PREFECT_API_URL names (`prefect server start` starts one); without one, a temporary
    server lives as long as this command, with the schedule but no web page. Ends with Ctrl-C.
    """
    if cron and interval:
        raise MetaloomError("give --cron or --interval, not both")
    root = enter_project()
    with ended_by_signals():
        server = prefect_server(root)
        from flows.retrain import retrain

        schedule = _schedule(root, cron, interval)
        server.wait()
        asked = "by nothing else" if server.temporary else "by `prefect deployment run retrain/retrain`"
        say(f"serving the deployment retrain/retrain: started {_words(schedule)}, and {asked}; end with Ctrl-C")
        retrain.serve(name="retrain", global_limit=1, print_starting_message=False, **schedule)


def enter_project() -> Path:
    """Go to the project's root, where `flows` is."""
    root = find_root()
    os.chdir(root)
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return root


def _pipeline(root: Path, locked: bool, overrides: dict[str, Any]) -> Any:
    """Run the flow; while a temporary server starts (seconds), import the rest and have DVC read dvc.yaml."""
    starting = console.status("starting Prefect") if console.is_terminal and not quiet() else nullcontext()
    with starting, overriding(overrides):
        server = prefect_server(root)
        from flows.pipeline import pipeline

        stage_names(root)
        server.wait()
    return pipeline(str(root), locked=locked, overrides=overrides or None, return_state=True)


def _conclude(state: Any) -> None:
    from flows.pipeline import reason
    from metaloom.pipeline.summary import as_text

    if state.is_completed():
        say(as_text(state.result()))
        return
    print(f"error: {reason(state)}", file=sys.stderr)
    raise typer.Exit(FAILED)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM unwind, so that stages and a temporary server are ended too."""

    def terminate(*_: Any) -> None:
        raise SystemExit(TERMINATED)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted: what was finished is kept, the next run goes on from there", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _schedule(root: Path, cron: str | None, interval: float | None) -> dict[str, Any]:
    """The schedule in the words of `flow.serve`: the one given, else that of prefect.yaml."""
    from prefect.client.schemas.schedules import CronSchedule

    if interval:
        return {"interval": interval}
    line, timezone = (cron, "UTC") if cron else _deployed(root)
    try:
        return {"schedule": CronSchedule(cron=line, timezone=timezone)}
    except ValueError:
        raise MetaloomError(f"{line!r} is no cron line: write five fields, for example '0 3 * * *'") from None


def _deployed(root: Path) -> tuple[str, str]:
    """Cron line and time zone of the deployment in prefect.yaml."""
    import yaml

    try:
        deployments = yaml.safe_load((root / "prefect.yaml").read_text())["deployments"]
        (first,) = (each["schedules"][0] for each in deployments if each["name"] == "retrain")
        return first["cron"], first.get("timezone", "UTC")
    except (OSError, LookupError, TypeError, ValueError, yaml.YAMLError):
        raise MetaloomError(
            "prefect.yaml has no deployment `retrain` with a cron schedule: give --cron or --interval"
        ) from None


def _words(schedule: dict[str, Any]) -> str:
    if "interval" in schedule:
        return f"every {schedule['interval']:g} s"
    return f"at {schedule['schedule'].cron!r} ({schedule['schedule'].timezone})"
