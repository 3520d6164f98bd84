"""One stage of a retraining that another worker is at: `flows.asking` asks for runs of this flow.

Whoever reaches Prefect's server may start it, so its parameters name a retraining that git's remote offers and a stage
of its dvc.yaml, and nothing else; what is run they never say.
"""

# no annotations from the future: where a served flow runs, Prefect could not tell what their names mean
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from httpx import HTTPError
from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows import pipeline
from flows.asking import FLOW, GIVEN
from flows.notes import FORGET, mark_crashed, note
from metaloom.config import PARAMS, load_settings
from metaloom.errors import MetaloomError
from metaloom.retraining.elsewhere import give_stage, taken_up
from metaloom.system.escaping import shown
from metaloom.versioning.project import find_root

Training = Annotated[str, Field(pattern=r"^[0-9a-f]{40,64}$")]
Name = Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]{1,60}@[0-9A-Za-z_-]{1,60}$")]


@flow(name=FLOW, flow_run_name="{name}", persist_result=False, **FORGET)
def stage(training: Training, name: Name) -> State[Any]:
    """Make one stage of a matrix for the worker that has the retraining.

    Args:
        training: the retraining's key, under which git's remote has its state.
        name: the stage, as in dvc.yaml.
    """
    try:
        project = find_root()
        note(project)
        with suppress(HTTPError):
            mark_crashed(project)  # of a worker that was killed here
        with taken_up(project, training, name) as (place, night):
            limits = load_settings(Path(place, PARAMS)).limits
            made = pipeline.stage.with_options(name=name, task_run_name=name)
            state = made(str(place), name, False, limits, return_state=True)
            if not state.is_completed():
                return pipeline.failed(state)
            give_stage(project, place, night, name)
    except MetaloomError as error:
        get_run_logger().error(shown(str(error)))
        return Failed(message=shown(str(error)))
    return Completed(name=GIVEN, message=f"{name} is made")
