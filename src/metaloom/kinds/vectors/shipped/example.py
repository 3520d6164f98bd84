"""Classify rows of numbers with this bundle:  python example.py TABLE.csv…

Or let it learn classes of your own first:  python example.py --learn LABELLED.csv TABLE.csv…
In a bundle of many tasks name the one whose classes are asked for:  python example.py --task NAME TABLE.csv…
Each table has a line of column names; the column `class` of LABELLED.csv names each row's class, and the others are
numbers, named as in training. Needs numpy and onnxruntime.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

USAGE = "usage: python example.py [--learn LABELLED.csv | --task NAME] TABLE.csv…"
HERE = Path(__file__).parent
NAMES = json.loads((HERE / "metadata.json").read_text(encoding="utf-8"))["input"].get("columns")
WORDS = ("class", "domain")  # columns that are no numbers


def rows(path):
    """The numbers of a table, and its classes where it has them."""
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            table = list(csv.DictReader(file))
        names = NAMES or [name for name in (table or [{}])[0] if name not in WORDS]
        numbers = [[float(row[name]) for name in names] for row in table]
    except KeyError as error:
        sys.exit(f"{path} has no column {error}")
    except (OSError, ValueError, TypeError, csv.Error) as error:
        sys.exit(f"{path} cannot be read: {error}")
    if not table:
        sys.exit(f"{path} has no rows")
    return np.array(numbers, np.float32), [row.get("class", "") for row in table]


def shown(name):
    """A name in a line: whoever gave it may have put in what a terminal obeys."""
    return "".join(c if c.isprintable() or c == "\xa0" else c.encode("unicode_escape").decode() for c in name)


def asked(option, value):
    """The graph to ask, its inputs beside the rows, and the classes of its answers."""
    labels, inputs, name = json.loads((HERE / "labels.json").read_text(encoding="utf-8")), {}, "model.onnx"
    if option == "--learn":
        name, (support, names) = "adapt.onnx", rows(value)
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


tables = sys.argv[1:]
option = tables.pop(0) if tables[:1] in (["--learn"], ["--task"]) else None
value = tables.pop(0) if option and tables else None
if not tables or tables[0].startswith("--"):
    sys.exit(USAGE)
session, inputs, labels = asked(option, value)
(examples,) = {each.name for each in session.get_inputs()} - inputs.keys()
for path in tables:
    table = rows(path)[0]
    further = {"task_id": np.repeat(inputs["task_id"], len(table))} if option == "--task" else inputs
    answers = session.run(None, {**further, examples: table})
    for place, (probabilities, novelty) in enumerate(zip(*answers), start=1):  # noqa: B905
        best = probabilities[: len(labels)].argmax()
        print(f"{shown(path)}#{place}\t{shown(labels[best])}\t{probabilities[best]:.3f}\tnovelty {novelty:.1f}")
