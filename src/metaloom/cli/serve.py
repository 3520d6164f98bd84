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
from metaloom.config import PARAMS, load_settings
from metaloom.errors import MetaloomError
from metaloom.system.terminal import say

ASK = "prefect deployment run {}"


def serve(
    cron: Annotated[str | None, typer.Option(help="When to retrain, as a cron line.")] = None,
    timezone: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the cron line, such as Europe/Paris; UTC without it.")
    ] = None,
    interval: Annotated[
        float | None, typer.Option(min=1, metavar="SECONDS", help="Retrain every SECONDS seconds instead.")
    ] = None,
    settle: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Wait until the newest file of data/ is SECONDS old.")
    ] = 30,
    watch: Annotated[
        float | None,
        typer.Option(
            min=1, metavar="SECONDS", help="Look at data/ every SECONDS seconds; retrain also when it changed."
        ),
    ] = None,
) -> None:
    """Serve the deployment `retrain`: on a schedule, do what `metaloom retrain` does.

    The schedule is the one in prefect.yaml unless given here. Runs are kept, seen and triggered in the
    Prefect server that PREFECT_API_URL names (`prefect server start` starts one); without one, a temporary
    server lives as long as this command, with the schedule but no web page, for this user alone: its address
    and password are in .metaloom/prefect.env. Ends with Ctrl-C.
    """
    if cron and interval:
        raise MetaloomError("give --cron or --interval, not both")
    if timezone and not cron:
        raise MetaloomError(
            "--timezone is of --cron: give both, or write `timezone:` beside the schedule of prefect.yaml"
        )
    root = enter_project()
    with ended_by_signals():
        server = prefect_server(root, served=True)
        from flows.notes import deployment, mark_crashed
        from flows.retrain import retrain
        from flows.seen import starts_on_arrival
        from metaloom.cli.runner import EndingRunner

        name, schedule = deployment(root), _schedule(root, cron, timezone, interval)
        load_settings(root / PARAMS)
        server.wait()
        for line in mark_crashed(root, taken_before=datetime.now(UTC)):
            say(line)
        threading.Thread(target=_mark_killed, args=(root,), daemon=True).start()
        with kept_login(root) if server.temporary else nullcontext() as login:
            ask = ASK.format(name)
            asked = f"export $(cat {login.relative_to(root)}); {ask}" if login else ask
            say(f"serving the deployment {name}: started {_words(schedule)}, and by `{asked}`; end with Ctrl-C")
            runner = EndingRunner(name="retrain", limit=1, pause_on_shutdown=False)
            own = name.partition("/")[2]
            starts: Any = [starts_on_arrival(own)]
            runner.add_flow(retrain, name=own, parameters={"settle": settle}, paused=False, triggers=starts, **schedule)
            if watch:
                threading.Thread(target=_watch, args=(root, name, settle, watch), daemon=True).start()
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


def _watch(root: Path, name: str, settle: float, every: float) -> None:
    """Start a run when data/ has changed; where the server is away, when it is back."""
    from httpx import HTTPError
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    from metaloom.pipeline.due import changes

    for _ in changes(root, settle, every):
        started = False
        while not started:
            with suppress(HTTPError, ObjectNotFound), get_client(sync_client=True) as client:
                client.create_flow_run_from_deployment(client.read_deployment_by_name(name).id)
                started = True
            if not started:
                time.sleep(every)


def _schedule(root: Path, cron: str | None, zone: str | None, interval: float | None) -> dict[str, Any]:
    """The schedule in the words of `flow.serve`: the one given, else that of prefect.yaml."""
    from prefect.client.schemas.schedules import CronSchedule

    if interval:
        return {"interval": interval}
    line, zone = (cron, zone or "UTC") if cron else _deployed(root)
    try:
        return {"schedule": CronSchedule(cron=line, timezone=zone)}
    except ValueError as error:
        if "timezone" in str(error):
            raise MetaloomError(f"{zone!r} is no time zone: write its name, for example Europe/Paris") from None
        raise MetaloomError(f"{line!r} is no cron line: write five fields, for example '0 3 * * *'") from None


def _deployed(root: Path) -> tuple[str, str]:
    """Cron line and time zone of the first deployment in prefect.yaml."""
    import yaml

    try:
        deployments = yaml.safe_load((root / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
        first = deployments[0]["schedules"][0]
        return first["cron"], first.get("timezone", "UTC")
    except (OSError, LookupError, TypeError, ValueError, yaml.YAMLError):
        raise MetaloomError(
            "the first deployment in prefect.yaml has no cron schedule: give --cron or --interval"
        ) from None


def _words(schedule: dict[str, Any]) -> str:
    if "interval" in schedule:
        return f"every {schedule['interval']:g} s"
    return f"at {schedule['schedule'].cron!r} ({schedule['schedule'].timezone})"
