"""The plan of a run: every setting that may be `auto`, with its value for these data, and what was fitted in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from metaloom.config import MOST, PARAMS, PRETRAIN, Setting, Settings, auto_keys, check_settings, filled, value_at
from metaloom.config.auto import where_plenty
from metaloom.data.quality import needed
from metaloom.errors import MetaloomError
from metaloom.kinds import kind_of
from metaloom.planning.check import check, way_out
from metaloom.planning.deployment import of_domain
from metaloom.planning.fit import changed, fit, plain
from metaloom.planning.pools import Data
from metaloom.tasks import class_table
from metaloom.tasks.kept import share_out


@dataclass(frozen=True)
class Plan:
    """What a run is going to do.

    Args:
        settings: with a value for everything.
        fitted: sentences on what is less than the data would allow where they are plenty.
        findings: all that does not fit the data.
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
    raw: dict[str, Any],
    overrides: Mapping[str, Any],
    items: pd.DataFrame,
    quality: Mapping[str, Any],
    many: str,
    assigned: Path,
) -> Plan:
    """Fit the settings to the data.

    Args:
        raw: params.yaml under the overrides, as it is written.
        overrides: the same ones, for a command that repeats them.
        items: the usable examples, as `prepare` lists them.
        quality: which says what classes were left out as too small.
        many: what several examples are called.
        assigned: the file of splits that were drawn before, see `metaloom.tasks.kept`; it need not be there.

    Raises:
        MetaloomError: a value is illegal, or the data cannot be shared out.
    """
    auto, settings = auto_keys(raw), check_settings(filled(raw, where_plenty(raw)))
    table = class_table(items)
    counts = [*table["count"], *(each["examples"] for each in quality["problems"]["small_class"])]
    settings = changed(settings, {"prepare.min_examples": needed(settings.prepare.min_examples, counts)})
    classes, unit = share_out(table, settings.split, settings.seed, assigned)
    data = Data(classes, kind_of(settings).views, many)
    fitted = fit(settings, auto, data)
    sentences, findings = list(_sentences(fitted, auto, data)), [each.message for each in check(fitted, data)]
    remedy = way_out(settings, auto, data, overrides) if findings else ""
    return Plan(fitted, sentences, findings, classes, unit, remedy)


def _sentences(settings: Settings, auto: frozenset[str], data: Data) -> Iterator[str]:
    """One for each group of settings that these data have changed."""
    values = plain(settings)
    less = {key for key in auto if value_at(values, key) != MOST[key]}
    parsed = [Setting.parse(name) for name in settings.episodes.settings]
    ways, shots = (sorted({getattr(each, name) for each in parsed}) for name in ("n_way", "n_shot"))
    if "prepare.min_examples" in less:
        least = settings.prepare.min_examples
        yield f"prepare: classes from {least} {data.many} upward are used, as many of yours have no more"
    if any(key.startswith("episodes.") for key in less):
        largest = min(pool.ways(1 + settings.episodes.n_query) for pool in data.asked)
        typical = min(pool.typical for pool in data.asked)
        learned = f"{_few(shots)} {'shot' if shots == [1] else 'shots'}"
        queries = _several(settings.episodes.n_query, "query", "queries")
        yield (
            f"episodes: {_few(ways)} ways of your {largest} classes, {learned} and {queries} of {typical} {data.many}"
        )
    if less & {"studies.labels", "studies.n_way", "studies.ways"}:
        most, further = max(settings.studies.labels), settings.studies.ways
        yield f"studies: up to {_several(most, 'shot', 'shots')}" + (f" and {max(further)} ways" if further else "")
    trained = [name for name in (*settings.methods, PRETRAIN) if f"{name}.n_way" in less]
    if trained or "train.n_query" in less:
        each = ", ".join(f"{name} {settings.method(name).n_way}" for name in trained)
        classes = data.training(settings.train.examples)
        ways_of = f"{each} ways of {classes} classes, " if each else ""
        queries = _several(settings.train.n_query, "query", "queries")
        yield f"training: {ways_of}{queries} of {data.pool('train').typical} {data.many}"
    chosen = of_domain(data.classes, settings.export.domain)
    if "export.n_shot" in less and len(chosen):
        shots = _several(settings.export.n_shot, "shot", "shots")
        yield f"export: {shots} of {int(chosen['count'].min())} {data.many} per class of {chosen['domain'].iloc[0]}"


def _few(numbers: list[int]) -> str:
    return " or ".join(map(str, numbers))


def _several(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def checked(plan: Plan) -> Plan:
    """The plan; raises MetaloomError with all that does not fit in one line."""
    if not plan.findings:
        return plan
    numbered = len(plan.findings) > 1
    told = (f"({place}) {each}" if numbered else each for place, each in enumerate(plan.findings, 1))
    raise MetaloomError(f"{PARAMS}: {'; '.join(told)}. {plan.way_out}")
