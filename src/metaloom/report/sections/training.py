"""Training curves, from the DVCLive files of every method."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from metaloom.errors import MetaloomError
from metaloom.report.charts.marks import Curve, curve_plot
from metaloom.report.inputs import Inputs
from metaloom.report.words import learner_title, setting_words
from metaloom.system.files import makes_again, read_json, required
from metaloom.system.plural import several
from metaloom.system.quantities import duration, percent
from metaloom.system.times import noted_times

SMOOTH_FROM = 60  # points; fewer are drawn as they are
MOST = 400  # points of one line
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Training:
    """How one method trained: its name, short facts, and its charts with a caption each."""

    method: str
    title: str
    facts: list[str]
    charts: list[tuple[str, Markup]]


def training(inputs: Inputs) -> list[Training]:
    """One entry per method.

    Raises:
        MetaloomError: a method's metrics or curves are absent or no numbers; the message names its stage.
    """
    return [_training(inputs, method) for method in inputs.methods]


def _training(inputs: Inputs, method: str) -> Training:
    stage, folder = f"train@{method}", inputs.models / method
    metrics = read_json(folder / "metrics.json", made_by=stage)
    speed = noted_times(inputs.root, method, folder / WEIGHTS)
    plots = folder / "curves" / "plots" / "metrics"
    charts = [
        ("Training loss", _loss(plots / "train" / "loss.tsv", method, stage)),
        ("Validation accuracy", _accuracy(plots / "validation" / "accuracy.tsv", method, stage, metrics)),
    ]
    return Training(method, learner_title(method), _facts(metrics, speed), charts)


def _facts(metrics: dict[str, Any], speed: dict[str, Any]) -> list[str]:
    validation = metrics["validation"]
    setting = setting_words(validation["setting"])
    episodes = several(validation["episodes"], "validation episode")
    facts = [
        f"{percent(validation['accuracy'])} on {episodes} ({setting.full}), "
        f"the best of {validation.get('looks', 'several')} looks",
        f"best of {several(metrics['steps'], 'step')} was {metrics['best_step']:,}",
    ]
    facts += _contest(metrics)
    if "seconds" in speed:
        facts.append(duration(speed["seconds"]))
    if "examples_per_second" in speed:
        facts.append(f"{speed['examples_per_second']:,.0f} examples/s on {several(speed['threads'], 'thread')}")
    return facts


def _contest(metrics: dict[str, Any]) -> list[str]:
    """Which network validation chose, and by how much."""
    if "lead" not in metrics:
        return []
    lead, networks = metrics["lead"], metrics["networks"]
    best_first = sorted(networks, key=lambda name: -networks[name])
    scores = ", ".join(f"{name} {percent(networks[name])}" for name in best_first)
    half = f" ± {100 * lead['ci95']:.1f}" if lead["ci95"] is not None else ""
    gain = f"{100 * lead['difference']:+.1f}{half} points over {lead['over']}"
    return [f"validation chose {lead['of']}, {gain} on the same episodes ({scores})"]


def _loss(path: Path, method: str, stage: str) -> Markup:
    steps, values = read_curve(path, stage)
    curves = [Curve(steps, values)]
    if len(steps) > SMOOTH_FROM:
        curves = [_thinned(steps, values, faint=True), _thinned(steps, smoothed(values))]
    summary = f"Training loss of {learner_title(method)}: {values[0]:.3g} at step {steps[0]:,.0f}, "
    return curve_plot(curves, summary + f"{values[-1]:.3g} at step {steps[-1]:,.0f}")


def _accuracy(path: Path, method: str, stage: str, metrics: dict[str, Any]) -> Markup:
    steps, values = read_curve(path, stage)
    best = max(range(len(steps)), key=lambda index: values[index])
    kept = metrics["best_step"]
    if kept in steps:
        best = steps.index(kept)
    summary = (
        f"Validation accuracy of {learner_title(method)}: {percent(values[0])} at step {steps[0]:,.0f}, "
        f"best {percent(values[best])} at step {steps[best]:,.0f}"
    )
    said = percent(values[best])
    # a bank's curve is of its networks, one after another: none of its points is the bank as a whole, which is kept
    whole = math.isclose(values[best], metrics["validation"]["accuracy"], abs_tol=5e-4)
    marked = (steps[best], values[best], f"kept: {said}" if whole else said)
    return curve_plot([_thinned(steps, values)], summary, percent=True, marked=marked)


def read_curve(path: Path, stage: str) -> tuple[list[float], list[float]]:
    """Steps and values of a DVCLive TSV (columns step, name); values that are not finite are left out.

    Raises:
        MetaloomError: the file is absent, is no such table, or has no finite value.
    """
    with required(path, stage).open(newline="", encoding="utf-8") as lines:
        rows = list(csv.reader(lines, delimiter="\t"))[1:]
    try:
        pairs = [(float(row[0]), float(row[1])) for row in rows]
    except (IndexError, ValueError):
        raise MetaloomError(f"{path} is no table of steps and values: {makes_again(stage)}") from None
    pairs = [pair for pair in pairs if math.isfinite(pair[1])]
    if not pairs:
        raise MetaloomError(f"{path} has no finite value: look at the settings of {stage} in params.yaml")
    return [step for step, _ in pairs], [value for _, value in pairs]


def smoothed(values: list[float]) -> list[float]:
    """The mean of every point and its neighbours, a twentieth of the points on either side."""
    reach = max(1, len(values) // 20)
    windows = (values[max(0, i - reach) : i + reach + 1] for i in range(len(values)))
    return [math.fsum(window) / len(window) for window in windows]


def _thinned(steps: list[float], values: list[float], faint: bool = False) -> Curve:
    stride = -(-len(steps) // MOST)
    keep = sorted({*range(0, len(steps), stride), len(steps) - 1})
    return Curve([steps[i] for i in keep], [values[i] for i in keep], faint)
