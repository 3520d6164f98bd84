"""Classify texts with this bundle:  python example.py "A TEXT" FILE.txt…

Or let it learn classes of your own first:  python example.py --learn LABELLED.csv "A TEXT" FILE.txt…
In a bundle of many tasks name the one whose classes are asked for:  python example.py --task NAME "A TEXT"
A FILE.txt has a text in each line. LABELLED.csv has a line of column names and the columns `text` and `label`. Needs
numpy and onnxruntime.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

USAGE = 'usage: python example.py [--learn LABELLED.csv | --task NAME] "A TEXT" FILE.txt…'
HERE = Path(__file__).parent
csv.field_size_limit(2**31 - 1)  # a text may be longer than the 128 KiB that Python takes otherwise


def texts(argument):
    """A text, or the lines of a file, with a name for each."""
    if not argument.endswith(".txt"):
        return [(argument, " ".join(argument.split()))]
    try:
        lines = enumerate(Path(argument).read_text(encoding="utf-8-sig").splitlines(), start=1)
    except (OSError, ValueError) as error:
        sys.exit(f"{argument} cannot be read: {error}")
    return [(f"{argument}#{number}", " ".join(line.split())) for number, line in lines if line.strip()]


def labelled(path):
    """The texts of a table, and their classes."""
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            table = list(csv.DictReader(file))
        return np.array([" ".join((row["text"] or "").split()) for row in table]), [row["label"] for row in table]
    except KeyError as error:
        sys.exit(f"{path} has no column {error}")
    except (OSError, ValueError, csv.Error) as error:
        sys.exit(f"{path} cannot be read: {error}")


def shown(name):
    """A name in a line: whoever gave it may have put in what a terminal obeys."""
    return "".join(c if c.isprintable() or c == "\xa0" else c.encode("unicode_escape").decode() for c in name)


def asked(option, value):
    """The graph to ask, its inputs beside the texts, and the classes of its answers."""
    labels, inputs, name = json.loads((HERE / "labels.json").read_text(encoding="utf-8")), {}, "model.onnx"
    if option == "--learn":
        name, (support, names) = "adapt.onnx", labelled(value)
        labels = sorted(set(names))
        if len(labels) < 2:
            sys.exit(f"{value} has fewer than two classes")
        inputs = {"support_x": support, "support_y": np.array([labels.index(each) for each in names])}
    elif isinstance(labels, dict):  # of a bundle of many tasks
        if value not in labels:
            sys.exit(f"{USAGE}\nlabels.json names the tasks, such as {shown(', '.join(list(labels)[:3]))}")
        name, inputs, labels = "fleet.onnx", {"task_id": np.array([list(labels).index(value)])}, labels[value]
    elif option:
        sys.exit("this bundle is of one task: leave out --task")
    if not (HERE / name).is_file():
        sys.exit(f"this bundle has no {name}: it cannot learn other classes")
    return onnxruntime.InferenceSession(HERE / name), inputs, labels


given = sys.argv[1:]
option = given.pop(0) if given[:1] in (["--learn"], ["--task"]) else None
value = given.pop(0) if option and given else None
if not given or given[0].startswith("--"):
    sys.exit(USAGE)
session, inputs, labels = asked(option, value)
(examples,) = {each.name for each in session.get_inputs()} - inputs.keys()
for argument in given:
    for name, text in texts(argument):
        ((probabilities,), (novelty,)) = session.run(None, {**inputs, examples: np.array([text])})
        best = probabilities[: len(labels)].argmax()
        print(f"{shown(name)}\t{shown(labels[best])}\t{probabilities[best]:.3f}\tnovelty {novelty:.1f}")
