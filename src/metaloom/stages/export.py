"""DVC stage `export`: adapt the champion to the deployment task and hand it off as a verified bundle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from metaloom.config import SPLITS, Settings, load_settings
from metaloom.data.packed import Dataset
from metaloom.data.support import Support
from metaloom.handoff.adapting.solve import solve
from metaloom.handoff.bundle.contents import Maker, TaskCard
from metaloom.handoff.bundle.golden import SAMPLES
from metaloom.handoff.bundle.write import write_bundle
from metaloom.handoff.graphs.costs import Trial
from metaloom.handoff.metadata import with_reading
from metaloom.learner import AdaptedTask, champion
from metaloom.learner.estimate import held_out
from metaloom.networks.engine import choose_engine
from metaloom.planning.deployment import deployed
from metaloom.stages import run_stage
from metaloom.system.certainty import few_test_classes
from metaloom.system.files import read_json, required
from metaloom.system.quantities import interval95
from metaloom.system.rounding import nulled
from metaloom.system.terminal import bar, say
from metaloom.tasks import load_episodes


@dataclass(frozen=True)
class DeploymentTask:
    """Rows of the data set to learn from and to be measured on; a way is the place of a class in `labels`."""

    domain: str
    split: str
    labels: list[str]
    support: Int[np.ndarray, " support"]
    support_ways: Int[np.ndarray, " support"]
    rest: Int[np.ndarray, " rest"]
    rest_ways: Int[np.ndarray, " rest"]


def main(dataset: str, splits: str, plan: str, models: str, evaluation: str, metrics: str, bundle: str) -> None:
    """Write the bundle folder; nothing is put in place that does not verify."""
    settings = load_settings(plan=plan)
    choose_engine(settings.engine)
    name = champion(models, settings.trained)
    maker = Maker.open(
        Path(models) / name,
        settings,
        _measured(Path(evaluation), metrics, name),
        _shown(settings),
    )
    data = Dataset.load(dataset)
    packed = data.examples
    task = draw_task(_classes(splits), settings)
    support = Support(packed[task.support], task.support_ways, task.labels, [])
    (solved,) = solve(maker, {task.domain: support})
    card = replace(solved.card, **about_split(task.split), accuracy=_measure(solved.task, packed, task))
    contents = replace(
        solved.contents(maker),
        examples=_examples(packed, task),
        metadata=with_reading(maker.describe(card, solved.fingerprint), data.quality.get("reading")),
        asked=_asked(packed, splits, settings) if settings.export.variants else None,
    )
    with bar(f"export {name} for {task.domain}", 1):
        summary = write_bundle(bundle, contents, settings.export)
    say(f"{name} for {task.domain}: {_accuracy_text(card)}verified: {summary}")


def _shown(settings: Settings) -> dict[str, Any]:
    """The settings for the metadata; those that do nothing are left out."""
    idle = {"encoder": settings.encoder.file is None, "contenders": not settings.contenders}
    return settings.model_dump(mode="json", exclude={"limits", *(name for name, is_idle in idle.items() if is_idle)})


def about_split(split: str) -> dict[str, bool]:
    """What the meta-learner owes to the task's classes: training classes made it, validation classes chose it."""
    return {"meta_trained_on_it": split == "train", "chosen_on_it": split == "validation"}


def draw_task(classes: pd.DataFrame, settings: Settings) -> DeploymentTask:
    """All classes of the domain in params, with `export.n_shot` seeded support examples each.

    Args:
        classes: the class table of the split stage.

    Raises:
        MetaloomError: no such domain, or a class with too few examples.
    """
    chosen, n_shot = deployed(classes, settings.export), settings.export.n_shot
    domain = chosen["domain"].iloc[0]
    rng = np.random.default_rng(settings.seed)
    support, rest = [], []
    for first, count in chosen[["first", "count"]].itertuples(index=False):
        order = first + rng.permutation(count)
        support.append(np.sort(order[:n_shot]))
        rest.append(np.sort(order[n_shot:]))
    ways = np.arange(len(chosen))
    return DeploymentTask(
        domain=domain,
        split=next(split for split in SPLITS if (chosen["split"] == split).any()),
        labels=[name.removeprefix(f"{domain}/") for name in chosen["class"]],
        support=np.concatenate(support),
        support_ways=ways.repeat(n_shot),
        rest=np.concatenate(rest),
        rest_ways=ways.repeat([len(rows) for rows in rest]),
    )


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


def _measured(evaluation: Path, metrics: str, name: str) -> dict[str, Any]:
    """What `evaluate` found about the learner."""
    scores = read_json(metrics, made_by="evaluate")
    own = {"evaluation": scores[name], "domains": _by_domain(evaluation / "domains.csv", name)}
    return own | {"rival": _rival(evaluation, scores, name)}


def _rival(evaluation: Path, scores: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The best that does without meta-learning, in the first setting, and how far the learner is ahead of it."""
    setting = next(iter(scores[name]))
    rivals = read_json(evaluation / "rivals.json", made_by="evaluate").get(setting, {}).values()
    best = max(rivals, key=lambda rival: scores[rival][setting]["accuracy"] or 0, default=None)
    few = few_test_classes(scores[name][setting].get("classes"))
    told = ("difference", "ci95", "episodes", *(["classes_ci95"] if few else []))
    for each in read_json(evaluation / "differences.json", made_by="evaluate"):
        if (each["setting"], each["learner"], each["rival"]) == (setting, name, best) and each["episodes"]:
            return {"setting": setting, "learner": best} | {key: each[key] for key in told}
    return None


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
