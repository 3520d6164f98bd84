"""What every section of settings is built from: its base class, few-shot settings by name, and types of values."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

SPLITS = ("train", "validation", "test")
DOMAIN_SUFFIX = "_domain"  # marks a setting whose episodes stay within one domain

Share = Annotated[float, Field(gt=0, lt=1)]
# no run on any machine takes more than the largest of these: it is a slip, said before anything starts
PositiveInt = Annotated[int, Field(ge=1, le=1_000_000_000)]
PositiveFloat = Annotated[float, Field(gt=0, le=1e12)]
Repeats = Annotated[int, Field(ge=1, le=10_000)]  # of what is done, or held in memory, within a single step
Drawn = Annotated[int, Field(ge=1, le=100_000)]  # episodes, tasks or examples that are in memory at once
Domains = Literal["rest"] | Share | list[str]


class Setting(BaseModel):
    """One few-shot setting, written `5w1s`: five ways, one shot."""

    model_config = ConfigDict(frozen=True)
    n_way: int
    n_shot: int

    @classmethod
    def parse(cls, name: str) -> Setting:
        """The setting that a name stands for; raises ValueError where no setting has that name."""
        match = re.fullmatch(r"([1-9]\d*)w([1-9]\d*)s", name)
        if not match or int(match[1]) < 2:
            raise ValueError(f"{name!r} is no few-shot setting; write ways (2 or more) and shots like 5w1s")
        return cls(n_way=int(match[1]), n_shot=int(match[2]))


def _checked_setting(name: str) -> str:
    Setting.parse(name)
    return name


SettingName = Annotated[str, AfterValidator(_checked_setting)]


class Section(BaseModel):
    """One section of params.yaml: frozen, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def first_problem(error: ValidationError) -> str:
    """`train.steps: Field required`: where the first thing lies that is wrong with a file, and what it is."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
