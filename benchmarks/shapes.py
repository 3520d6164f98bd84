"""Every method on tasks of every shape, beside logistic regression on pixels: method × image size × ways and shots.

python benchmarks/shapes.py [--omniglot FOLDER_WITH_THE_TWO_ARCHIVES] [--sizes 28 64 128] [--only METHOD …]
                            [--folder KEPT] [--set KEY=VALUE …] [--quick]

Each method is trained once for each size with its default settings (and what --set says) and answers the fixed test
episodes of all shapes, of classes that it has never seen; an embedding of conv4-64 has 64 numbers at 28 pixels, 1,024
at 64 and 4,096 at 128. Pictures are made up, in colour; with --omniglot also letters, in grey. Logistic regression
answers the same episodes; its C is the best of params.yaml's on validation episodes with the same shots. In brackets
stands the 95% interval of the paired difference. With --folder models stay there, and are not trained again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from jaxtyping import Float
from made_up import write
from measure import add_omniglot, fresh_clone, machine, measure
from omniglot import COMMON

from metaloom.baselines import BASELINES, Features, answer_all
from metaloom.baselines.run import Request
from metaloom.config import load_settings
from metaloom.data.packed import Dataset
from metaloom.evaluation.statistics import compare
from metaloom.kinds.encoding import Encoding
from metaloom.learner import Learner
from metaloom.learner.scoring import scores
from metaloom.methods.catalogue import METHOD_CLASSES
from metaloom.system.device import keep_freed_memory
from metaloom.tasks import EpisodeTable
from metaloom.tasks.episodes import draw

LOGISTIC, SAMPLES, QUERIES, SEARCHED = "logistic", 2000, 5, 10
EPISODES = {2: 100, 5: 40, 20: 12, 50: 8}  # by ways: at least 1,000 queries
UNEVEN = (1, 2, 3, 7, 12)
SHAPES = [(n_way, (n_shot,)) for n_way in EPISODES for n_shot in (1, 5, 20)] + [(5, UNEVEN)]
FEW_SHAPES = [(2, (1,)), (5, UNEVEN)]  # of --quick
EXAMPLES = max(shots[0] for _, shots in SHAPES) + QUERIES  # of a class
DOMAINS = {"line0": 24, "line1": 24, "line2": 24, "line3": 24, "line4": 24, "line5": 28, "line6": 28}  # their classes
Accuracies = Float[np.ndarray, " episode"]
SPLIT = {"validation": ["*line4"], "test": ["*line5", "*line6"]}


@dataclass(frozen=True)
class Data:
    """Pictures of one kind and size, in a project whose episodes are drawn.

    Args:
        name: for the table.
        root: of the project.
        shapes: ways and labelled examples that its classes have enough for.
    """

    name: str
    root: Path
    shapes: list[tuple[int, tuple[int, ...]]]

    def tables(self, split: str, episodes: int | None = None) -> dict[str, EpisodeTable]:
        """Episodes of every shape, by its name; as many as EPISODES says, or so many of no more than five ways."""
        classes = pd.read_parquet(self.root / "artifacts/splits/classes.parquet")
        pool, found = classes[classes["split"] == split], {}
        for n_way, shots in self.shapes:
            setting = f"{n_way if episodes is None else min(n_way, 5)}w{max(shots)}s"
            rows = draw(pool, setting, episodes or EPISODES[n_way], QUERIES, f"shapes/{split}/{setting}")
            table = EpisodeTable(rows[..., : max(shots)], rows[..., max(shots) :])
            found[f"{n_way}w{','.join(map(str, shots))}s"] = table.with_labels(*shots)
        return found


def project(folder: Path, size: int, omniglot: Path | None, quick: bool, overrides: Mapping[str, Any]) -> Data:
    """A clone with data, splits and settings; as it is where there is one."""
    name = f"{'letters' if omniglot else 'made up'}, {size} px"
    root = folder / name.replace(" ", "_").replace(",", "")
    shapes = FEW_SHAPES if quick else SHAPES
    if omniglot:  # 20 drawings of a letter
        shapes = [(ways, tuple(min(shot, 15) for shot in shots)) for ways, shots in shapes]
    if not root.exists():
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            clone, split = fresh_clone(temporary), SPLIT
            if omniglot:
                add_omniglot(clone, omniglot)
                split = {part: yaml.safe_load(COMMON[f"split.{part}"]) for part in ("validation", "test")}
            else:
                write(Path(temporary) / "pictures", DOMAINS, EXAMPLES)
                measure(clone, "metaloom", "data", "add", f"{temporary}/pictures", "--only")
            _set(clone, {"pictures": {"image_size": size, "channels": 1 if omniglot else 3}, "split": split})
            _set(clone, {"methods": list(METHOD_CLASSES)})
            for dotted, value in overrides.items():
                section, _, key = dotted.partition(".")
                _set(clone, {section: {key: value}})
            measure(clone, "dvc", "repro", "--quiet", "split")
            clone.rename(root)
    return Data(name, root, shapes)


def _set(root: Path, changes: Mapping[str, Any]) -> None:
    params = yaml.safe_load((root / "params.yaml").read_text())
    for section, values in changes.items():
        params[section] = params[section] | values if isinstance(values, dict) else values
    (root / "params.yaml").write_text(yaml.safe_dump(params))


def trained(root: Path, method: str) -> Learner:
    """By the stage itself, unless it is there."""
    model = root / "artifacts/models" / method
    if not model.exists():
        paths = ("artifacts/dataset", "artifacts/splits", "artifacts/plan.json", f"artifacts/models/{method}")
        command = (sys.executable, "-m", "metaloom.stages.train", method, *paths, f"metrics/training/{method}.json")
        measure(root, *command)
    return Learner.load(model)


def by_logistic_regression(data: Data, packed: Dataset, encoding: Encoding) -> dict[str, Accuracies]:
    """The accuracy in each test episode, by shape."""
    settings = load_settings(data.root / "params.yaml", plan=data.root / "artifacts/plan.json")
    candidates = BASELINES[LOGISTIC].candidates(settings.baselines)
    search = data.tables("validation", SEARCHED).items()
    tried = answered(packed, encoding, [(name, choice, table) for name, table in search for choice in candidates])
    best = {name: max(candidates, key=lambda choice: tried[name, choice["C"]].mean()) for name, _ in search}
    asked = [(name, best[name], table) for name, table in data.tables("test").items()]
    found = answered(packed, encoding, asked)
    return {name: found[name, choice["C"]] for name, choice, _ in asked}


def answered(
    packed: Dataset, encoding: Encoding, asked: Sequence[tuple[str, dict[str, Any], EpisodeTable]]
) -> dict[tuple[str, float], Accuracies]:
    """Logistic regression's accuracy in each episode, by shape and C."""
    rows = np.unique(np.concatenate([table.rows for *_, table in asked]))
    features = Features(rows, packed.examples[rows], encoding, {}, {}, {})
    requests = [Request((name, choice["C"]), LOGISTIC, choice, table) for name, choice, table in asked]
    answers = answer_all(features, requests, LOGISTIC, jobs=1)
    labels = {request.key: request.table.answers for request in requests}
    return {key: (each.scores.argmax(axis=2) == labels[key]).mean(axis=1) for key, each in answers.items()}


def measured(data: Data, methods: Sequence[str]) -> Counter[str]:
    """Prints the table of one kind and size; how many cells there are, and how many below logistic regression."""
    learners = {method: trained(data.root, method) for method in methods}
    packed = Dataset.load(data.root / "artifacts/dataset")
    rival = by_logistic_regression(data, packed, next(iter(learners.values())).encoding)
    tables, examples = data.tables("test"), torch.from_numpy(packed.examples)
    found: dict[str, dict[str, Accuracies]] = {}
    for method, learner in learners.items():
        answers = learner.answers(examples, tables)
        found[method] = {name: scores(answers[name], table)[0].numpy() for name, table in tables.items()}
    lengths = {learner.method.network.one.embed for learner in learners.values()}
    print(f"\n{data.name}, embeddings of {', '.join(map(str, lengths))} numbers (a bank's members')\n")
    print(f"| ways and shots | logistic regression | {' | '.join(methods)} |\n{'|---' * (2 + len(methods))}|")
    cells: Counter[str] = Counter()
    for name in tables:
        row = [f"{100 * rival[name].mean():.1f}"]
        for method in methods:
            gap = compare("it", "rival", {"it": found[method][name], "rival": rival[name]}, SAMPLES)
            cells.update(all=1, below=gap.difference < 0, clearly=gap.high95 < 0)
            between = f"{100 * gap.low95:+.1f} to {100 * gap.high95:+.1f}"
            row.append(f"{100 * found[method][name].mean():.1f} ({between}){' below' if gap.difference < 0 else ''}")
        print(f"| {name} | {' | '.join(row)} |", flush=True)
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--omniglot", type=Path, metavar="FOLDER", help="with the two archives: letters too, at 28 px")
    parser.add_argument("--sizes", type=int, nargs="+", default=[28, 64, 128], help="pixels")
    parser.add_argument("--only", nargs="+", choices=METHOD_CLASSES, default=list(METHOD_CLASSES), metavar="METHOD")
    parser.add_argument("--folder", type=Path, help="where the projects stay")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of params.yaml")
    parser.add_argument("--quick", action="store_true", help="two shapes after two steps: a smoke test")
    options = parser.parse_args()
    overrides = {key: yaml.safe_load(value) for key, _, value in (each.partition("=") for each in options.set)}
    if options.quick:
        overrides = {f"{method}.steps": 2 for method in METHOD_CLASSES} | overrides
    keep_freed_memory()
    print(machine())
    cells: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        kinds = [(size, None) for size in options.sizes] + ([(28, options.omniglot)] if options.omniglot else [])
        for size, omniglot in kinds:
            cells += measured(project(folder, size, omniglot, options.quick, overrides), options.only)
    share = cells["below"] / cells["all"]
    print(f"\n{cells['below']} of {cells['all']} cells ({share:.1%}) below, {cells['clearly']} of them clearly")


if __name__ == "__main__":
    main()
