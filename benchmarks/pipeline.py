"""How long the pipeline takes: everything, nothing to do, and an empty Prefect flow and a DVC pipeline of one stage
beside it.

python benchmarks/pipeline.py [FOLDER]: the clone that it runs in is kept there
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from measure import fresh_clone, machine, measure

EMPTY_FLOW = """
import os
from metaloom.cli.prefect_server import ENVIRONMENT
os.environ.update(ENVIRONMENT)
from prefect import flow
flow(lambda: None, name="empty")()
"""

ONE_STAGE = "stages: {one: {cmd: echo 1 > out, outs: [out]}}"


def main(kept: str | None = None) -> None:
    print(machine())
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        root, small = fresh_clone(kept or folder), pipeline_of_one_stage(Path(other))
        first = measure(root, "metaloom", "run")
        print(first.output)
        rows = {"first run": first}
        for turn in (1, 2, 3):
            rows[f"run with nothing to do ({turn})"] = measure(root, "metaloom", "run")
            rows[f"empty Prefect flow ({turn})"] = measure(root, sys.executable, "-c", EMPTY_FLOW)
        for turn in range(1, 11):
            rows[f"dvc repro with nothing to do ({turn})"] = measure(root, "dvc", "repro")
            rows[f"dvc repro of one stage, likewise ({turn})"] = measure(small, "dvc", "repro")
        for name, row in rows.items():
            print(f"{name:44} {row.seconds:7.2f} s   {row.peak}")


def pipeline_of_one_stage(root: Path) -> Path:
    """What `dvc repro` takes for itself."""
    for command in (["git", "init", "--quiet"], ["dvc", "init", "--quiet"]):
        measure(root, *command)
    shutil.copy(Path(__file__).parents[1] / ".dvc/config", root / ".dvc/config")
    (root / "dvc.yaml").write_text(ONE_STAGE)
    measure(root, "dvc", "repro")
    return root


if __name__ == "__main__":
    main(*sys.argv[1:])
