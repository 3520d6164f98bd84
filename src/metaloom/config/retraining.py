"""Settings of retraining on a schedule."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from metaloom.config.base import Section

StageName = Annotated[str, Field(pattern=r"^[0-9A-Za-z]([0-9A-Za-z_-]*[0-9A-Za-z])?$", max_length=100)]
WEB, MAIL = ("https://", "http://"), ("mailtos://", "mailto://")


def check_receiver(value: str) -> str:
    """Who is told: a webhook, a mailbox, or a block of Prefect as `TYPE/NAME`; raises ValueError where it is none."""
    if value.startswith((*WEB, *MAIL)) or re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*/[a-z0-9]+(-[a-z0-9]+)*", value):
        return value
    raise ValueError(
        "is neither a URL that begins with https://, http:// or mailtos:// nor a block of Prefect's server, such as "
        "slack-webhook/team"
    )


def _receiver_or_variable(value: str) -> str:
    return value if re.fullmatch(r"\$\w+", value) else check_receiver(value)


class WhenSettings(Section):
    """How much has to be new since the model in the stage; 0: that is not asked."""

    examples: Annotated[int, Field(ge=0)]
    classes: Annotated[int, Field(ge=0)]
    drift: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    drift_days: Annotated[float, Field(ge=0, allow_inf_nan=False)]

    @property
    def asked(self) -> bool:
        """Whether new data have to be enough; otherwise any change is."""
        return bool(self.examples or self.classes or self.drift)


class RetrainSettings(Section):
    """What a retraining takes, what becomes of its result, and who hears of it."""

    name: StageName
    data: Literal["folder", "branch"]
    start: Literal["champion"] | None
    when: WhenSettings
    stage: StageName
    approval: bool
    candidate: StageName
    approval_hours: Annotated[float, Field(ge=0, le=24 * 365)]
    push: bool
    skip_ci: bool
    keep: Annotated[int, Field(ge=0)]
    keep_days: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    notify: Annotated[str, AfterValidator(_receiver_or_variable)] | None
    quiet_days: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    energy: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] | None
    mlflow: Annotated[str, Field(pattern=r"^https?://\S+$")] | None

    @model_validator(mode="after")
    def _two_stages(self) -> RetrainSettings:
        if self.approval and self.candidate == self.stage:
            raise ValueError(f"candidate and stage are both {self.stage}: call the stage of those that wait otherwise")
        return self
