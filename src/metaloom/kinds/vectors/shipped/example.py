"""Classify rows of numbers with this bundle:  python example.py TABLE.csv…

Or let it learn classes of your own first:  python example.py --learn LABELLED.csv TABLE.csv…
Each table has a line of column names; the column `class` of LABELLED.csv names each row's class, and the others are
numbers, named as in training. Needs numpy and onnxruntime.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

HERE = Path(__file__).parent
NAMES = json.loads((HERE / "metadata.json").read_text(encoding="utf-8"))["input"].get("columns")
WORDS = ("class", "domain")  # columns that are no numbers


def rows(path):
    """The numbers of a table, and its classes where it has them."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    names = NAMES or [name for name in table[0] if name not in WORDS]
    numbers = [[float(row[name]) for name in names] for row in table]
    return np.array(numbers, np.float32), [row.get("class", "") for row in table]


tables, inputs, labels = sys.argv[1:], {}, json.loads((HERE / "labels.json").read_text(encoding="utf-8"))
session = onnxruntime.InferenceSession(HERE / ("adapt.onnx" if tables[:1] == ["--learn"] else "model.onnx"))
if tables[:1] == ["--learn"]:
    support, names = rows(tables[1])
    labels = sorted(set(names))
    ways = np.array([labels.index(name) for name in names])
    inputs, tables = {"support_x": support, "support_y": ways}, tables[2:]
for path in tables:
    answers = session.run(None, {**inputs, session.get_inputs()[-1].name: rows(path)[0]})
    for place, (probabilities, novelty) in enumerate(zip(*answers), start=1):  # noqa: B905
        best = probabilities.argmax()
        print(f"{path}#{place}\t{labels[best]}\t{probabilities[best]:.3f}\tnovelty {novelty:.1f}")
