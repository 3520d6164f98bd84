"""Time and memory of whole commands, with everything they start."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

SCRIPTS = Path(sys.executable).parent


@dataclass(frozen=True)
class Measured:
    seconds: float
    peak_mib: float  # resident, of the largest single process
    output: str


def measure(root: Path, *command: str) -> Measured:
    """Run a command in `root` with this interpreter's scripts first on the path; raises if it fails."""
    environment = os.environ | {"PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"}
    started, peak = time.perf_counter(), 0
    with subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True) as process:
        tree = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, _largest(tree))
            time.sleep(0.05)
        seconds = time.perf_counter() - started
        output = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} exited with {process.returncode}")
    return Measured(seconds, peak / 2**20, output)


def fresh_clone(folder: str) -> Path:
    """A clone of this repository's last commit: no data, no cache, no outputs."""
    root = Path(folder) / "metaloom"
    subprocess.run(["git", "clone", "--quiet", Path(__file__).parents[1], root], check=True)
    return root


def machine() -> str:
    import torch

    return (
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    )


def _largest(tree: psutil.Process) -> int:
    sizes = []
    try:
        for process in [tree, *tree.children(recursive=True)]:
            sizes.append(process.memory_info().rss)
    except psutil.Error:
        pass  # it has just ended
    return max(sizes, default=0)
