"""How long the pipeline takes: everything, nothing to do, and an empty Prefect flow beside it.

python benchmarks/pipeline.py
"""

from __future__ import annotations

import sys
import tempfile

from measure import fresh_clone, machine, measure

EMPTY_FLOW = """
import os
from metaloom.prefect_server import ENVIRONMENT
os.environ.update(ENVIRONMENT)
from prefect import flow
flow(lambda: None, name="empty")()
"""


def main() -> None:
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        root = fresh_clone(folder)
        first = measure(root, "metaloom", "run")
        print(first.output)
        rows = {"first run": first}
        for turn in (1, 2, 3):
            rows[f"run with nothing to do ({turn})"] = measure(root, "metaloom", "run")
            rows[f"empty Prefect flow ({turn})"] = measure(root, sys.executable, "-c", EMPTY_FLOW)
            rows[f"dvc repro with nothing to do ({turn})"] = measure(root, "dvc", "repro")
        for name, row in rows.items():
            print(f"{name:34} {row.seconds:7.2f} s   {row.peak}")


if __name__ == "__main__":
    main()
