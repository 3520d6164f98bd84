"""The artifacts of a small made-up project, in the formats that the stages write."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from PIL import Image, ImageDraw

from metaloom.report.inputs import Inputs

EXAMPLES = 10
SETTINGS = ("5w1s", "5w5s", "20w1s", "20w5s", "5w1s_domain", "5w5s_domain", "20w1s_domain", "20w5s_domain")
NAMES = "Armenian Bengali Cyrillic Devanagari Ethiopic Georgian Greek Hebrew Lao Tamil Thai Tifinagh".split()


def make_project(
    root: Path,
    n_domains: int = 9,
    n_classes: int = 24,
    settings: tuple[str, ...] = SETTINGS,
    methods: tuple[str, ...] = ("protonet", "maml"),
    single_task: tuple[str, ...] = ("scratch", "logistic"),
    size: int = 28,
    channels: int = 1,
    class_name: str = "",
    prefix: str = "",
) -> Inputs:
    """Write everything that the report reads, below `root`."""
    folders = {name: root / "artifacts" / name for name in ("dataset", "splits", "models", "evaluation", "bundle")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    inputs = Inputs(**folders, metrics=root / "metrics", methods=methods, root=root)
    rng = np.random.default_rng(7)
    names = [prefix + (NAMES[i] if i < len(NAMES) else f"Script {i:03d}") for i in range(n_domains)]
    classes = _dataset(inputs, rng, sorted(names), n_classes, size, channels, class_name)
    _models(inputs)
    _evaluation(inputs, rng, classes, settings, single_task)
    _bundle(inputs, classes)
    write_lock(inputs)
    return inputs


def put(path: Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


DATA_HASH = "0123456789abcdef0123456789abcdef.dir"


def write_lock(inputs: Inputs) -> None:
    """A dvc.lock as `dvc repro` leaves it, with the entry of an older report."""
    names = [
        "prepare",
        "split",
        *(f"train@{method}" for method in inputs.methods),
        "evaluate",
        "export",
        "report",
    ]
    stages: dict = {name: {"cmd": f"python -m metaloom.stages.{name}"} for name in names}
    for name, stage in stages.items():
        hashed = hashlib.md5(name.encode()).hexdigest()
        stage["outs"] = [{"path": f"artifacts/{name}", "hash": "md5", "md5": f"{hashed}.dir", "size": 1}]
    stages["prepare"]["deps"] = [{"path": "data", "hash": "md5", "md5": DATA_HASH}]
    stages["prepare"]["params"] = {"params.yaml": {"prepare": {"image_size": 28, "channels": 1}}}
    stages["split"]["params"] = {"params.yaml": {"seed": 0, "split": {"train": "rest"}}}
    (inputs.root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}, sort_keys=False))


def _dataset(inputs, rng, domains, n_classes, size, channels, class_name) -> pd.DataFrame:
    rows, pictures = [], []
    for place, domain in enumerate(domains):
        split = "test" if place % 4 == 1 else "validation" if place % 4 == 3 else "train"
        for number in range(n_classes):
            name = f"{domain}/{class_name or 'letter'}{number:02d}"
            rows.append((name, domain, split, len(pictures), EXAMPLES))
            pictures += _letter(rng, size, channels)
    classes = pd.DataFrame(rows, columns=["class", "domain", "split", "first", "count"])
    classes.to_parquet(inputs.splits / "classes.parquet", index=False)
    items = classes.loc[classes.index.repeat(EXAMPLES), ["class", "domain"]].reset_index(drop=True)
    items.insert(0, "row", np.arange(len(items), dtype=np.int32))
    items["source"] = [f"{name}/{row:05d}.png" for row, name in zip(items["row"], items["class"], strict=True)]
    items["sha256"] = [hashlib.sha256(source.encode()).hexdigest() for source in items["source"]]
    items.to_parquet(inputs.dataset / "items.parquet", index=False)
    np.save(inputs.dataset / "images.npy", np.stack(pictures))
    write_quality(inputs, len(items), {})
    return classes


def write_quality(inputs: Inputs, used: int, problems: dict) -> None:
    kinds = ("unreadable", "duplicate", "conflict", "small_class", "empty_class", "ignored")
    found = {kind: problems.get(kind, []) for kind in kinds}
    dropped = sum(map(len, found.values()))
    quality = {"images": used + dropped, "used": used, "classes": 0, "domains": 0, "bad_share": 0.0}
    put(inputs.dataset / "quality.json", quality | {"problems": found})


def _letter(rng, size: int, channels: int) -> list[np.ndarray]:
    """Examples of one class: the same few strokes, each drawn with a shaking hand."""
    strokes = [rng.uniform(0.15, 0.85, (rng.integers(2, 5), 2)) for _ in range(rng.integers(1, 4))]
    drawn = []
    for _ in range(EXAMPLES):
        sheet = Image.new("L", (4 * size, 4 * size), 255)
        for stroke in strokes:
            points = (stroke + rng.normal(0, 0.025, stroke.shape)) * 4 * size
            ImageDraw.Draw(sheet).line([tuple(p) for p in points], fill=0, width=round(0.3 * size), joint="curve")
        grey = np.asarray(sheet.resize((size, size), Image.Resampling.BOX))
        drawn.append(np.repeat(grey[..., None], channels, axis=2))
    return drawn


def _models(inputs: Inputs) -> None:
    for place, method in enumerate(inputs.methods):
        folder = inputs.models / method
        steps = np.arange(100, 900, 100)
        accuracy = 0.9 - 0.05 * place - 0.5 * np.exp(-steps / 200)
        write_curve(folder, "train", "loss", steps, 4 * np.exp(-steps / 300) + 0.2)
        write_curve(folder, "validation", "accuracy", steps, accuracy)
        validation = {"setting": "5w1s", "accuracy": accuracy[-2], "ci95": 0.011, "nll": 0.3, "episodes": 200}
        metrics = {"validation": validation, "best_step": 700, "steps": 800}
        put(folder / "metrics.json", metrics)
        speed = {"seconds": 71.25, "images_per_second": 4100, "threads": 2}
        put(inputs.metrics / "training" / f"{method}.json", metrics | speed)


def write_curve(folder: Path, group: str, name: str, steps, values) -> None:
    path = folder / "curves" / "plots" / "metrics" / group / f"{name}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"step\t{name}", *(f"{step}\t{value}" for step, value in zip(steps, values, strict=True))]
    path.write_text("\n".join(lines) + "\n")


def _evaluation(inputs, rng, classes, settings, single_task) -> None:
    levels = dict(zip([*inputs.methods, *single_task], (0.935, 0.902, 0.43, 0.402, 0.38), strict=False))
    champion = inputs.methods[0]
    scores: dict = {name: {} for name in levels}
    differences: dict = {}
    for setting in settings:
        n_way, n_shot = (int(part) for part in setting.removesuffix("_domain").removesuffix("s").split("w"))
        harder = 1.3 * ("domain" in setting) + 1.2 * (n_way > 5) - 1.0 * (n_shot > 1)
        differences[setting] = {}
        for name, level in levels.items():
            accuracy = max(1 / n_way, 1 - (1 - level) * 1.35**harder)
            episodes = 30 if name == "scratch" else 200
            ci95 = 1.96 * 0.09 / episodes**0.5
            scores[name][setting] = {
                "accuracy": accuracy,
                "ci95": ci95,
                "nll": 1 - accuracy,
                "episodes": episodes,
            }
            if name != champion:
                gap = scores[champion][setting]["accuracy"] - accuracy
                differences[setting][name] = {"difference": gap, "ci95": 0.8 * ci95, "episodes": episodes}
    put(inputs.metrics / "evaluation.json", scores)
    put(inputs.evaluation / "differences.json", differences)
    put(inputs.evaluation / "champion.json", {"method": champion})
    _gallery(inputs, rng, classes, settings)


def _gallery(inputs, rng, classes, settings) -> None:
    test, rows = classes[classes["split"] == "test"], []
    for setting in settings:
        n_way, n_shot = (int(part) for part in setting.removesuffix("_domain").removesuffix("s").split("w"))
        for episode in range(4):
            chosen = test.sample(n_way, random_state=int(rng.integers(1 << 30)))["first"].to_numpy()
            order = np.stack([first + rng.permutation(EXAMPLES) for first in chosen])
            for way, members in enumerate(order):
                rows += [(setting, episode, "support", way, int(row), -1, None) for row in members[:n_shot]]
            for way, members in enumerate(order):
                for row in members[n_shot : n_shot + 5]:
                    logits = rng.normal(0, 1, n_way) + 4.0 * (np.arange(n_way) == way)
                    p = np.exp(logits) / np.exp(logits).sum()
                    rows.append((setting, episode, "query", way, int(row), int(p.argmax()), p.tolist()))
    columns = ["setting", "episode", "role", "way", "row", "predicted", "probabilities"]
    pd.DataFrame(rows, columns=columns).to_parquet(inputs.evaluation / "gallery.parquet", index=False)


def _bundle(inputs: Inputs, classes: pd.DataFrame) -> None:
    domain = classes.loc[classes["split"] == "test", "domain"].iloc[0]
    labels = list(classes.loc[classes["domain"] == domain, "class"].str.split("/").str[-1])
    metadata = {
        "format": "1",
        "method": inputs.methods[0],
        "task": {
            "name": domain,
            "n_way": len(labels),
            "support_examples": 5 * len(labels),
            "meta_trained_on_it": False,
        },
        "input": {"name": "images", "shape": ["batch", "height", "width", 1]},
        "tolerance": 1e-4,
        "metrics": {"task": {"kind": "held_out", "accuracy": 0.884, "low95": 0.855, "high95": 0.909, "examples": 120}},
    }
    files = {
        "model.onnx": b"\x08\x09" * 230_000,
        "labels.json": json.dumps(labels).encode(),
        "metadata.json": json.dumps(metadata).encode(),
        "MODEL_CARD.md": b"# The model\n",
        "verify.py": b"print('verified')\n",
        "samples/examples.images.npy": b"\0" * 900,
    }
    for name, content in files.items():
        (inputs.bundle / name).parent.mkdir(exist_ok=True)
        (inputs.bundle / name).write_bytes(content)
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items()]
    (inputs.bundle / "SHA256SUMS").write_text("".join(lines))
