"""Retraining on a schedule: what is new is trained in a workspace of its own, judged, committed, shared and promoted.

Whoever reaches Prefect's server may start it, so its parameters say when, and change numbers, switches and words of a
fixed list; what is run they never say: the project is the one in whose folder it is served.
"""

# no annotations from the future: where a served flow runs, Prefect could not tell what their names mean
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from httpx import HTTPError
from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows import approval
from flows.asking import team_of
from flows.missed import refuse_after_crashes, skip_missed
from flows.notes import FORGET, mark_crashed, note
from flows.pipeline import pipeline, reason
from flows.seen import NOTHING_NEW, announce
from metaloom.errors import MetaloomError
from metaloom.retraining import loop
from metaloom.retraining.approving import answer
from metaloom.retraining.telling import tell_failed
from metaloom.system.escaping import shown
from metaloom.system.terminal import complain, say
from metaloom.versioning.project import find_root

Seconds = Annotated[float, Field(ge=0, le=24 * 3600)]
Key = Annotated[str, Field(pattern=r"^[a-z_]{1,40}(\.[A-Za-z_]{1,40}){0,3}$")]
Word = Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]{1,40}$")]
Changed = Annotated[
    dict[Key, bool | int | float | Word | None], Field(max_length=50, json_schema_extra={"additionalProperties": False})
]


@flow(name="retrain", persist_result=False, **FORGET)
def retrain(
    wait: Seconds = 600,
    settle: Seconds = 30,
    force: bool = False,
    dry_run: bool = False,
    changed: Changed | None = None,
) -> State[Any]:
    """Train what is new, judge it and promote what is better; where nothing is new, end as `Skipped`.

    Args:
        wait: seconds to wait for another retraining of the same project, and for data/ to settle.
        settle: seconds that the newest file of data/ has to be old, so that nothing is half copied.
        force: run every stage, though nothing is new.
        dry_run: only say what would be done.
        changed: settings for this run, by dotted keys: numbers, switches and words of a fixed list.
    """
    project = None
    try:
        project = find_root()
        note(project)
        with suppress(HTTPError):
            mark_crashed(project)  # of a worker that was killed here
        if name := approval.asked():
            said = approval.answered(name)
            result = answer(project, name, said.approve, said.why, wait)
        else:
            refuse_after_crashes()
            skip_missed()
            result = loop.retrain(
                project, partial(run_pipeline, root=project), force, dry_run, wait, settle, changed=changed
            )
    except MetaloomError as error:
        get_run_logger().error(shown(str(error)))
        complain(f"error: {error}")
        if project and not dry_run:
            tell_failed(project, error)  # nothing where the retraining itself has told it
            announce(project, "failed", str(error))
        return Failed(message=shown(str(error)))
    get_run_logger().info(shown(result.message))
    say(result.message)
    if not dry_run:
        announce(project, result.night.outcome if result.night else NOTHING_NEW, result.message, result.night)
    if result.night and result.night.outcome == "candidate":
        approval.ask(project, result.night)
    return Completed(name=result.state, message=shown(result.message))


def run_pipeline(place: Path, force: bool, root: Path | None = None) -> None:
    """Bring a workspace up to date, as a subflow.

    Args:
        place: the workspace.
        force: run every stage.
        root: the project's, whose other workers may make stages of a matrix at the same time.

    Raises:
        MetaloomError: a stage failed.
    """
    team = team_of(root, place) if root and not force else None
    state = pipeline(str(place), force=force, team=team, return_state=True)
    if not state.is_completed():
        raise MetaloomError(reason(state))
