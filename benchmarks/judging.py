"""How long `metaloom judge` takes, with every guard, on pairs of real models.

python benchmarks/judging.py ROOT [--seed 1]

ROOT is a project that has run. In a copy of it, which has the champion, ProtoNet is trained again with another seed,
which is one challenger; the other is the project's MAML, which adapts its network to every episode and so takes longest
to ask. What is timed is the whole command, with the guard `novelty` and without it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import SCRIPTS, machine

from metaloom.config import OVERRIDES
from metaloom.networks.engine import choose_engine
from metaloom.stages import train
from metaloom.versioning.project import open_project

SOURCE = Path(__file__).parents[1] / "src"
LARGEST = 5  # exit code of a verdict
CHAMPION = "artifacts/evaluation/champion.json"
WITH, WITHOUT = "novelty: warn", 'novelty: "off"'


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("--seed", type=int, default=1, help="of the ProtoNet that is the challenger")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "project"
        copied(options.root.resolve(), place)
        os.chdir(place)
        committed(place, "champion")
        set_champion(place, "protonet")
        committed(place, "protonet")
        set_champion(place, "maml")
        committed(place, "maml")
        set_champion(place, "protonet")
        again(place, options.seed)
        committed(place, "another-seed")
        print(machine(), flush=True)
        for one, other in (("protonet", "another-seed"), ("protonet", "maml"), ("maml", "another-seed")):
            for guard in (WITH, WITHOUT):
                timed(place, one, other, guard)


def copied(root: Path, place: Path) -> None:
    """Code and settings as committed, data and outputs as they are, and a cache of its own."""
    subprocess.run(["git", "clone", "--quiet", root, place], check=True)
    for name in ("data", "artifacts", "report", "metrics", "dvc.lock", "data.dvc", "splits.yaml", "params.yaml"):
        if (root / name).is_dir():
            shutil.copytree(root / name, place / name, dirs_exist_ok=True)
        elif (root / name).is_file():
            shutil.copy(root / name, place / name)


def committed(place: Path, name: str) -> None:
    """The outputs as they are now, as a tag of this name."""
    with open_project(place) as repo:
        repo.commit(force=True)
    for command in (["add", "-A"], ["commit", "-qm", name, "--allow-empty"], ["tag", name]):
        subprocess.run(["git", "-c", "user.name=judging", "-c", "user.email=a@example.org", *command], check=True)


def set_champion(place: Path, method: str) -> None:
    """As if this method had validated best."""
    found = json.loads((place / CHAMPION).read_text())
    (place / CHAMPION).write_text(json.dumps(found | {"method": method}))


def again(place: Path, seed: int) -> None:
    """ProtoNet trained with another seed."""
    choose_engine("auto")
    os.environ[OVERRIDES] = json.dumps({"seed": seed})
    train.main("protonet", "artifacts/embedded", "artifacts/splits", "artifacts/plan.json", "again", "again.json")
    os.environ.pop(OVERRIDES)
    (place / "again.json").unlink()
    shutil.rmtree(place / "artifacts/models/protonet")
    (place / "again").rename(place / "artifacts/models/protonet")


def timed(place: Path, champion: str, challenger: str, guard: str) -> None:
    params = place / "params.yaml"
    text = params.read_text()
    params.write_text(text.replace(WITH, guard))
    environment = os.environ | {"PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(SOURCE)}
    command = ["metaloom", "judge", champion, challenger, "--no-note", "--json"]
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - began
    params.write_text(text)
    if done.returncode > LARGEST or not done.stdout:
        sys.exit(f"{' '.join(command)} exited with {done.returncode}")
    found = json.loads(done.stdout)
    print(
        f"{challenger} against {champion}, {guard}: {seconds:.0f} s, of which {found['seconds']:.0f} s asking "
        f"{found['episodes']:,} episodes; {found['outcome']}",
        flush=True,
    )


if __name__ == "__main__":
    main()
