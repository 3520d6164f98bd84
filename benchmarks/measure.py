"""Time and memory of whole commands, with everything they start."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

SCRIPTS = Path(sys.executable).parent
SAMPLE_SECONDS = 0.2


@dataclass(frozen=True)
class Memory:
    """Of a process and everything that it started, at one moment or at its worst; MiB."""

    total: float  # a page that several processes share counts once (proportional set sizes)
    largest: float  # resident, of the largest single process

    def __or__(self, other: Memory) -> Memory:
        """The worse of two moments, in both respects."""
        return Memory(max(self.total, other.total), max(self.largest, other.largest))

    def __str__(self) -> str:
        return f"peak {self.total:.0f} MiB (largest process {self.largest:.0f} MiB)"


@dataclass(frozen=True)
class Measured:
    seconds: float
    peak: Memory
    output: str


def measure(root: Path, *command: str) -> Measured:
    """Run a command in `root`, with its code and this interpreter's scripts first; raises if it fails."""
    path = f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(root / "src")}
    started, peak, ended = time.perf_counter(), Memory(0, 0), threading.Event()
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as output,
        subprocess.Popen(command, cwd=root, env=environment, stdout=output) as process,
    ):
        tree = psutil.Process(process.pid)

        def sample() -> None:
            nonlocal peak
            while not ended.wait(SAMPLE_SECONDS):
                peak |= memory_of(tree)

        with ThreadPoolExecutor(1) as beside:  # a wait with a timeout would notice the end up to 50 ms later
            sampling = beside.submit(sample)
            process.wait()
            seconds = time.perf_counter() - started
            ended.set()
            sampling.result()
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} exited with {process.returncode}")
    return Measured(seconds, peak, text)


def memory_of(tree: psutil.Process) -> Memory:
    """What a process and all below it hold now."""
    total = largest = 0
    try:
        processes = [tree, *tree.children(recursive=True)]
    except psutil.NoSuchProcess:
        processes = []
    for process in processes:
        with contextlib.suppress(psutil.Error):  # it has just ended
            found = process.memory_full_info()
            total += getattr(found, "pss", found.rss)  # Linux alone knows shares; elsewhere shared pages count twice
            largest = max(largest, found.rss)
    return Memory(total / 2**20, largest / 2**20)


def fresh_clone(folder: str) -> Path:
    """A clone of this repository's last commit: no data, no cache, no outputs."""
    root = Path(folder) / "metaloom"
    subprocess.run(["git", "clone", "--quiet", Path(__file__).parents[1], root], check=True)
    return root


def add_omniglot(root: Path, archives: Path) -> None:
    """Both archives as the data of a clone: images_background/* and images_evaluation/* are its domains."""
    for name, only in (("background", ["--only"]), ("evaluation", [])):
        archive = str((archives / f"omniglot_images_{name}.zip").resolve())
        measure(root, "metaloom", "data", "add", archive, *only)


def machine() -> str:
    import torch

    return (
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    )
