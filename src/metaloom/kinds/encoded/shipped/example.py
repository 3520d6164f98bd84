"""Classify texts with this bundle:  python example.py "A TEXT" FILE.txt…

Or let it learn classes of your own first:  python example.py --learn LABELLED.csv "A TEXT" FILE.txt…
A FILE.txt has a text in each line. LABELLED.csv has a line of column names and the columns `text` and `label`. Needs
numpy, onnxruntime and tokenizers.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

HERE = Path(__file__).parent
SPEC = json.loads((HERE / "metadata.json").read_text(encoding="utf-8"))["input"]
csv.field_size_limit(2**31 - 1)  # a text may be longer than the 128 KiB that Python takes otherwise


def texts(argument):
    """A text, or the lines of a file, with a name for each."""
    if not argument.endswith(".txt"):
        return [(argument, " ".join(argument.split()))]
    lines = enumerate(Path(argument).read_text(encoding="utf-8-sig").splitlines(), start=1)
    return [(f"{argument}#{number}", " ".join(line.split())) for number, line in lines if line.strip()]


def labelled(path):
    """The texts of a table, and their classes."""
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        table = list(csv.DictReader(file))
    return [" ".join(row["text"].split()) for row in table], [row["label"] for row in table]


def tokens(texts):
    """Ids, with -1 behind the last of each text."""
    found = [each.ids or [0] for each in tokenizer.encode_batch([text[: SPEC["characters"]] for text in texts])]
    ids = np.full((len(found), max(map(len, found))), -1)
    for row, each in zip(ids, found, strict=True):
        row[: len(each)] = each
    return ids


tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
tokenizer.no_padding()
tokenizer.enable_truncation(SPEC["encoder"]["tokens"])
arguments, inputs, labels = sys.argv[1:], {}, json.loads((HERE / "labels.json").read_text(encoding="utf-8"))
learn = arguments[:1] == ["--learn"]
session = onnxruntime.InferenceSession(HERE / ("adapt.onnx" if learn else "model.onnx"))
if learn:
    support, names = labelled(arguments[1])
    labels = sorted(set(names))
    ways = np.array([labels.index(name) for name in names])
    inputs, arguments = {"support_x": tokens(support), "support_y": ways}, arguments[2:]
for argument in arguments:
    for name, text in texts(argument):
        asked = {**inputs, session.get_inputs()[-1].name: tokens([text])}
        ((probabilities,), (novelty,)) = session.run(None, asked)
        best = probabilities.argmax()
        print(f"{name}\t{labels[best]}\t{probabilities[best]:.3f}\tnovelty {novelty:.1f}")
