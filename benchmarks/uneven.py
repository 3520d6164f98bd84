"""Digits learned from few of some classes and many of others, by every method that has learned the embedded data.

python benchmarks/uneven.py [--models FOLDER_WITH_TRAINED_MODELS] [--draws 100]

A task has five digits (of scikit-learn, enlarged to 28×28 pixels, black on white) with 1, 2, 3, 7 and 12 labelled
examples, and beside it the same task with 5 of each. Digits and examples are drawn again for every task, and all
spreads answer the same 50 queries. Nothing is chosen on them. Without --models every method is trained on a fresh
clone, with the settings of params.yaml.

An example more is worth less the more there are already, so an uneven spread loses even where no class is favoured.
The mean over tasks in which every class has 1 example, every class 2, and so on says how much: it is the accuracy on
the same numbers of examples. What an uneven task lacks of that mean is lost by being uneven.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from measure import fresh_clone, machine, measure
from PIL import Image
from sklearn.datasets import load_digits

from metaloom.learner import Learner
from metaloom.learner.intervals import mean_and_half_width
from metaloom.learner.scoring import scores
from metaloom.methods.catalogue import METHOD_CLASSES
from metaloom.system.device import keep_freed_memory
from metaloom.tasks import EpisodeTable
from metaloom.versioning.data import version_dataset

UNEVEN = (1, 2, 3, 7, 12)
EVEN = sum(UNEVEN) // len(UNEVEN)
QUERIES = 10  # of each class
SIZE = 28
DIGITS = {"0 to 4": range(5), "any five": range(10)}


def packed_digits() -> tuple[torch.Tensor, np.ndarray]:
    """Black on white, as the embedded data are; and which digit each is."""
    data = load_digits()
    grey = 255 - (data.images * 15.9).astype(np.uint8)
    large = [Image.fromarray(each).resize((SIZE, SIZE), Image.Resampling.BICUBIC) for each in grey]
    return torch.from_numpy(np.stack([np.asarray(each) for each in large])[..., None]), data.target


def drawn(target: np.ndarray, digits: range, draws: int) -> EpisodeTable:
    """Tasks of five of the digits; which digit has how many examples is drawn too."""
    rng = np.random.default_rng(0)
    examples = max(UNEVEN) + QUERIES
    rows = [
        [rng.choice(np.flatnonzero(target == digit), examples, replace=False) for digit in rng.permutation(digits)[:5]]
        for _ in range(draws)
    ]
    return EpisodeTable(np.array(rows)[..., : max(UNEVEN)], np.array(rows)[..., max(UNEVEN) :])


def row(learner: Learner, images: torch.Tensor, table: EpisodeTable) -> Iterator[str]:
    """Accuracy spread evenly and not, their paired difference, the mean over even tasks with the numbers of the uneven
    one, how far that one is from it, accuracy on the class with fewest and most, NLL."""
    tables = {"even": table.with_labels(EVEN), "uneven": table.with_labels(*UNEVEN)}
    same_numbers = {f"{shots} of each": table.with_labels(shots) for shots in UNEVEN}
    answers = learner.answers(images, tables | same_numbers)
    right, nll = zip(*(scores(answers[name], tables[name]) for name in tables), strict=True)
    for each in right:
        yield percent(each.numpy())
    yield percent((right[1] - right[0]).numpy())
    each_number = [scores(answers[name], asked)[0] for name, asked in same_numbers.items()]
    expected = torch.stack(each_number).mean(dim=0)
    yield percent(expected.numpy())
    yield percent((right[1] - expected).numpy())
    own = answers["uneven"].argmax(dim=2).unflatten(1, (len(UNEVEN), -1)) == torch.arange(len(UNEVEN))[:, None]
    for way in (0, len(UNEVEN) - 1):
        yield percent(own[:, way].double().mean(dim=1).numpy())
    yield f"{nll[0].mean():.3f}, {nll[1].mean():.3f}"


def percent(values: np.ndarray) -> str:
    mean, half = mean_and_half_width(values)
    return f"{100 * mean:.1f} ± {100 * half:.1f}"


def trained(folder: str) -> Path:
    """Every method's model, in a clone."""
    root = fresh_clone(folder)
    version_dataset(root)
    measure(root, "dvc", "repro", "--quiet", "split")
    for name in METHOD_CLASSES:
        paths = ("artifacts/dataset", "artifacts/splits", "artifacts/plan.json", f"artifacts/models/{name}")
        command = (sys.executable, "-m", "metaloom.stages.train", name, *paths, f"metrics/training/{name}.json")
        measure(root, *command)
    return root / "artifacts/models"


def table(models: Path, draws: int) -> None:
    keep_freed_memory()
    images, target = packed_digits()
    fewest, most = min(UNEVEN), max(UNEVEN)
    spread = ", ".join(map(str, UNEVEN))
    print(
        f"| method | digits | {EVEN} of each, % | {spread}, % | difference | mean of tasks with {spread} of each"
        f" | difference from it | of the class with {fewest} | with {most} | NLL, even and uneven |\n{'|---' * 10}|"
    )
    for name in METHOD_CLASSES:
        if not (models / name).exists():
            continue
        learner = Learner.load(models / name)
        for which, digits in DIGITS.items():
            cells = row(learner, images, drawn(target, digits, draws))
            print(f"| {name} | {which} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, help="artifacts/models of a project that has learned the embedded data")
    parser.add_argument("--draws", type=int, default=100, help="tasks, of 50 queries each")
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        table(options.models or trained(folder), options.draws)


if __name__ == "__main__":
    main()
