"""What every section of settings is built from: its base class, few-shot settings by name, and types of values."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

SPLITS = ("train", "validation", "test")
DOMAIN_SUFFIX = "_domain"  # marks a setting whose episodes stay within one domain
ENOUGH_EPISODES = 20  # for percentiles of the bootstrap; with fewer these are too narrow
FEW_TEST_CLASSES = 100  # with fewer an interval over 200 episodes misses the accuracy on others half of the time

Share = Annotated[float, Field(gt=0, lt=1)]
PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
Domains = Literal["rest"] | Share | list[str]


def few_test_classes(classes: int | None) -> bool:
    """Whether so many test classes are too few for an interval over episodes to tell about others; None: not known."""
    return classes is not None and 0 < classes < FEW_TEST_CLASSES


def is_clear(difference: float, *margins: float | None) -> bool:
    """Whether a difference is beyond every margin; it is beyond none that cannot be had (None or NaN)."""
    return all(margin is not None and abs(difference) > margin for margin in margins)


class Setting(BaseModel):
    """One few-shot setting, written `5w1s`: five ways, one shot."""

    model_config = ConfigDict(frozen=True)
    n_way: int
    n_shot: int

    @classmethod
    def parse(cls, name: str) -> Setting:
        """From its name; raises ValueError where that is none."""
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
