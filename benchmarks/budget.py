"""What more effort buys: accuracy on pictures of one's own, trained with less and more than without a time budget.

python benchmarks/budget.py FOLDER [--efforts 0.25 0.5 1 2] [--methods protonet maml] [--set KEY=VALUE …]

FOLDER is one that `metaloom data add` takes. Width, steps and patience are those that `auto` has for the effort, see
`metaloom.planning.work`. What `run --minutes` leaves out was chosen by the validation episodes.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
import yaml
from measure import fresh_clone, machine, measure

from metaloom.config import OVERRIDES
from metaloom.data.packed import Dataset
from metaloom.learner import Learner
from metaloom.learner.intervals import mean_and_half_width
from metaloom.learner.scoring import scores
from metaloom.planning.budget import BUDGET, Budget, write_budget
from metaloom.system.device import keep_freed_memory
from metaloom.tasks import load_episodes


def accuracies(root: Path, learner: Learner, split: str) -> dict[str, np.ndarray]:
    """Of each episode, by setting."""
    tables = load_episodes(root / "artifacts/splits", split, [])
    answers = learner.answers(torch.from_numpy(Dataset.load(root / "artifacts/dataset").examples), tables)
    return {name: scores(answers[name], table)[0].numpy() for name, table in tables.items()}


def row(root: Path, method: str, effort: float) -> str:
    """Trained by the stage itself."""
    write_budget(root / BUDGET, Budget(effort=effort))
    measure(root, "dvc", "repro", "--quiet", f"train@{method}")
    learner = Learner.load(root / "artifacts/models" / method)
    trained = json.loads((root / "artifacts/models" / method / "metrics.json").read_text(encoding="utf-8"))
    steps = f"{trained['steps']}, the best after {trained['best_step']}"
    validated = np.concatenate(list(accuracies(root, learner, "validation").values()))
    tested = accuracies(root, learner, "test")
    figures = [mean_and_half_width(each) for each in (validated, *tested.values())]
    cells = " | ".join(f"{100 * mean:.1f} ± {100 * half:.1f}" for mean, half in figures)
    return f"| {method} | {effort:g} | {learner.method.network.one.width} | {steps} | {cells} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--efforts", type=float, nargs="+", default=[0.25, 0.5, 1, 2])
    parser.add_argument("--methods", nargs="+", default=["protonet", "maml"])
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of params.yaml")
    options = parser.parse_args()
    overrides = {key: yaml.safe_load(value) for key, _, value in (each.partition("=") for each in options.set)}
    keep_freed_memory()
    print(machine())
    with tempfile.TemporaryDirectory() as temporary:
        root = fresh_clone(temporary)
        measure(root, "metaloom", "data", "add", str(options.folder.resolve()), "--only")
        params = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
        for dotted, value in ({"methods": options.methods} | overrides).items():
            section, _, key = dotted.partition(".")
            params[section] = params[section] | {key: value} if key else value
        (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        measure(root, "dvc", "repro", "--quiet", "split")
        names = load_episodes(root / "artifacts/splits", "test", [])
        print(f"| method | effort | width | steps | validation, all | {' | '.join(f'test {name}' for name in names)} |")
        print("|---" * (5 + len(names)) + "|")
        for method in options.methods:
            for effort in options.efforts:
                print(row(root, method, effort), flush=True)


if __name__ == "__main__":
    os.environ.pop(OVERRIDES, None)
    main()
