"""A tiny data set and a tiny project, for tests that run stages for real."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import together
import yaml
from PIL import Image, ImageDraw

from metaloom.config import load_settings
from metaloom.planning.fit import plain
from metaloom.system.files import write_json

REPO = Path(__file__).resolve().parents[1]
GIT_IDENTITY = {"NAME": "t", "EMAIL": "t@example.org"}
TINY = {  # a whole pipeline in about a minute
    "methods": ["protonet", "maml"],
    "prepare.min_examples": 4,
    "episodes.settings": ["3w1s", "3w2s"],
    "episodes.n_query": 2,
    "episodes.validation": 12,
    "episodes.test": 12,
    "network.width": 8,
    "train.n_query": 2,
    "train.validate_every": 10,
    "train.select_on": "3w1s",
    "protonet.n_way": 8,
    "protonet.steps": 30,
    "ridge.n_way": 8,
    "ridge.steps": 30,
    "shared.n_way": 12,
    "shared.steps": 30,
    "bank.n_way": 8,
    "bank.steps": 30,
    "maml.n_way": 3,
    "maml.steps": 20,
    "maml.tasks_per_step": 2,
    "anil.n_way": 3,
    "anil.steps": 20,
    "anil.tasks_per_step": 2,
    "reptile.n_way": 3,
    "reptile.steps": 20,
    "reptile.tasks_per_step": 2,
    "reptile.batch": 6,
    "reptile.inner_steps": 5,
    "reptile.inner_rate": 0.1,
    "studies.episodes": 4,
    "studies.n_way": 3,
    "studies.labels": [1, 2, 4],
    "studies.uneven": [1, 1, 4],
    "studies.ways": [2, 3],
    "studies.estimates.tasks": 6,
    "studies.estimates.n_shot": 2,
    "pretrain.n_way": 12,
    "pretrain.steps": 20,
    "baselines.settings": ["3w1s", "3w2s"],
    "baselines.episodes": 2,
    "baselines.scratch.episodes": 2,
    "baselines.scratch.elsewhere": 2,
    "baselines.scratch.steps": 4,
    "baselines.scratch.epochs": 0,
    "baselines.scratch.learning_rate": [0.006],
    "baselines.finetune_head.C": [1.0],
    "baselines.finetune_all.episodes": 2,
    "baselines.finetune_all.elsewhere": 2,
    "baselines.finetune_all.steps": 4,
    "baselines.finetune_all.epochs": 0,
    "baselines.finetune_all.learning_rate": [0.001],
    "baselines.finetune_head.episodes": 6,
    "baselines.finetune_head.elsewhere": 2,
    "baselines.logistic.episodes": 6,
    "baselines.logistic.elsewhere": 2,
    "baselines.logistic.C": [1.0],
    "baselines.neighbour.episodes": 6,
    "baselines.neighbour.elsewhere": 2,
    "baselines.svm.episodes": 6,
    "baselines.svm.elsewhere": 2,
    "baselines.svm.C": [1.0],
    "baselines.forest.episodes": 3,
    "baselines.forest.elsewhere": 2,
    "baselines.forest.trees": 5,
    "evaluate.bootstrap": 200,
    "export.n_shot": 2,
    "export.page": False,
}


def draw_shapes(folder: Path, domains: int = 10, classes: int = 4, examples: int = 8, seed: int = 0) -> None:
    """A folder of domain/class/*.png: each class a polygon of its own, each example a jittered drawing of it."""
    rng = np.random.default_rng(seed)
    for domain in range(domains):
        for name in range(classes):
            corners = rng.uniform(4, 24, (3 + name % 3, 2))
            place = folder / f"domain{domain}" / f"class{name}"
            place.mkdir(parents=True)
            for example in range(examples):
                picture = Image.new("L", (28, 28), 255)
                jittered = [tuple(point) for point in corners + rng.normal(0, 1, corners.shape)]
                ImageDraw.Draw(picture).polygon(jittered, outline=0, width=2)
                picture.save(place / f"{example}.png")


def make_project(root: Path, shapes: Path, overrides: dict | None = None) -> Path:
    """A clone-like project: the repo's stages and flows, tiny params, data/ of shapes, git and DVC."""
    shutil.copytree(together.once("template", partial(_template, shapes=shapes)), root, dirs_exist_ok=True)
    (root / ".metaloom").mkdir()
    (root / ".metaloom/graphs").symlink_to(together.kept() / "graphs_of_projects")  # traced once for all projects
    write_params(root, yaml.safe_load((REPO / "params.yaml").read_text()), TINY | (overrides or {}))
    run_here(root, "git", "add", "-A")
    run_here(root, "git", "commit", "-qm", "start")
    return root


def _template(root: Path, shapes: Path) -> None:
    """All of a project but its params and its first commit."""
    (together.kept() / "graphs_of_projects").mkdir(exist_ok=True)
    for name in ("dvc.yaml", "budget.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(REPO / name, root / name)
    for name in ("src", "flows"):
        shutil.copytree(REPO / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copytree(shapes, root / "data")
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["dvc", "config", "core.analytics", "false"]):
        run_here(root, *command)
    shutil.copytree(REPO / ".dvc/plots", root / ".dvc/plots")


def write_params(root: Path, params: dict[str, Any], overrides: dict[str, Any]) -> None:
    """params.yaml with other values at dotted keys."""
    for dotted, value in overrides.items():
        *sections, key = dotted.split(".")
        node = params
        for section in sections:
            node = node[section]
        node[key] = value
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def plan_for_plenty(folder: Path) -> str:
    """A plan.json in which every `auto` is what it is where data are plenty."""
    write_json(folder / "plan.json", plain(load_settings(REPO / "params.yaml", {})))
    return str(folder / "plan.json")


def environment() -> dict[str, str]:
    """This interpreter's scripts first on the path, a name for git's commits, and no Prefect server."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    who = {f"GIT_{role}_{key}": v for role in ("AUTHOR", "COMMITTER") for key, v in GIT_IDENTITY.items()}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return ours | who | {"PATH": path, "DVC_NO_ANALYTICS": "1"}


def run_here(root: Path, *command: str, check: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a project, with `more` in its environment; raises with what it printed if it fails."""
    done = subprocess.run(command, cwd=root, env=environment() | more, capture_output=True, text=True)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done


def metaloom(root: Path, *arguments: str, check: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
    return run_here(root, "metaloom", *arguments, check=check, **more)


def locked_stages(root: Path) -> dict[str, Any]:
    """The stages of dvc.lock."""
    return yaml.safe_load((root / "dvc.lock").read_text())["stages"]


def stage_command(root: Path, name: str) -> tuple[str, list[str]]:
    """The module of a stage that has run (its last name alone), and its arguments."""
    words = locked_stages(root)[name]["cmd"].split()
    return words[2].rsplit(".", 1)[1], words[3:]


def remove_outputs(root: Path, stage: str) -> None:
    for out in locked_stages(root)[stage]["outs"]:
        target = root / out["path"]
        shutil.rmtree(target) if target.is_dir() else target.unlink()


def forget(root: Path, stage: str) -> None:
    """Have the stage run again: neither its outputs nor dvc.lock nor DVC's run cache knows of it."""
    remove_outputs(root, stage)
    lock = yaml.safe_load((root / "dvc.lock").read_text())
    del lock["stages"][stage]
    (root / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
    shutil.rmtree(root / ".dvc/cache/runs", ignore_errors=True)


def hashes(root: Path) -> dict[str, str]:
    """Hash of every output of every stage, as dvc.lock has them."""
    return {out["path"]: out["md5"] for stage in locked_stages(root).values() for out in stage["outs"]}


def free_port() -> int:
    """One that nobody listens on just now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def block(page: str, first: str) -> str:
    """The block of a page that begins with this line."""
    text = (REPO / "docs" / page).read_text(encoding="utf-8")
    return first + text.partition(f"\n{first}")[2].partition("```")[0]
