"""The plan of a run: every setting that may be `auto`, with its value for these data, and what was fitted in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from metaloom.config import (
    MOST,
    PARAMS,
    Settings,
    assigned,
    auto_keys,
    check_settings,
    filled,
    run_command,
    where_plenty,
)
from metaloom.data.packed import Dataset
from metaloom.data.quality import needed
from metaloom.errors import MetaloomError
from metaloom.planning.budget import NO_BUDGET, Budget
from metaloom.planning.check import FITS, Finding, check, way_out
from metaloom.planning.fit import changed, fit, plain
from metaloom.planning.pools import Data
from metaloom.planning.sentences import sentences
from metaloom.tasks import class_table
from metaloom.tasks.kept import share_out

SET = "--set "


@dataclass(frozen=True)
class Plan:
    """What a run is going to do.

    Args:
        settings: with a value for everything.
        fitted: sentences on what is other than where data are plenty.
        findings: all that does not fit the data; where `--set` has given it, with that in front.
        classes: the class table with its `split` column.
        unit: what was shared out to the splits: "domain" or "class".
        way_out: what to do about them, a command that works where there is one; "" where everything fits.
    """

    settings: Settings
    fitted: list[str]
    findings: list[str]
    classes: pd.DataFrame
    unit: str
    way_out: str = ""

    def saved(self) -> dict[str, Any]:
        """What plan.json holds."""
        return plain(self.settings) | {"fitted": self.fitted}


def make_plan(
    raw: dict[str, Any], overrides: Mapping[str, Any], dataset: Dataset, assigned: Path, budget: Budget = NO_BUDGET
) -> Plan:
    """Fit the settings to the data.

    Args:
        raw: params.yaml under the overrides, as it is written.
        overrides: the same ones, for a command that repeats them.
        dataset: as `prepare` has written it.
        assigned: the file of splits that were drawn before, see `metaloom.tasks.kept`; it need not be there.
        budget: how much work the run may be.

    Raises:
        MetaloomError: a value is illegal, or the data cannot be shared out.
    """
    auto, settings = auto_keys(raw), check_settings(filled(raw, where_plenty(raw)), PARAMS, overrides)
    table, kind = class_table(dataset.items), dataset.kind
    left_out = dataset.quality["problems"]["small_class"]
    counts = [*table["count"], *(each["examples"] for each in left_out)]
    decided = {key: value for name, value in kind.described().items() if (key := f"{kind.name}.{name}") in MOST}
    decided["prepare.min_examples"] = needed(settings.prepare.min_examples, counts)
    settings = changed(settings, decided)
    classes, unit = share_out(table, settings.split, settings.seed, assigned)
    encoding = kind.fitted(dataset.examples[: kind.enough])
    rescaled = encoding.inputs_from(encoding) is not None
    data = Data(classes, kind.views, kind.many, encoding.shape, budget, rescaled, kind.variants, kind.without_encoder)
    fitted = fit(settings, auto, data)
    reading = dataset.quality.get("reading")
    said = [*([reading] if reading else []), *sentences(fitted, auto, data)]
    findings = [_placed(each, overrides) for each in check(fitted, data)]
    remedy = way_out(settings, auto, data, overrides) if findings else ""
    reassigned = {"split.reassign": True}
    if not remedy.startswith(FITS) and findings and assigned.is_file() and not settings.split.reassign:
        other = make_plan(filled(raw, reassigned), overrides, dataset, assigned, budget)  # of data that have changed
        remedy = remedy if other.findings else FITS + run_command({**overrides, **reassigned})
    return Plan(fitted, said, findings, classes, unit, remedy)


def checked(plan: Plan) -> Plan:
    """The plan; raises MetaloomError with all that does not fit in one line."""
    if not plan.findings:
        return plan
    numbered, given = len(plan.findings) > 1, any(each.startswith(SET) for each in plan.findings)
    told = (f"({place}) {each}" if numbered else each for place, each in enumerate(plan.findings, 1))
    raise MetaloomError(f"{'' if given else f'{PARAMS}: '}{'; '.join(told)}. {plan.way_out}")


def _placed(finding: Finding, overrides: Mapping[str, Any]) -> str:
    key = next((key for key in finding.keys if key in overrides), None)
    return finding.message if key is None else f"{SET}{assigned(key, overrides[key])}: {finding.message}"
