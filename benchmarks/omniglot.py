"""ProtoNet on Omniglot, background alphabets → evaluation alphabets, 28×28, not transductive.

python benchmarks/omniglot.py FOLDER_WITH_THE_TWO_ARCHIVES
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from measure import fresh_clone, machine, measure

SETTINGS = {
    "methods": "[protonet]",
    "split.test": "[images_evaluation/*]",
    "train.rotations": "true",
    "train.max_seconds": "330",
    "protonet.steps": "100000",
    "train.validate_every": "200",
    "episodes.test": "1000",
    "evaluate.scratch.episodes": "2",
    "evaluate.logistic.episodes": "100",
}


def main(archives: str) -> None:
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        root = fresh_clone(folder)
        for number, name in enumerate(("background", "evaluation")):
            archive = str(Path(archives).resolve() / f"omniglot_images_{name}.zip")
            measure(root, "metaloom", "data", "add", archive, *(["--only"] if number == 0 else []))
        prepare = measure(root, "dvc", "repro", "prepare")
        print(f"prepare: {prepare.seconds:.1f} s, {prepare.peak}")
        overrides = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
        whole = measure(root, "metaloom", "run", *overrides)
        print(whole.output)
        training = json.loads((root / "metrics/training/protonet.json").read_text())
        print(f"training: {training['seconds']:.0f} s, {training['images_per_second']} images/s")
        print(f"the whole run: {whole.seconds:.0f} s, {whole.peak}")


if __name__ == "__main__":
    main(*sys.argv[1:])
