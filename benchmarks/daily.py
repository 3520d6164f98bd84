"""The commands of every day: `adapt` in a new process; `predict` of many files with decoding, killed and gone on with.

python benchmarks/daily.py [ROOT] [--files 20000]: ROOT is a clone where `metaloom run` has been; without it a fresh
clone is made and run first. Each figure is of whole commands; a rate is also given without the start, which two sizes
tell.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
from measure import SCRIPTS, fresh_clone, machine, measure
from PIL import Image

WAYS, SHOTS, STARTS = 10, 5, 3
SMALL = 256  # files of the smaller call
PHOTO = 256, 200  # pixels of a JPEG in colour, as shops have them


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("root", nargs="?", type=Path)
    parser.add_argument("--files", type=int, default=20_000)
    options = parser.parse_args()
    print(machine(), f"onnxruntime {onnxruntime.__version__}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        root = options.root.resolve() if options.root else fresh_clone(scratch)
        if not options.root:
            measure(root, "metaloom", "run")
        images = np.load(root / "artifacts/dataset/examples.npy", mmap_mode="r")
        adapted(root, folder, images)
        for name, make in (("drawings, PNG", drawing), ("photos, JPEG", photo)):
            predicted(root, folder / name.partition(",")[0], name, make, images, options.files)


def adapted(root: Path, folder: Path, images: np.ndarray) -> None:
    """Ten classes of five: the first time, and when the graphs are kept."""
    classes = pd.read_parquet(root / "artifacts/splits/classes.parquet")
    first = classes.loc[classes["split"] == "test", ["first", "count"]].to_numpy()[:WAYS]
    for way, (row, _) in enumerate(first):
        (folder / f"task/{way}").mkdir(parents=True)
        for shot in range(SHOTS):
            Image.fromarray(images[row + shot, :, :, 0]).save(folder / f"task/{way}/{shot}.png")
    command = ["metaloom", "--quiet", "adapt", "--support", str(folder / "task"), "--out"]
    taken = [measure(root, *command, str(folder / f"bundle{number}")) for number in range(STARTS + 1)]
    kept = [each.seconds for each in taken[1:]]
    spread = f"{statistics.median(kept):.2f} s ({min(kept):.2f} to {max(kept):.2f})"
    print(f"adapt, {WAYS} classes of {SHOTS}: first call {taken[0].seconds:.1f} s; then {spread}, {taken[-1].peak}")


def drawing(path: Path, number: int, images: np.ndarray) -> None:
    Image.fromarray(images[number % len(images), :, :, 0]).save(path.with_suffix(".png"))


def photo(path: Path, number: int, images: np.ndarray) -> None:
    picture = Image.fromarray(images[number % len(images), :, :, 0])
    picture.convert("RGB").resize(PHOTO).save(path.with_suffix(".jpg"), quality=90)


def predicted(root: Path, folder: Path, name: str, make: object, images: np.ndarray, files: int) -> None:
    """So many files into a table, at once, and killed in the middle and given again."""
    few, many = folder / "few", folder / "many"
    for place, count in ((few, SMALL), (many, files)):
        place.mkdir(parents=True)
        for number in range(count):
            make(place / f"{number:06}", number, images)  # pyright: ignore[reportCallIssue]
    bundle = str(root / "artifacts/bundle")
    start = measure(root, "metaloom", "predict", bundle, str(few), "--out", str(folder / "few.parquet"))
    whole = measure(root, "metaloom", "predict", bundle, str(many), "--out", str(folder / "many.parquet"))
    rate = (files - SMALL) / (whole.seconds - start.seconds)
    rates = f"{files / whole.seconds:,.0f} a second, {rate:,.0f} without the start"
    print(
        f"predict, {files:,} {name}: {whole.seconds:.1f} s, {rates}; {SMALL} take {start.seconds:.1f} s; {whole.peak}"
    )
    command = ["metaloom", "predict", bundle, str(many), "--out", str(folder / "killed.parquet")]
    kill_after(root, command, whole.seconds / 2)
    again = measure(root, *command)
    same = pd.read_parquet(folder / "killed.parquet").equals(pd.read_parquet(folder / "many.parquet"))
    (told,) = [line for line in again.output.splitlines() if line.startswith("goes on")] or ["began anew"]
    print(f"  killed in the middle and given again: {again.seconds:.1f} s, {told}; the same table: {same}")


def kill_after(root: Path, command: list[str], seconds: float) -> None:
    environment = os.environ | {"PYTHONPATH": str(root / "src"), "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"}
    with subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.DEVNULL) as process:
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)


if __name__ == "__main__":
    main()
