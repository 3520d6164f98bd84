"""ProtoNet on Omniglot, background alphabets → evaluation alphabets, 28×28, not transductive.

python benchmarks/omniglot.py FOLDER_WITH_THE_TWO_ARCHIVES [--recipe minute|short|quarter|long]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from evaluation import print_proof
from measure import add_omniglot, fresh_clone, machine, measure

from metaloom.system.times import noted_times

COMMON = {
    "methods": "[protonet]",
    "split.validation": "[images_background/Hebrew, images_background/Mkhedruli_(Georgian)]",  # the rest to learn from
    "split.test": "[images_evaluation/*]",
    "train.n_query": "1",
    "pictures.rotations": "true",
    "pictures.mirror": "true",
    "train.distortion": "0.4",
    "train.within_domain": "1.0",
    "train.select_on": "20w1s_domain",
    "train.validate_every": "200",
    "train.patience": "1000",
    "protonet.n_way": "90",
    "protonet.steps": "100000",
    "pictures.test_shift": "1",
    "protonet.temperature": "learned",
    "episodes.validation": "300",
    "episodes.test": "1000",
    "studies.episodes": "200",
    "pretrain.steps": "100000",  # train.max_seconds is its budget too
    "baselines.scratch.episodes": "12",
    "baselines.scratch.elsewhere": "12",
    "baselines.finetune_all.episodes": "12",
    "baselines.finetune_all.elsewhere": "12",
    "baselines.finetune_head.episodes": "200",
    "baselines.finetune_head.elsewhere": "200",
    "baselines.logistic.episodes": "200",
    "baselines.logistic.elsewhere": "200",
    "baselines.neighbour.episodes": "200",
    "baselines.neighbour.elsewhere": "200",
    "baselines.svm.episodes": "200",
    "baselines.svm.elsewhere": "200",
    "baselines.forest.episodes": "40",
    "baselines.forest.elsewhere": "40",
}
RECIPES = {  # what differs; train.max_seconds is the budget
    "minute": {"train.max_seconds": "58"},  # and the last validation
    "short": {"train.max_seconds": "330"},
    "quarter": {
        "train.max_seconds": "900",
        "network.width": "96",
        "train.distortion": "0.5",
        "protonet.n_way": "60",
        "train.n_query": "2",
    },
    "long": {"train.max_seconds": "3300", "network.width": "128", "train.distortion": "0.6"},
}

COMPILE = """
import torch
from metaloom.networks import NETWORKS
network = NETWORKS["conv4"](shape=(1, 28, 28), width=64, norm="group")
weights = {name: weight.requires_grad_() for name, weight in network.init(torch.Generator()).items()}
images = torch.rand(1, 8, 1, 28, 28)
network(weights, images)[0].sum().backward()
with torch.no_grad():
    network(weights, images)
"""


def main(archives: Path, recipe: str) -> None:
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        root = fresh_clone(folder)
        add_omniglot(root, archives)
        prepare = measure(root, "dvc", "repro", "prepare")
        print(f"prepare: {prepare.seconds:.1f} s, {prepare.peak}")
        compiling = measure(root, sys.executable, "-c", COMPILE)
        print(f"machine code, once a machine and version: {compiling.seconds:.1f} s")
        overrides = [word for setting in (COMMON | RECIPES[recipe]).items() for word in ("--set", "=".join(setting))]
        print(f"metaloom run {' '.join(overrides)}")
        whole = measure(root, "metaloom", "run", *overrides)
        print(whole.output)
        training = noted_times(root, "protonet", root / "artifacts/models/protonet/model.safetensors")
        print(f"training: {training['seconds']:.0f} s, {training['examples_per_second']} images/s")
        print(f"the whole run: {whole.seconds:.0f} s, {whole.peak}")
        print_proof(root)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archives", type=Path)
    parser.add_argument("--recipe", choices=RECIPES, default="short")
    options = parser.parse_args()
    main(options.archives, options.recipe)
