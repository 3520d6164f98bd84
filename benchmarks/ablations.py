"""What the essay on meta-learning claims, measured: one change at a time, everything else equal.

python benchmarks/ablations.py [--omniglot FOLDER_WITH_THE_TWO_ARCHIVES] [--quick]

Each row is a ProtoNet (or what it names) trained for 300 steps of 120 images (MAML: of four tasks of 30) on one thread,
and asked the same 400 test episodes a setting; not transductive. The seed is 0, and the interval is over episodes: it
does not tell how much another seed changes. The network with the best validation accuracy answers, as everywhere in
metaloom.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from joblib import Parallel, delayed
from measure import add_omniglot, fresh_clone, machine, measure
from omniglot import COMMON
from similarity import SimilaritySampler, mean_similarity, similarities

from metaloom.config import Settings, load_settings
from metaloom.data.packed import Dataset
from metaloom.learner import Learner
from metaloom.learner.intervals import mean_and_half_width
from metaloom.learner.scoring import scores
from metaloom.stages.train import of_method, trainer_of, training_classes
from metaloom.system.device import keep_freed_memory
from metaloom.tasks import load_episodes
from metaloom.training.bank.trainer import BankState
from metaloom.versioning.data import version_dataset

STEPS, TEST = 300, ("5w1s", "20w1s")
BASE = {"train.validate_every": 100, "train.patience": 1000, "protonet.n_way": 20, "bank.n_way": 20}
METHODS = ("protonet", "maml", "bank")
NARROWER = (32, 48)  # channels, to be compared with 64


@dataclass(frozen=True)
class Row:
    """One training run.

    Args:
        claim: what it is about.
        name: what differs.
        settings: overrides of params.
        method: that is trained.
        classes: how many training classes there are; None: all.
        domains: likewise.
        similar: draws classes that are alike (True), unlike (False), or as they come (None).
    """

    claim: str
    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    method: str = "protonet"
    classes: int | None = None
    domains: int | None = None
    similar: bool | None = None


def rows(classes: int, domains: int) -> Iterator[Row]:
    yield Row("the network", "conv4-64 (all rows below unless they say otherwise)")
    yield Row("the network", "conv4-64, without turns", {"protonet.take_turns": False})
    others = [("conv4", width) for width in (16, *NARROWER, 128)]
    for name, width in (("mlp", 256), ("gru", 64), *others, ("resnet12", 16)):
        yield Row("the network", f"{name}-{width}", {"network.name": name, "network.width": width})
    for width in (64, *NARROWER):
        yield Row("the network, MAML", f"conv4-{width}", {"network.width": width}, "maml")
    for count in (10, 30, 100, 300, classes):
        small = {"protonet.n_way": 10, "protonet.tasks_per_step": 2}
        yield Row("training classes, 10-way", str(count), small, classes=count)
    for name, similar in (("unlike", False), ("as they come", None), ("alike", True)):
        yield Row("classes of a task", name, similar=similar)
    for norm in ("batch", "group", "none"):
        yield Row("norm", norm, {"protonet.norm": norm})
    for share in (0.0, 0.1, 0.3):
        yield Row("dropout", str(share), {"network.dropout": share})
    for count in sorted({3, domains // 2, domains} - {0, 1, 2}):
        window = 2 if count < 6 else 4
        bank = {"bank.window": window, "bank.stride": window, "bank.route": "pick"}
        yield Row("one network or a bank", f"{count} domains, one network", domains=count)
        yield Row("one network or a bank", f"{count} domains, bank", bank, "bank", domains=count)


def measured(row: Row, root: Path, steps: int) -> dict[str, Any]:
    """Train and ask."""
    keep_freed_memory()
    torch.set_num_threads(1)
    os.chdir(root)
    settings = load_settings("params.yaml", BASE | {f"{name}.steps": steps for name in METHODS} | row.settings)
    packed, training = Dataset.load("artifacts/dataset"), chosen_classes(row)
    if row.method == "bank":  # no more images in all than the one network has
        settings = _shared_out(row, settings, packed, training, steps)
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(row, settings, packed, training, Path(folder))
        state = of_method(trainer, training, folder).run()
    learner = state.learner if isinstance(state, BankState) else replace(trainer.learner, params=state.best)
    found = {"row": row, "seconds": state.seconds, **_accuracies(learner, torch.from_numpy(packed.examples))}
    if row.claim == "classes of a task":
        found["similarity"] = mean_similarity(trainer.sampler, similarities(packed, training))
    return found


def chosen_classes(row: Row) -> pd.DataFrame:
    """The same first ones of a fixed order: fewer are part of more."""
    training = training_classes("artifacts/splits")
    if row.domains is not None:
        names = np.random.default_rng(0).permutation(sorted(training["domain"].unique()))
        training = training[training["domain"].isin(names[: row.domains])]
    order = np.random.default_rng(0).permutation(len(training))
    return training.iloc[np.sort(order[: row.classes])]


def _trainer(row: Row, settings: Settings, packed: Dataset, training: pd.DataFrame, folder: Path) -> Any:
    where = ("artifacts/dataset", "artifacts/splits")
    trainer = trainer_of(row.method, settings, packed, training, *where, torch.device("cpu"), code="")
    trainer = replace(trainer, checkpoint=folder / "checkpoint")
    if row.similar is None:
        return trainer
    alike = SimilaritySampler.of_plain(trainer.sampler, similarities(packed, training), row.similar)
    return replace(trainer, sampler=alike)


def _shared_out(row: Row, settings: Settings, packed: Dataset, training: pd.DataFrame, steps: int) -> Settings:
    with tempfile.TemporaryDirectory() as folder:
        networks = len(of_method(_trainer(row, settings, packed, training, Path(folder)), training, folder).plans())
    own = settings.bank.model_copy(update={"steps": -(-steps // networks)})
    return settings.model_copy(update={"bank": own})


def _accuracies(learner: Learner, images: torch.Tensor) -> dict[str, str]:
    found = {}
    for setting, table in load_episodes("artifacts/splits", "test", list(TEST)).items():
        accuracy, half = mean_and_half_width(scores(learner.answer(images, table), table)[0].numpy())
        found[setting] = f"{accuracy:.1%} ± {half:.1%}"
    return found


def prepared(folder: str, archives: Path | None) -> Path:
    """A clone with data set, splits and episodes."""
    root = fresh_clone(folder)
    changes = {"split": {}, "episodes": {"settings": list(TEST), "test": 400, "within_domain": False}}
    if archives is None:
        version_dataset(root)
    else:
        changes["split"] = {name: yaml.safe_load(COMMON[f"split.{name}"]) for name in ("validation", "test")}
        add_omniglot(root, archives)
    params = yaml.safe_load((root / "params.yaml").read_text())
    for section, values in changes.items():
        params[section] |= values
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    measure(root, "dvc", "repro", "--quiet", "split")
    return root


def table(name: str, root: Path, quick: bool) -> None:
    training = training_classes(str(root / "artifacts/splits"))
    wanted = list(rows(len(training), training["domain"].nunique()))
    if quick:
        wanted = [row for row in wanted if row.claim in ("classes of a task", "one network or a bank")]
    print(f"\n{name}: {len(training)} training classes of {training['domain'].nunique()} domains\n")
    print(f"| claim | row | {' | '.join(TEST)} | training, s | similarity of a task's classes |\n" + "|---" * 6 + "|")
    warnings.filterwarnings("ignore", "A worker stopped")  # joblib starts a new one, as each keeps some memory
    work = (delayed(measured)(row, root, 2 if quick else STEPS) for row in wanted)
    for found in Parallel(n_jobs=-1, return_as="generator")(work):
        row, alike = found["row"], f"{found['similarity']:.2f}" if "similarity" in found else ""
        accuracy = " | ".join(found[setting] for setting in TEST)
        print(f"| {row.claim} | {row.name} | {accuracy} | {found['seconds']:.0f} | {alike} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--omniglot", type=Path, metavar="FOLDER", help="with the two archives")
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    options = parser.parse_args()
    print(machine())
    for name, archives in (("glyphs", None), ("Omniglot", options.omniglot)):
        if name == "glyphs" or archives is not None:
            with tempfile.TemporaryDirectory() as folder:
                table(name, prepared(folder, archives), options.quick)


if __name__ == "__main__":
    main()
