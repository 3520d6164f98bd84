"""`metaloom serve`: retraining on a schedule."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from metaloom.cli.guard import LOOK_AT_RUNS
from metaloom.cli.prefect_server import kept_login, prefect_server
from metaloom.cli.project import ended_by_signals, enter_project
from metaloom.errors import MetaloomError
from metaloom.system.terminal import say

ASK = "prefect deployment run retrain/retrain"


def serve(
    cron: Annotated[str | None, typer.Option(help="When to retrain, as a cron line (UTC).")] = None,
    interval: Annotated[
        float | None, typer.Option(min=1, metavar="SECONDS", help="Retrain every SECONDS seconds instead.")
    ] = None,
    settle: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Wait until the newest file of data/ is SECONDS old.")
    ] = 30,
) -> None:
    """Serve the deployment `retrain`: on a schedule, run what `metaloom run` does if anything has changed.

    The schedule is the one in prefect.yaml unless given here. Runs are kept, seen and triggered in the
    Prefect server that PREFECT_API_URL names (`prefect server start` starts one); without one, a temporary
    server lives as long as this command, with the schedule but no web page, for this user alone: its address
    and password are in .metaloom/prefect.env. Ends with Ctrl-C.
    """
    if cron and interval:
        raise MetaloomError("give --cron or --interval, not both")
    root = enter_project()
    with ended_by_signals():
        server = prefect_server(root, served=True)
        from flows.notes import mark_crashed
        from flows.retrain import retrain
        from metaloom.cli.runner import EndingRunner

        schedule = _schedule(root, cron, interval)
        server.wait()
        for line in mark_crashed(root, taken_before=datetime.now(UTC)):
            say(line)
        threading.Thread(target=_mark_killed, args=(root,), daemon=True).start()
        with kept_login(root) if server.temporary else nullcontext() as login:
            asked = f"export $(cat {login.relative_to(root)}); {ASK}" if login else ASK
            say(
                f"serving the deployment retrain/retrain: started {_words(schedule)}, and by `{asked}`; end with Ctrl-C"
            )
            runner = EndingRunner(name="retrain", limit=1)
            runner.add_flow(retrain, name="retrain", parameters={"settle": settle}, **schedule)
            with suppress(KeyboardInterrupt):
                asyncio.run(runner.start())


def _mark_killed(root: Path) -> None:
    """A flow that is killed alone leaves its subflow's run, of which Prefect's runner does not know."""
    from httpx import HTTPError

    from flows.notes import mark_crashed

    while True:
        time.sleep(LOOK_AT_RUNS)
        with suppress(HTTPError):
            mark_crashed(root)


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
        deployments = yaml.safe_load((root / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
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
