"""What the parts of metadata.json have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A part that has these fields and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Open(BaseModel):
    """A part that may have further fields: those of a kind of example, or further figures."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
