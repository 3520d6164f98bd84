"""DVC stage `export`: adapt the champion to the deployment task and hand it off as a verified bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from metaloom.config import Settings, load_settings
from metaloom.data.packed import Dataset, seen_as
from metaloom.data.support import Support
from metaloom.evaluation.headline import lead
from metaloom.handoff.adapting.solve import solve
from metaloom.handoff.bundle.contents import Maker, TaskCard
from metaloom.handoff.bundle.golden import SAMPLES
from metaloom.handoff.bundle.write import write_bundle
from metaloom.handoff.graphs.costs import Trial
from metaloom.handoff.metadata import with_reading
from metaloom.learner import AdaptedTask, champion
from metaloom.learner.estimate import held_out
from metaloom.networks.engine import choose_engine
from metaloom.planning.deployment import DeploymentTask, draw_task
from metaloom.stages import run_stage
from metaloom.system.certainty import few_test_classes
from metaloom.system.files import read_json, required
from metaloom.system.quantities import interval95
from metaloom.system.rounding import nulled
from metaloom.system.terminal import bar, say
from metaloom.tasks import load_episodes


def main(dataset: str, splits: str, plan: str, models: str, evaluation: str, bundle: str) -> None:
    """Write the bundle folder; nothing is put in place that does not verify."""
    settings = load_settings(plan=plan)
    choose_engine(settings.engine)
    name = champion(models, settings.trained)
    maker = Maker.open(
        Path(models) / name,
        settings,
        _measured(Path(evaluation), name),
        _shown(settings),
    )
    data = Dataset.load(dataset)
    packed = seen_as(dataset, maker.learner.encoding.takes)
    task = draw_task(_classes(splits), settings.export, settings.seed)
    support = Support(packed[task.support], task.support_ways, task.labels, [])
    (solved,) = solve(maker, {task.domain: support})
    card = replace(solved.card, **about_split(task.split), accuracy=_measure(solved.task, packed, task))
    contents = replace(
        solved.contents(maker),
        examples=_examples(packed, task),
        metadata=with_reading(maker.describe(card, solved.fingerprint), data.quality.get("reading")),
        asked=_asked(packed, splits, settings) if settings.export.measured else None,
    )
    with bar(f"export {name} for {task.domain}", 1):
        summary = write_bundle(bundle, contents, settings.export)
    say(f"{name} for {task.domain}: {_accuracy_text(card)}verified: {summary}")


def _shown(settings: Settings) -> dict[str, Any]:
    """The settings for the metadata; those that do nothing are left out."""
    idle = {"encoder": settings.encoder.file is None, "contenders": not settings.contenders}
    return settings.model_dump(
        mode="json", exclude={"judge", "limits", *(name for name, is_idle in idle.items() if is_idle)}
    )


def about_split(split: str) -> dict[str, bool]:
    """What the meta-learner owes to the task's classes: training classes made it, validation classes chose it."""
    return {"meta_trained_on_it": split == "train", "chosen_on_it": split == "validation"}


def _classes(splits: str) -> pd.DataFrame:
    return pd.read_parquet(required(Path(splits) / "classes.parquet", made_by="split"))


def _measure(adapted: AdaptedTask, packed: np.ndarray, task: DeploymentTask) -> dict[str, Any] | None:
    """Accuracy of this very model on the task's examples that it has not learned from."""
    if len(task.rest) == 0:
        return None
    answers = np.asarray(adapted.predict(packed[task.rest]))
    return held_out(int((answers == task.rest_ways).sum()), len(task.rest))


def _examples(packed: np.ndarray, task: DeploymentTask) -> np.ndarray:
    """For the golden samples: held-out examples of different classes where there are some."""
    rows = task.rest if len(task.rest) else task.support
    return packed[rows[np.linspace(0, len(rows) - 1, min(SAMPLES, len(rows))).astype(int)]]


def _asked(packed: np.ndarray, splits: str, settings: Settings) -> Trial:
    """Variants are calibrated on an example of each training class, and measured on the test episodes."""
    classes = _classes(splits)
    rows = classes.loc[classes["split"] == "train", "first"].to_numpy()
    return Trial(packed, packed[rows], load_episodes(splits, "test", settings.episodes.settings))


def _measured(evaluation: Path, name: str) -> dict[str, Any]:
    """What `evaluate` found about the learner."""
    scores = read_json(evaluation / "figures.json", made_by="evaluate")
    own = {"evaluation": scores[name], "domains": _by_domain(evaluation / "domains.csv", name)}
    return own | {"rival": _rival(evaluation, scores, name)}


def _rival(evaluation: Path, scores: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The best that does without meta-learning, in the first setting, and how far the learner is ahead of it."""
    rivals, differences = (
        read_json(evaluation / f"{file}.json", made_by="evaluate") for file in ("rivals", "differences")
    )
    found = lead(scores, name, rivals, differences)
    if found is None:
        return None
    few = few_test_classes(scores[name][found["setting"]].get("classes"))
    told = ("difference", "ci95", "episodes", *(["classes_ci95"] if few else []))
    return {"setting": found["setting"], "learner": found["rival"]} | {key: found[key] for key in told}


def _by_domain(path: Path, name: str) -> list[dict[str, Any]]:
    """The learner's accuracy on the test domains, in the first setting."""
    table = pd.read_csv(required(path, made_by="evaluate"))
    own = table[(table["learner"] == name) & (table["setting"] == table["setting"].iloc[0])]
    return nulled(own.drop(columns="learner").to_dict("records"))


def _accuracy_text(card: TaskCard) -> str:
    if card.accuracy is None:
        return ""
    return (
        f"{card.accuracy['accuracy']:.1%} of {card.accuracy['examples']} held-out examples right "
        f"({interval95(card.accuracy['low95'], card.accuracy['high95'])}); "
    )


if __name__ == "__main__":
    run_stage(main)
