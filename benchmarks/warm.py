"""Twelve months of new alphabets: training from last month's weights (`train.start`) against training from random ones.

python benchmarks/warm.py FOLDER_WITH_THE_TWO_ARCHIVES [--months 12] [--steps 600] [--share 0.3] [--again]

Month 1 has six of Omniglot's background alphabets, and each month two more come; all that are there are trained on, so
the old ones are rehearsed. Both ways answer the same episodes of the twenty evaluation alphabets, and, for what is
forgotten, the same episodes of each alphabet of month 1. Whichever comes first alternates. With `--again` a second
training from random weights, which has another seed, says by how much two trainings differ that forget nothing.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from gpu_work import Work
from measure import machine

from metaloom.learner import Learner
from metaloom.learner.intervals import mean_and_half_width
from metaloom.learner.scoring import scores
from metaloom.tasks import EpisodeTable
from metaloom.training.trainer import Trainer
from metaloom.training.warm import taken_over

FIRST, MORE = 6, 2  # alphabets of the first month, and of every later one
SETTING, OLD = "20w1s_domain", "10w1s_domain"
EPISODES, OF_OLD = 600, 200
RECIPE = {
    "train.select_on": SETTING,
    "episodes.test": str(EPISODES),
    "episodes.validation": "200",
    "train.patience": "1000",
}


class Month(NamedTuple):
    """One way to train in one month: seconds, and the accuracy of each episode; `old` by alphabet."""

    seconds: float
    right: np.ndarray
    old: dict[str, np.ndarray]


def main(archives: Path, months: int, steps: int, share: float, again: bool) -> None:
    print(machine())
    work = Work.omniglot(archives, RECIPE | {"protonet.steps": str(steps)})
    alphabets = sorted(work.classes.loc[work.classes["split"] == "train", "domain"].unique())
    order = [str(each) for each in np.random.default_rng(0).permutation(alphabets)]
    asked = work.episodes("test", SETTING)
    first = work.classes[work.classes["domain"].isin(order[:FIRST])]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        done: list[tuple[Month, Month]] = []
        for month in range(months):
            there = order[: FIRST + MORE * month]
            seen = replace(work, classes=work.classes[~work.classes["domain"].isin(set(alphabets) - set(there))])
            old = {name: of_one(seen, name) for name in first["domain"].unique()}
            kinds = ["cold", "warm"] if month else ["cold"]
            found = {
                kind: trained(seen, folder, kind, steps, share, asked, old) for kind in kinds[:: 1 if month % 2 else -1]
            }
            if not month:
                (folder / "warm").mkdir()
                for file in (folder / "cold").iterdir():
                    (folder / "warm" / file.name).write_bytes(file.read_bytes())
                continue
            done.append((found["cold"], found["warm"]))
            print(line(f"month {month + 1}, {len(there)} alphabets", *done[-1]), flush=True)
            if again:
                other = replace(seen, settings=seen.settings.model_copy(update={"seed": seen.settings.seed + 1}))
                made = trained(other, folder, "again", steps, share, asked, old)
                print(line("another seed, not warm", found["cold"], made), flush=True)
    conclude(done)


def of_one(work: Work, alphabet: str) -> EpisodeTable:
    """Episodes of one alphabet."""
    classes = work.classes[work.classes["domain"] == alphabet]
    settings = work.settings.model_copy(update={"episodes": work.settings.episodes.model_copy(update={"test": OF_OLD})})
    return replace(work, classes=classes.assign(split="test"), settings=settings).episodes("test", OLD)


def trained(
    work: Work, folder: Path, kind: str, steps: int, share: float, asked: EpisodeTable, old: dict[str, EpisodeTable]
) -> Month:
    """Train in one way, and leave the model for the next month."""
    trainer = work.trainer("protonet", torch.device("cpu"), folder / f"checkpoint-{kind}")
    if kind == "warm":
        learner, fitting = taken_over(trainer.learner, folder / kind)
        assert fitting == 1
        trainer = replace(trainer, learner=learner.changed(steps=round(share * steps)))
    began = time.perf_counter()
    state = trainer.run()
    seconds = time.perf_counter() - began
    trainer.discard_checkpoint()
    learner = replace(trainer.learner, params=state.best)
    learner.save(folder / kind)
    answered = {"": asked} | old
    right = {name: answers(learner, trainer, table) for name, table in answered.items()}
    return Month(seconds, right.pop(""), right)


def answers(learner: Learner, trainer: Trainer, table: EpisodeTable) -> np.ndarray:
    """Accuracy of each episode."""
    return scores(learner.answer(trainer.examples, table), table)[0].numpy()


def line(name: str, cold: Month, warm: Month) -> str:
    """A row of the table."""
    gap, half = mean_and_half_width(100 * (warm.right - cold.right))
    return (
        f"| {name} | {cold.seconds:.0f} | {warm.seconds:.0f} | {100 * cold.right.mean():.1f} | "
        f"{100 * warm.right.mean():.1f} | {gap:+.1f} ± {half:.1f} | {worst(cold, warm)} |"
    )


def worst(cold: Month, warm: Month) -> str:
    """The old alphabet that lost most."""
    gaps = {name: mean_and_half_width(100 * (warm.old[name] - cold.old[name])) for name in cold.old}
    name = min(gaps, key=lambda each: gaps[each][0])
    return f"{gaps[name][0]:+.1f} ± {gaps[name][1]:.1f} ({name.split('/')[-1]})"


def conclude(done: list[tuple[Month, Month]]) -> None:
    """All months together."""
    cold, warm = (sum(pair[kind].seconds for pair in done) for kind in (0, 1))
    gaps = np.concatenate([100 * (pair[1].right - pair[0].right) for pair in done])
    mean, half = mean_and_half_width(gaps)
    print(f"warm takes {warm / cold:.0%} of cold's time; its accuracy less cold's: {mean:+.2f} ± {half:.2f} points")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("archives", type=Path)
    parser.add_argument("--months", type=int, default=12)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--share", type=float, default=0.3, help="train.start_steps, of params.yaml")
    parser.add_argument("--again", action="store_true", help="train from random weights with another seed too")
    asked = parser.parse_args()
    main(asked.archives, asked.months, asked.steps, asked.share, asked.again)
