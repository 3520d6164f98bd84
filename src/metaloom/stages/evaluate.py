"""DVC stage `evaluate`: meta-learners and single-task learners answer the same test episodes, here and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from metaloom.baselines import BASELINES, Choices, Features
from metaloom.config import Settings, load_settings
from metaloom.data.packed import Dataset, seen_as
from metaloom.evaluation.answers import OfTables, meta_answers, meta_speed, single_task_answers, untempered
from metaloom.evaluation.digits import rounded_figures
from metaloom.evaluation.estimates import estimate_figures, estimate_rows
from metaloom.evaluation.headline import headline
from metaloom.evaluation.shown import confusions, gallery
from metaloom.evaluation.space import class_map, embed_classes, nearness
from metaloom.evaluation.studies import balance_rows, label_rows, labels_saved, way_rows
from metaloom.evaluation.tables import (
    META,
    Everyone,
    accuracy_rows,
    calibration_rows,
    differences,
    domain_rows,
    episode_rows,
    rivals,
    summarise,
)
from metaloom.learner import Learner, champion
from metaloom.learner.placement import placed
from metaloom.networks.engine import choose_engine
from metaloom.stages import run_stage
from metaloom.system.device import choose_device, return_freed_memory
from metaloom.system.files import atomic_dir, read_json, write_json
from metaloom.system.quantities import with_interval
from metaloom.system.rounding import nulled
from metaloom.system.terminal import bar, say, track
from metaloom.system.times import note_times
from metaloom.tasks import EpisodeTable, load_episodes, load_studies
from metaloom.tasks.studies import ESTIMATES

TIMES = ("adapt_ms", "predict_ms")  # that are measured of each learner in each setting


def main(
    dataset: str,
    splits: str,
    plan: str,
    models: str,
    pretrained: str,
    choices: str,
    evaluation: str,
    metrics: str,
) -> None:
    """Write the folder `evaluation`, and the headline figures as metrics."""
    settings = load_settings(plan=plan)
    device = choose_device(settings.device)
    choose_engine(settings.engine)
    best = champion(models, settings.trained)
    fixed, studies = load_episodes(splits, "test", []), load_studies(splits, settings.studies)
    learners = {name: Learner.load(Path(models) / name, device) for name in settings.trained}
    chosen = {name: Choices.read(saved) for name, saved in read_json(choices, made_by="tune").items()}
    data = Dataset.load(dataset)
    raw = torch.from_numpy(data.examples)
    examples = placed(raw, device)
    seen = {name: _seen(learner, dataset, raw, examples) for name, learner in learners.items()}
    own = None if seen[best] is examples else seen[best].cpu()

    asked = fixed | {name: table for name, table in studies.items() if not name.startswith(ESTIMATES)}
    answers = _meta(learners, seen, dict.fromkeys(learners, asked) | {best: fixed | studies})
    tracked = track(learners.items(), "time meta-learners", len(learners))
    speeds = {name: _speeds(learner, seen[name], fixed) for name, learner in tracked}
    features = Features.of(raw, asked.values(), learners[best], Learner.load(pretrained, device, "pretrain"), own)
    alone, speeds_alone = _alone(features, chosen, settings, asked)
    everyone = _everyone(answers | alone, best, settings, data.items)

    summary = _rounded(everyone, list(fixed))
    speeds |= {name: {setting: each[setting] for setting in fixed} for name, each in speeds_alone.items()}
    with atomic_dir(evaluation) as folder:
        told = _write_settings(folder, everyone, list(fixed), summary, learners, data.items, chosen)
        write_json(folder / "sizes.json", _of_all(speeds, "bytes"))
        _write_studies(folder, everyone, settings)
        _write_space(folder, learners[best], seen[best], splits, settings.seed)
        estimates = estimate_rows(learners[best], raw if own is None else own, answers[best])
        _write_estimates(folder, estimates, settings.evaluate.bootstrap)
    write_json(metrics, nulled(told))
    note_times("evaluate", Path(evaluation) / "figures.json", {name: _of_all(speeds, name) for name in TIMES})
    _report(summary, best)


def _of_all(speeds: dict[str, dict[str, dict[str, float]]], name: str) -> dict[str, dict[str, float]]:
    """One of the times, or the size, of each learner in each setting."""
    return {learner: {setting: each[name] for setting, each in own.items()} for learner, own in speeds.items()}


def _seen(learner: Learner, dataset: str, raw: Tensor, examples: Tensor) -> Tensor:
    """The examples as a learner takes them: an encoder's rows, or what that saw where it does without.

    Args:
        learner: that takes them.
        dataset: folder of the stage `embed`.
        raw: its examples.
        examples: the same on the device.
    """
    if learner.encoding.takes(tuple(raw.shape[1:]), str(raw.dtype).removeprefix("torch.")):
        return examples
    return placed(torch.from_numpy(seen_as(dataset, learner.encoding.takes)), examples.device)


def _meta(
    learners: dict[str, Learner], seen: dict[str, Tensor], asked: dict[str, dict[str, EpisodeTable]]
) -> dict[str, OfTables]:
    """The answers of each meta-learner to what it is asked."""
    done, found = 0, dict[str, OfTables]()
    with bar("evaluate meta-learners", sum(map(len, asked.values()))) as running:

        def answered(tables: int) -> None:
            nonlocal done
            done += tables
            running.update(done)

        for name, learner in learners.items():
            found[name] = meta_answers(learner, seen[name], asked[name], answered)
    return found


def _alone(
    features: Features, chosen: dict[str, Choices], settings: Settings, asked: dict[str, EpisodeTable]
) -> tuple[dict[str, OfTables], dict[str, dict[str, dict[str, float]]]]:
    """The answers of each single-task learner, and its speeds."""
    return_freed_memory()  # their processes take their own
    found = single_task_answers(features, chosen, settings.baselines, asked)
    return_freed_memory()
    return found


def _everyone(answers: dict[str, OfTables], best: str, settings: Settings, items: pd.DataFrame) -> Everyone:
    """All learners with their groups: what is no single-task learner is a meta-learner."""
    groups = dict.fromkeys(answers, META) | {name: baseline.group for name, baseline in BASELINES.items()}
    class_of, _ = pd.factorize(items["class"])
    return Everyone(answers, groups, best, settings.evaluate.bootstrap, class_of)


def _rounded(everyone: Everyone, settings: list[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """The figures, {learner: {setting: figures}}."""
    return {
        name: {setting: rounded_figures(each) for setting, each in own.items()}
        for name, own in summarise(everyone, settings).items()
    }


def _report(summary: dict[str, dict[str, dict[str, Any]]], best: str) -> None:
    """Lines about the champion, and about who failed."""
    said = [f"{setting} {with_interval(each['accuracy'], each['ci95'])}" for setting, each in summary[best].items()]
    say(f"{best}: {', '.join(said)}")
    for name, figures in summary.items():
        if failed := sum(each["failed"] for each in figures.values()):
            say(f"{name} failed in {failed} episodes, which its figures leave out")


def _speeds(learner: Learner, examples: Tensor, tables: dict[str, EpisodeTable]) -> dict[str, dict[str, float]]:
    return {setting: meta_speed(learner, examples, table) for setting, table in tables.items()}


def _write_settings(
    folder: Path,
    everyone: Everyone,
    settings: list[str],
    summary: dict[str, Any],
    learners: dict[str, Learner],
    items: pd.DataFrame,
    chosen: dict[str, Choices],
) -> dict[str, Any]:
    """What is known of every learner in every setting; returns the headline figures."""
    before = {
        name: {setting: untempered(everyone.answers[name][setting], learner) for setting in settings}
        for name, learner in learners.items()
    }
    best = rivals(everyone, settings)
    own = everyone.answers[everyone.champion]
    episode_rows(everyone, settings).to_parquet(folder / "episodes.parquet", index=False)
    write_json(folder / "figures.json", nulled(summary))
    accuracy_rows(summary).to_csv(folder / "accuracy.csv", index=False)
    domain_rows(everyone, settings, items["domain"]).to_csv(folder / "domains.csv", index=False)
    calibration_rows(everyone, settings, before).to_csv(folder / "calibration.csv", index=False)
    gallery(own, settings).to_parquet(folder / "gallery.parquet", index=False)
    write_json(folder / "champion.json", {"method": everyone.champion})
    write_json(folder / "rivals.json", best)
    gaps = differences(everyone, settings, best)
    write_json(folder / "differences.json", nulled(gaps))
    write_json(folder / "confusions.json", confusions(own, settings, items["class"].tolist()))
    write_json(folder / "learners.json", _learners(everyone, chosen))
    return headline(summary, everyone.champion, best, gaps)


def _learners(everyone: Everyone, chosen: dict[str, Choices]) -> dict[str, Any]:
    """Group, what was chosen for it, and how many of all episodes it failed."""
    return {
        name: {
            "group": everyone.groups[name],
            "chosen": {each["setting"]: each["chosen"] for each in chosen[name].searched} if name in chosen else None,
            "failed": int(sum(each.failed.sum() for each in answers.values())),
            "asked": sum(len(each.table) for each in answers.values()),
        }
        for name, answers in everyone.answers.items()
    }


def _write_studies(folder: Path, everyone: Everyone, settings: Settings) -> None:
    label_rows(everyone, settings.studies).to_csv(folder / "labels.csv", index=False)
    way_rows(everyone, settings.studies).to_csv(folder / "ways.csv", index=False)
    balance_rows(everyone, settings.studies).to_csv(folder / "balance.csv", index=False)
    write_json(folder / "labels_saved.json", nulled(labels_saved(everyone, settings.studies)))


def _write_space(folder: Path, learner: Learner, examples: Tensor, splits: str, seed: int) -> None:
    """Where the classes lie in the champion's embedding."""
    space = embed_classes(learner, examples, pd.read_parquet(Path(splits) / "classes.parquet"))
    class_map(space, seed).to_parquet(folder / "map.parquet", index=False)
    nearness(space).to_parquet(folder / "nearness.parquet", index=False)


def _write_estimates(folder: Path, estimates: pd.DataFrame, samples: int) -> None:
    """How far estimates from a support set alone lie from the truth."""
    estimates.to_parquet(folder / "estimates.parquet", index=False)
    write_json(folder / "estimates.json", nulled(estimate_figures(estimates, samples)))


if __name__ == "__main__":
    run_stage(main)
