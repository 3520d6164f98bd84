"""The judge over years of nights, on paired answers of real models.

python benchmarks/judge.py ROOT [--years 500] [--seeds 2]

ROOT is a project that has run. Its ProtoNet is trained again with other seeds; each pair of models answers the same
episodes of the test classes, and what they differ by is recorded. A night draws from the record, with the roles swapped
at random in each episode: then both are exactly as good, and every promotion is false. Planted gains are added to that.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from measure import machine
from scipy import stats

from metaloom.config import OVERRIDES, Setting, load_settings
from metaloom.data.packed import Dataset
from metaloom.judging.decision import BETTER, NOT_WORSE, UNDECIDED, WORSE, decide
from metaloom.judging.questions import Pool, Questions
from metaloom.learner import Learner
from metaloom.networks.engine import choose_engine
from metaloom.stages import train

NIGHTS = 365
ALPHA, MARGIN, MOST = 0.05, 0.01, 3000  # as params.yaml has them
LOOKS = 800, 1600, MOST  # episodes: most nights are decided before the last, which saves time and changes nothing
FIXED = 100  # episodes of the gates beside it
AT_A_TIME = 1500  # nights: bounds memory
POWER_NIGHTS = 2000


@dataclass(frozen=True)
class Record:
    """Differences of accuracy, of each pair of models, round and domain."""

    pairs: list[str]
    differences: np.ndarray  # (pair, round, domain)

    def nights(self, rng: np.random.Generator, nights: int, pair: np.ndarray, episodes: int) -> np.ndarray:
        """(night, round, domain), roles swapped at random."""
        _, recorded, domains = self.differences.shape
        shape = nights, episodes // domains, domains
        drawn = self.differences[pair[:, None, None], rng.integers(0, recorded, shape), np.arange(domains)]
        return drawn * rng.choice(np.array([-1.0, 1.0]), shape)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("--years", type=int, default=500, help="0: only the planted gains")
    parser.add_argument("--seeds", type=int, default=2, help="further ones that ProtoNet is trained with")
    parser.add_argument("--record", type=Path, help=".npz of recorded answers: written, or read where it is there")
    options = parser.parse_args()
    started = time.monotonic()
    record = recorded(options.root.resolve(), options.seeds, options.record)
    print(machine(), f"{time.monotonic() - started:.0f} s to train and to record", sep="; ", flush=True)
    for name, own in zip(record.pairs, record.differences, strict=True):
        print(f"{name}: {own.size:,} episodes of {own.shape[1]} domains, {100 * own.mean():+.2f} points, ", end="")
        print(f"standard deviation {100 * own.std():.1f} points an episode", flush=True)
    started = time.monotonic()
    if options.years:
        equal_years(record, options.years)
    alike = np.abs(record.differences.mean(axis=(1, 2))) < MARGIN
    same = Record([each for each, own in zip(record.pairs, alike, strict=True) if own], record.differences[alike])
    planted(same, "pairs that differ by less than a point")
    planted(record, "all pairs")
    print(f"\n{time.monotonic() - started:.0f} s to replay")


def recorded(root: Path, seeds: int, path: Path | None) -> Record:
    if path is not None and path.is_file():
        found = np.load(path)
        return Record(found["pairs"].tolist(), found["differences"])
    models, questions = models_of(root, seeds), questions_of(root)
    rows = np.sort(np.concatenate([np.arange(f, f + n) for f, n in questions.asked[["first", "count"]].to_numpy()]))
    rounds = 6000 // len(questions.domains)
    table = questions.batch(0, rounds)
    examples, accuracy = torch.from_numpy(questions.pool.examples), {}
    for name, learner in models.items():
        right = learner.answering(examples, rows)(table).argmax(dim=2).cpu().numpy() == table.answers
        accuracy[name] = right.mean(axis=1).reshape(rounds, -1)
    pairs = list(itertools.combinations(models, 2))
    record = Record(
        [f"{one} against {other}" for one, other in pairs],
        np.stack([accuracy[other] - accuracy[one] for one, other in pairs]),
    )
    if path is not None:
        np.savez(path, pairs=record.pairs, differences=record.differences)
    return record


def questions_of(root: Path) -> Questions:
    """Of the project's test classes."""
    settings = load_settings(root / "params.yaml", plan=root / "artifacts/plan.json")
    data = Dataset.load(root / "artifacts/dataset")
    classes = pd.read_parquet(root / "artifacts/splits/classes.parquet")
    pool = Pool(data.examples, classes[classes["split"] == "test"], data.items["sha256"].tolist())
    return Questions.of(pool, Setting.parse(settings.episodes.settings[0]), settings.episodes.n_query, "record")


def models_of(root: Path, seeds: int) -> dict[str, Learner]:
    """The project's own, and ProtoNets of other seeds."""
    settings = load_settings(root / "params.yaml", plan=root / "artifacts/plan.json")
    choose_engine(settings.engine)
    found = {name: Learner.load(root / "artifacts/models" / name) for name in settings.trained}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("artifacts", "params.yaml"):
            (Path(folder) / name).symlink_to(root / name)
        os.chdir(folder)
        for seed in range(1, seeds + 1):
            os.environ[OVERRIDES] = json.dumps({"seed": seed})
            train.main(
                "protonet", "artifacts/embedded", "artifacts/splits", "artifacts/plan.json", f"{seed}", f"{seed}.json"
            )
            found[f"protonet, seed {seed}"] = Learner.load(f"{seed}")
        os.environ.pop(OVERRIDES, None)
        os.chdir(root)
    return found


def judged(record: Record, rng: np.random.Generator, nights: int, gain: float) -> tuple[np.ndarray, ...]:
    """Of each night: what the judge says, after how many episodes, and the first episodes that a fixed test has."""
    domains = record.differences.shape[2]
    outcome, asked = np.full(nights, UNDECIDED), np.zeros(nights, dtype=int)
    fixed = np.empty((nights, FIXED))
    for start in range(0, nights, AT_A_TIME):
        here = np.arange(start, min(start + AT_A_TIME, nights))
        pair = rng.integers(0, len(record.pairs), len(here))
        seen = np.empty((len(here), 0, domains))
        for look in LOOKS:
            more = record.nights(rng, len(here), pair, look - seen.shape[1] * domains) + gain
            if not seen.size:
                fixed[here] = more.reshape(len(here), -1)[:, :FIXED]
            seen = np.concatenate([seen, more], axis=1)
            found = decide(seen, ALPHA / NIGHTS, MARGIN)
            outcome[here], asked[here] = found.outcome, found.rounds * domains
            here, pair, seen = (each[~found.over] for each in (here, pair, seen))
            if not len(here):
                break
    return outcome, asked, fixed


def gates(fixed: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """What other gates promote, of as many nights."""
    mean, error = fixed.mean(axis=1), fixed.std(axis=1, ddof=1) / FIXED**0.5
    p = stats.t.sf(mean / np.maximum(error, 1e-12), FIXED - 1)
    yield f"higher accuracy on {FIXED} episodes", mean > 0
    yield f"paired t-test of {FIXED} episodes at 5%", p < 0.05
    yield f"the same at 5% / {NIGHTS}", p < 0.05 / NIGHTS


def equal_years(record: Record, years: int) -> None:
    rng = np.random.default_rng(0)
    outcome, asked, fixed = judged(record, rng, years * NIGHTS, 0.0)
    print(f"\n{years} years of {NIGHTS} nights, both equally good; years with at least one\n")
    print("| gate | false promotion | false hold |\n|---|---|---|")
    held = share(by_year(outcome == WORSE, years))
    print(f"| the judge | {share(by_year(outcome == BETTER, years))} | {held} |")
    for name, promoted in gates(fixed):
        print(f"| {name} | {share(by_year(promoted, years))} | |")
    kept, open_ = (outcome == NOT_WORSE).mean(), (outcome == UNDECIDED).mean()
    half, most = np.percentile(asked, (50, 90))
    print(f"\n{kept:.1%} of the nights end with `not worse`, {open_:.1%} with `undecided`; ", end="")
    print(f"half of them after {half:,.0f} episodes, 90% after {most:,.0f}", flush=True)


def by_year(nights: np.ndarray, years: int) -> np.ndarray:
    return nights.reshape(years, NIGHTS).any(axis=1)


def share(found: np.ndarray) -> str:
    """With its interval of Clopper and Pearson."""
    count, of = int(found.sum()), len(found)
    ends = stats.binomtest(count, of).proportion_ci(0.95, "exact")
    return f"{count / of:.1%} ({ends.low:.1%} to {ends.high:.1%})"


def planted(record: Record, which: str) -> None:
    print(f"\nPlanted gains and losses, {which}, {POWER_NIGHTS:,} nights each at 5% / {NIGHTS}\n")
    others = [name for name, _ in gates(np.zeros((1, FIXED)))]
    print(f"| points | better | not worse | worse | undecided | episodes, half | 90% | {' | '.join(others)} |")
    print("|---" * (7 + len(others)) + "|")
    for points in (-3, -2, -1, 0.5, 1, 2, 3):
        rng = np.random.default_rng(1)
        outcome, asked, fixed = judged(record, rng, POWER_NIGHTS, points / 100)
        shares = [f"{(outcome == each).mean():.1%}" for each in (BETTER, NOT_WORSE, WORSE, UNDECIDED)]
        sizes = [f"{each:,.0f}" for each in np.percentile(asked, (50, 90))]
        beside = [f"{promoted.mean():.1%}" for _, promoted in gates(fixed)]
        print(f"| {points:+g} | {' | '.join([*shares, *sizes, *beside])} |", flush=True)


if __name__ == "__main__":
    main()
