"""How long the evaluation takes: seven meta-learners on 600 episodes of each of four settings, and the baselines.

python benchmarks/evaluation.py [--networks EPISODES]: of each setting, for the two learners that train a network; the
others answer 300. The models are trained for a few steps only: that changes no time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from measure import fresh_clone, machine, measure

METHODS = ("protonet", "ridge", "maml", "anil", "reptile", "shared", "bank")
FAST = ("finetune_head", "logistic", "neighbour", "svm", "forest")
SMALL = {"episodes.within_domain": "false", "studies.kinds": "[any]", "studies.labels": "[1, 5]", "studies.ways": "[]"}
SMALL |= {"studies.uneven": "[]", "studies.episodes": "1", "studies.estimates.tasks": "500", "episodes.test": "600"}


def main(networks: int) -> None:
    print(machine())
    steps = {f"{method}.steps": "20" for method in (*METHODS, "pretrain")}
    numbers = dict.fromkeys(FAST, "300") | dict.fromkeys(("scratch", "finetune_all"), str(networks))
    answered = {f"baselines.{name}.{where}": n for name, n in numbers.items() for where in ("episodes", "elsewhere")}
    settings = SMALL | steps | answered | {"methods": f"[{', '.join(METHODS)}]", "baselines.episodes": "2"}
    with tempfile.TemporaryDirectory() as folder:
        root = fresh_clone(folder)
        overrides = [word for setting in settings.items() for word in ("--set", "=".join(setting))]
        whole = measure(root, "metaloom", "run", *overrides)
        print(whole.output)
        print(f"the whole run: {whole.seconds:.0f} s, {whole.peak}")


def print_proof(root: Path) -> None:
    """Differences, labels saved, calibration and estimates of a run."""
    folder = root / "artifacts/evaluation"
    champion = json.loads((folder / "champion.json").read_text())["method"]
    rivals = json.loads((folder / "rivals.json").read_text())
    for each in json.loads((folder / "differences.json").read_text()):
        if each["learner"] == champion and each["rival"] in rivals[each["setting"]].values():
            points = [100 * each[name] for name in ("difference", "low95", "high95")]
            told = "{:+.1f} ({:.1f} to {:.1f})".format(*points)
            pair = f"{each['setting']:14} {champion} - {each['rival']:14}"
            print(f"{pair} {told}, p {each['p_holm']:.4f}, {each['episodes']} episodes")
    for each in json.loads((folder / "labels_saved.json").read_text()):
        needed = " ".join(str(each[name] and round(each[name], 1)) for name in ("labels", "low95", "high95"))
        print(
            f"{each['kind']:7} {each['n_shot']} label(s), {100 * each['accuracy']:.1f}%: {each['rival']} needs {needed}"
        )
    figures = json.loads((folder / "figures.json").read_text())
    for setting, each in figures[champion].items():
        print(f"{setting:14} ECE {each['ece']:.4f} ({each['ece_low95']:.4f} to {each['ece_high95']:.4f})")
    print(json.loads((folder / "estimates.json").read_text()))
    for learner, by_setting in figures.items():
        told = (f"{100 * each['accuracy']:.1f} ± {100 * each['ci95']:.1f}" for each in by_setting.values())
        print(f"{learner:20}", *told)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=6)
    main(parser.parse_args().networks)
