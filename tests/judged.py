"""A small project in git and DVC, whose models need no training: what is judged is put in place by hand."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from dvc.repo import Repo
from projects import run_here

from metaloom.config import Settings
from metaloom.kinds.pictures.encode import PictureEncoding
from metaloom.learner import Learner
from metaloom.methods.model import Params
from metaloom.system.files import write_json
from metaloom.versioning.project import open_project

STAGES = {
    "prepare": "artifacts/dataset",
    "plan": "artifacts/plan.json",
    "split": "artifacts/splits",
    "train": "artifacts/models/protonet",
    "evaluate": "artifacts/evaluation",
    "export": "artifacts/bundle",
}
SPLITS = {"a": "train", "b": "validation", "c": "test", "d": "test"}  # by domain
CLASSES, EXAMPLES = 5, 10


def pictures(noise: float = 40) -> tuple[np.ndarray, pd.DataFrame]:
    """Patterns that pixels tell apart, and the item table."""
    rng = np.random.default_rng(0)
    names = [(f"{domain}/{number}", domain) for domain in SPLITS for number in range(CLASSES)]
    patterns = np.kron(rng.integers(0, 2, (len(names), 1, 4, 4, 1)) * 255, np.ones((7, 7, 1)))
    noisy = (patterns + rng.normal(0, noise, (len(names), EXAMPLES, 28, 28, 1))).clip(0, 255).astype(np.uint8)
    items = pd.DataFrame([pair for pair in names for _ in range(EXAMPLES)], columns=["class", "domain"])
    items.insert(0, "row", np.arange(len(items), dtype=np.int32))
    examples = noisy.reshape(-1, 28, 28, 1)
    items["sha256"] = [hashlib.sha256(each.tobytes()).hexdigest() for each in examples]
    items["source"], items["split"] = items["sha256"], ""
    return examples, items


class Project:
    """Its working tree, and commits of it."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self.root, self.settings = root, settings
        self.examples, self.items = pictures()
        self.splits = dict(SPLITS)

    def put(self, blind: bool = False, kind: dict | None = None) -> None:
        """Data, splits, and an untrained model; a blind one has all embeddings alike."""
        artifacts = self.root / "artifacts"
        shutil.rmtree(artifacts, ignore_errors=True)
        for folder in ("dataset", "splits", "models/protonet", "evaluation", "bundle"):
            (artifacts / folder).mkdir(parents=True)
        np.save(artifacts / "dataset/examples.npy", self.examples)
        self.items.to_parquet(artifacts / "dataset/items.parquet", index=False)
        described = {"kind": "pictures", "image_size": 28, "channels": 1}
        write_json(artifacts / "dataset/kind.json", kind or described)
        grouped = self.items.groupby("class", sort=False)
        classes = grouped.agg(domain=("domain", "first"), first=("row", "min"), count=("row", "size")).reset_index()
        classes["split"] = classes["class"].map(self.splits).fillna(classes["domain"].map(self.splits))
        classes.dropna(subset="split").to_parquet(artifacts / "splits/classes.parquet", index=False)
        write_json(artifacts / "plan.json", self.settings.model_dump(mode="json"))
        write_json(artifacts / "evaluation/champion.json", {"method": "protonet"})
        write_json(artifacts / "bundle/metadata.json", {})
        learner = Learner.create("protonet", self.settings, PictureEncoding.of(self.examples))
        if blind:
            weights = {name: torch.zeros_like(tensor) for name, tensor in learner.params.weights.items()}
            learner = replace(learner, params=Params(weights, learner.params.statistics))
        learner.save(artifacts / "models/protonet")

    def commit(self, tag: str = "", blind: bool = False, kind: dict | None = None) -> str:
        """Put files in place and commit them, as a version where a tag is given; the rest as for `put`."""
        self.put(blind, kind)
        (self.root / "params.yaml").write_text(yaml.safe_dump(self.settings.model_dump(mode="json")))
        with open_project(self.root) as repo:
            repo.commit(force=True)
        run_here(self.root, "git", "add", "-A")
        run_here(self.root, "git", "commit", "-qm", tag or "run", "--allow-empty")
        if tag:
            run_here(self.root, "git", "tag", "-a", f"handoff@{tag}", "-m", tag)
        return run_here(self.root, "git", "rev-parse", "HEAD").stdout.strip()


def start(root: Path) -> None:
    """git, DVC, and stages that have nothing but outputs."""
    root.mkdir(exist_ok=True)
    stages = {name: {"cmd": "true", "outs": [path]} for name, path in STAGES.items()}
    dag = {"stages": stages, "artifacts": {"handoff": {"path": "artifacts/bundle", "type": "model"}}}
    (root / "dvc.yaml").write_text(yaml.safe_dump(dag, sort_keys=False))
    run_here(root, "git", "init", "-q")
    Repo.init(str(root)).close()
    (root / ".gitignore").write_text("/artifacts\n/.metaloom\n")
