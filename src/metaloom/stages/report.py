"""DVC stage `report`: one page to look at, and its verdict as text."""

from __future__ import annotations

from pathlib import Path

from metaloom.config import load_settings
from metaloom.report.inputs import Inputs
from metaloom.report.page import build
from metaloom.report.verdict import verdict
from metaloom.stages import run_stage
from metaloom.system.files import atomic_dir
from metaloom.system.quantities import size
from metaloom.system.terminal import say


def main(dataset: str, splits: str, plan: str, models: str, evaluation: str, bundle: str, report: str) -> None:
    """Write index.html, self-contained, and verdict.txt to the folder `report`."""
    folders = (Path(folder) for folder in (dataset, splits, plan, models, evaluation, bundle))
    inputs = Inputs(*folders, methods=tuple(load_settings(plan=plan).trained))
    page = build(inputs)
    with atomic_dir(report) as folder:
        (folder / "index.html").write_text(page, encoding="utf-8")
        (folder / "verdict.txt").write_text(f"{verdict(inputs)}\n", encoding="utf-8")
    say(f"report: {Path(report) / 'index.html'}, {size(len(page.encode()))}")


if __name__ == "__main__":
    run_stage(main)
