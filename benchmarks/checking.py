"""What it costs to look whether anything is due: a second `metaloom run` of older code and of this, in turns, with
25,000 loose files and with the embedded data set.

python benchmarks/checking.py OLD [--turns 5] [--folder FOLDER]: OLD is a checkout with an environment in OLD/.venv

A whole run is mostly Prefect's start, whose seconds differ by more than what is asked for. So the looks alone are timed
too, in a process that has imported all; `--turns 0` times nothing else.

No stage is run: what looks does not look into outputs, so each is random text, in as many files and of the size that
dvc.lock says. The first run of each, which hashes all of them, does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import numpy as np
import yaml
from measure import machine
from PIL import Image

from metaloom.system.unchanged import NOTE

LOOKS = """
import time
try:
    from metaloom.pipeline.stages import which_are_due
except ImportError:  # before it was there
    from metaloom.versioning import is_current, stage_names, version_dataset
    which_are_due = lambda root: {name: not is_current(root, name) for name in stage_names(root)}
else:
    from metaloom.versioning.data import version_dataset

def look():
    assert not version_dataset(".").changed and not any(which_are_due(".").values())

look()
before = time.perf_counter(), time.process_time()
look()
print(time.perf_counter() - before[0], time.process_time() - before[1])
"""
DOMAINS, CLASSES, EXAMPLES = 10, 50, 50


class Taken(NamedTuple):
    """Seconds of a command with all that it started."""

    wall: float
    cpu: float


def main(old: Path, turns: int, folder: Path) -> None:
    print(machine())
    for name, fill in (("embedded", embedded), ("25,000 loose files", loose)):
        data = folder / "data"
        fill(data)
        roots = {"old": clone(old, folder / "old", data), "new": clone(Path(__file__).parents[1], folder / "new", data)}
        for root in roots.values():
            looked(root)
        print(name)
        in_turns("look", roots, looked, turns or 5)
        if turns:
            for root in roots.values():
                taken(root, "metaloom", "run")
            in_turns("run", roots, lambda root: taken(root, "metaloom", "run"), turns)
        for place in (data, folder / "old", folder / "new"):
            shutil.rmtree(place)


def in_turns(what: str, roots: dict[str, Path], measure: Callable[[Path], Taken], turns: int) -> None:
    rows: dict[str, list[Taken]] = {code: [] for code in roots}
    for _ in range(turns):
        for code, root in roots.items():
            rows[code].append(measure(root))
    rows["more"] = [Taken(*np.subtract(b, a)) for a, b in zip(rows["old"], rows["new"], strict=True)]
    for code, each in rows.items():
        wall, cpu = spread([one.wall for one in each]), spread([one.cpu for one in each])
        print(f"  {what}, {code}: {wall} s, {cpu} s of CPU", flush=True)


def looked(root: Path) -> Taken:
    """Seconds that the looks take in a process in which everything is imported and hashed."""
    return Taken(*map(float, started(root, "python", "-c", LOOKS).split()))


def spread(values: list[float]) -> str:
    return f"{mean(values):.2f} ± {stdev(values):.2f}"


def embedded(data: Path) -> None:
    from metaloom.config import load_settings
    from metaloom.kinds import kind_of

    data.mkdir()
    kind_of(load_settings(Path(__file__).parents[1] / "params.yaml")).embedded(data)


def loose(data: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(DOMAINS * CLASSES):
        place = data / f"domain{number % DOMAINS}" / f"class{number}"
        place.mkdir(parents=True)
        for example in range(EXAMPLES):
            Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(place / f"{example}.png")


def clone(source: Path, kept: Path, data: Path) -> Path:
    """A clone in which all is up to date."""
    root = kept / "metaloom"
    kept.mkdir()
    subprocess.run(["git", "-c", "advice.detachedHead=false", "clone", "--quiet", source, root], check=True)
    (root / ".venv").symlink_to(source.resolve() / ".venv")
    shutil.copytree(data, root / "data")
    stages = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))["stages"].values()
    read = {dep["path"] for stage in stages for dep in stage["deps"]}
    for out in (out for stage in stages for out in stage["outs"]):
        inside = [each for each in read if each.startswith(out["path"] + "/")]
        write_random(root, out["path"], inside, out.get("nfiles", 0), out["size"])
    write_settings(root, [stage.get("params", {}) for stage in stages])
    taken(root, "dvc", "add", "data")
    if NOTE in (root / "dvc.yaml").read_text(encoding="utf-8"):
        version = yaml.safe_load((root / "data.dvc").read_text(encoding="utf-8"))["outs"][0]["md5"]
        (root / "artifacts" / NOTE).write_text(version + "\n", encoding="utf-8")
    taken(root, "dvc", "commit", "--force")
    write_pages(root)
    return root


def write_pages(root: Path) -> None:
    """What stages write beside their outputs names the hashes of what it shows; older code has no such pages."""
    dag, lock = (yaml.safe_load((root / name).read_text(encoding="utf-8")) for name in ("dvc.yaml", "dvc.lock"))
    hashes = [str(out.get("md5")) for stage in lock["stages"].values() for out in stage["outs"]]
    for stage in dag["stages"].values():
        if beside := (stage.get("meta") or {}).get("beside"):
            (root / beside).parent.mkdir(exist_ok=True)
            (root / beside).write_text("\n".join(hashes), encoding="utf-8")


def write_random(root: Path, out: str, inside: list[str], files: int, size: int) -> None:
    """One file, or a folder of so many, of which some are read `inside`; what git has stays."""
    if (root / out).is_file():
        return
    names = [*inside, *(f"{out}/{number}" for number in range(files - len(inside)))] if files else [out]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        each = size // len(names)
        text = "{}".ljust(each) if name.endswith(".json") else os.urandom(each // 2).hex()  # the summary reads figures
        (root / name).write_text(text, encoding="ascii")


def write_settings(root: Path, params: list[dict[str, Any]]) -> None:
    """The outputs that other stages read settings from have those of dvc.lock, of which none was fitted to the data."""
    for file in {name for each in params for name in each if name.endswith(".json")}:
        values = [each[file] for each in params if file in each]
        settings = {"fitted": []} | {name: value for each in values for name, value in each.items()}
        (root / file).write_text(json.dumps(settings), encoding="utf-8")


def taken(root: Path, program: str, *arguments: str) -> Taken:
    """Seconds of a program of the clone's environment on the clone's code."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    out = started(root, program, *arguments)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if program == "metaloom" and "everything was cached" not in out:
        raise SystemExit(f"{program} {' '.join(arguments)} in {root}:\n{out}")
    return Taken(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def started(root: Path, program: str, *arguments: str) -> str:
    """What it prints."""
    scripts = root / ".venv/bin"
    env = os.environ | {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(root / "src")}
    env["PREFECT_HOME"] = str(root.parent / "prefect")  # versions of Prefect do not share a database
    done = subprocess.run([scripts / program, *arguments], cwd=root, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{program} {' '.join(arguments)} in {root}:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        sys.exit(main(asked.old, asked.turns, asked.folder or Path(scratch)))
