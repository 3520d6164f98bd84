"""A tiny data set of texts: what someone asks for in a home, a shop, …, a file per domain."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

ACTS = ("open", "close", "repair", "sell", "paint", "clean", "carry", "borrow")
THINGS = {
    "home": ["door", "window", "lamp", "table", "roof", "heater"],
    "shop": ["apple", "bottle", "carpet", "pencil", "basket", "ticket"],
    "yard": ["wheel", "garage", "ladder", "hammer", "bucket", "engine"],
    "school": ["book", "chalk", "poster", "ruler", "lesson", "paper"],
    "port": ["vessel", "anchor", "cargo", "harbour", "sailor", "crane"],
    "farm": ["tractor", "cattle", "harvest", "barn", "orchard", "fence"],
    "clinic": ["bandage", "doctor", "syringe", "patient", "surgery", "bed"],
    "kitchen": ["kettle", "oven", "spoon", "recipe", "pepper", "plate"],
    "station": ["train", "platform", "luggage", "tunnel", "signal", "bench"],
    "studio": ["camera", "guitar", "canvas", "mirror", "speaker", "stage"],
}
FRAMES = ("please {} the {}", "can you {} my {}?", "I want to {} a {}", "how do I {} this {}", "{} every {} now")


def drawn_texts(domain: str, examples: int = 8, seed: int = 0) -> list[tuple[str, str]]:
    """(text, class): a class is of one thing, whatever is done to it; no text twice."""
    rng = np.random.default_rng([seed, sorted(THINGS).index(domain)])
    rows = []
    for thing in THINGS[domain]:
        made = [frame.format(act, thing) for frame in FRAMES for act in ACTS]
        rows += [(text, thing) for text in rng.permutation(made)[:examples]]
    return rows


def draw_texts(folder: Path, domains: int = 10, examples: int = 8) -> None:
    """Files of all forms but Parquet, each a domain."""
    folder.mkdir(parents=True)
    for number, domain in enumerate(sorted(THINGS)[:domains]):
        write_texts(folder / f"{domain}{('.csv', '.tsv', '.jsonl')[number % 3]}", drawn_texts(domain, examples))


def write_texts(path: Path, rows: list[tuple[str, str]]) -> Path:
    """A table in the form that its name ends in."""
    if path.suffix == ".jsonl":
        lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
        path.write_text("\n".join(lines))
        return path
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        table.writerows([("text", "label"), *rows])
    return path
