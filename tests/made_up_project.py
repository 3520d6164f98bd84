"""The artifacts of a small made-up project, in the formats that the stages write."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from PIL import Image, ImageDraw

from metaloom.kinds.pictures.show import encode
from metaloom.report.inputs import Inputs
from metaloom.system.files import sha256, write_json
from metaloom.system.times import FOLDER

EXAMPLES = 10
GROUP_OF = {"scratch": "task", "logistic": "task", "finetune_head": "transfer", "svm_embedded": "embedding"}
SETTINGS = ("5w1s", "5w5s", "20w1s", "20w5s", "5w1s_domain", "5w5s_domain", "20w1s_domain", "20w5s_domain")
NAMES = [
    "Armenian",
    "Bengali",
    "Cyrillic",
    "Devanagari",
    "Ethiopic",
    "Georgian",
    "Greek",
    "Hebrew",
    "Lao",
    "Tamil",
    "Thai",
    "Tifinagh",
]


def make_project(
    root: Path,
    n_domains: int = 9,
    n_classes: int = 24,
    settings: tuple[str, ...] = SETTINGS,
    methods: tuple[str, ...] = ("protonet", "maml"),
    single_task: tuple[str, ...] = ("scratch", "logistic", "finetune_head", "svm_embedded"),
    size: int = 28,
    channels: int = 1,
    class_name: str = "",
    prefix: str = "",
) -> Inputs:
    """Write everything that the report reads, below `root`."""
    folders = {name: root / "artifacts" / name for name in ("dataset", "splits", "models", "evaluation", "bundle")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    inputs = Inputs(**folders, plan=root / "artifacts/plan.json", methods=methods, root=root)
    rng = np.random.default_rng(7)
    names = [prefix + (NAMES[i] if i < len(NAMES) else f"Script {i:03d}") for i in range(n_domains)]
    classes = _dataset(inputs, rng, sorted(names), n_classes, size, channels, class_name)
    put(inputs.plan, {"fitted": ["episodes: 3 ways of your 4 classes"]})
    _models(inputs)
    _evaluation(inputs, rng, classes, settings, single_task)
    _bundle(inputs, classes)
    write_lock(inputs)
    return inputs


def copy_project(project: Inputs, root: Path) -> Inputs:
    """The same project below another root, which makes it much faster than drawing it again."""
    shutil.copytree(project.root, root, dirs_exist_ok=True)
    moved = {name: root / path.relative_to(project.root) for name, path in vars(project).items() if name != "methods"}
    return replace(project, **moved)


def put(path: Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def put_times(inputs: Inputs, name: str, of: Path, times: dict) -> None:
    """As `note_times` does, which writes to the working directory."""
    put(inputs.root / FOLDER / f"{name}-{sha256(of)[:16]}.json", times)


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
    np.save(inputs.dataset / "examples.npy", np.stack(pictures))
    before = encode(np.full((40, 90, 3), (200, 60, 40), np.uint8))
    write_json(inputs.dataset / "preview.json", [{"row": 3, "uri": before, "size": "900 × 400 pixels"}])
    write_json(inputs.dataset / "kind.json", {"kind": "pictures", "image_size": size, "channels": channels})
    write_quality(inputs, len(items), {})
    return classes


def write_quality(inputs: Inputs, used: int, problems: dict) -> None:
    kinds = ("unreadable", "duplicate", "conflict", "small_class", "empty_class", "ignored")
    found = {kind: problems.get(kind, []) for kind in kinds}
    dropped = sum(map(len, found.values()))
    quality = {"examples": used + dropped, "used": used, "classes": 0, "domains": 0, "bad_share": 0.0}
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
        speed = {"seconds": 71.25, "examples_per_second": 4100, "threads": 2}
        (folder / "model.safetensors").write_text(method)
        put_times(inputs, method, folder / "model.safetensors", speed)


def write_curve(folder: Path, group: str, name: str, steps, values) -> None:
    path = folder / "curves" / "plots" / "metrics" / group / f"{name}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"step\t{name}", *(f"{step}\t{value}" for step, value in zip(steps, values, strict=True))]
    path.write_text("\n".join(lines) + "\n")


def _evaluation(inputs, rng, classes, settings, single_task) -> None:
    levels = dict(zip([*inputs.methods, *single_task], (0.935, 0.902, 0.43, 0.402, 0.86, 0.93), strict=False))
    groups = {name: "meta" for name in inputs.methods} | {name: GROUP_OF[name] for name in single_task}
    scores: dict = {name: {} for name in levels}
    for setting in settings:
        for name, level in levels.items():
            n_way, _, harder = _shape(setting)
            accuracy = max(1 / n_way, 1 - (1 - level) * 1.35**harder)
            episodes = 30 if name == "scratch" else 200
            ci95 = 1.96 * 0.09 / episodes**0.5
            scores[name][setting] = {
                "accuracy": accuracy,
                "ci95": ci95,
                "low95": accuracy - ci95,
                "high95": accuracy + ci95,
                "nll": 1 - accuracy,
                "ece": 0.012,
                "worst_decile": accuracy - 0.1,
                "episodes": episodes,
                "failed": 2 if name == "logistic" and setting == settings[0] else 0,
            }
    put(inputs.evaluation / "figures.json", scores)
    put(inputs.evaluation / "sizes.json", {name: dict.fromkeys(settings, 448_020) for name in levels})
    adapt = {name: dict.fromkeys(settings, 3.7 * 3.1**place) for place, name in enumerate(levels)}
    predict = {name: dict.fromkeys(settings, 0.2) for name in levels}
    times = {"adapt_ms": adapt, "predict_ms": predict}
    put_times(inputs, "evaluate", inputs.evaluation / "figures.json", times)
    put(inputs.evaluation / "champion.json", {"method": inputs.methods[0]})
    learners = {name: {"group": group, "chosen": None, "failed": 0, "asked": 99} for name, group in groups.items()}
    put(inputs.evaluation / "learners.json", learners)
    _compared(inputs, scores, groups, settings)
    _studies(inputs, levels, groups)
    _calibration(inputs, settings)
    _domains(inputs, levels, classes, settings)
    _space(inputs, rng, classes)
    _gallery(inputs, rng, classes, settings)


def _shape(setting: str) -> tuple[int, int, float]:
    """Ways, shots, and how hard that is."""
    n_way, n_shot = (int(part) for part in setting.removesuffix("_domain").removesuffix("s").split("w"))
    return n_way, n_shot, 1.3 * ("domain" in setting) + 1.2 * (n_way > 5) - 1.0 * (n_shot > 1)


def _compared(inputs, scores, groups, settings) -> None:
    champion, records, rivals = inputs.methods[0], [], {}
    for setting in settings:
        rivals[setting] = {}
        for group in ("task", "transfer"):
            names = [name for name in scores if groups[name] == group]
            if names:
                rivals[setting][group] = max(names, key=lambda name: scores[name][setting]["accuracy"])
        for name in scores:
            if name != champion:
                one, other = scores[champion][setting], scores[name][setting]
                gap, ci95 = one["accuracy"] - other["accuracy"], 0.8 * other["ci95"]
                named = {"setting": setting, "learner": champion, "rival": name, "difference": gap, "ci95": ci95}
                p_holm = 0.0004 if name in rivals[setting].values() else None
                records.append(named | {"episodes": other["episodes"], "p": 0.0001, "p_holm": p_holm})
    put(inputs.evaluation / "differences.json", records)
    put(inputs.evaluation / "rivals.json", rivals)


def _studies(inputs, levels, groups) -> None:
    folder, champion = inputs.evaluation, inputs.methods[0]
    labels, ways, balance = [], [], []
    for name, level in levels.items():
        for kind in ("any", "domain"):
            for shots in (1, 2, 3, 5, 10, 15):
                accuracy = 1 - (1 - level) * (0.6 if kind == "any" else 0.8) ** np.log2(shots)
                labels.append((kind, name, shots, accuracy, accuracy - 0.02, min(1, accuracy + 0.02), 50))
        for place, n_way in enumerate(("5", "10", "20", "all")):
            ways.append((name, n_way, 24.0 if n_way == "all" else float(n_way), level * 0.9**place, 0.3, 0.9, 50))
        for kind, shots in (("even", "5 5 5 5 5"), ("uneven", "1 2 3 7 12")):
            balance.append((name, kind, shots, level, level - 0.02, level + 0.02, 50, 0.5, 0.9))
    point = ["accuracy", "low95", "high95", "episodes"]
    tables = {
        "labels": (labels, ["kind", "learner", "n_shot", *point]),
        "ways": (ways, ["learner", "n_way", "mean_ways", *point]),
        "balance": (balance, ["learner", "balance", "shots", *point, "fewest", "most"]),
    }
    for name, (rows, columns) in tables.items():
        pd.DataFrame(rows, columns=columns).to_csv(folder / f"{name}.csv", index=False)
    saved = [
        {"kind": kind, "learner": champion, "n_shot": shots, "accuracy": 0.93, "against": group, "rival": rival}
        | {"labels": 8.7 if shots == 1 else None, "low95": 6.2, "high95": None, "most": 15}
        for kind in ("any", "domain")
        for shots in (1, 5)
        for group, rival in (("task", "scratch"), ("transfer", "finetune_head"))
        if rival in groups
    ]
    put(folder / "labels_saved.json", saved)


def _calibration(inputs, settings) -> None:
    rows = [
        (learner, setting, temperature, place, sure, max(0.0, sure - worse * off), 1 / 15)
        for worse, learner in enumerate(inputs.methods, start=1)
        for setting in settings
        for temperature, off in (("after", 0.01), ("before", 0.06))
        for place, sure in enumerate(np.linspace(0.4, 1, 15))
    ]
    columns = ["learner", "setting", "temperature", "bin", "confidence", "accuracy", "share"]
    pd.DataFrame(rows, columns=columns).to_csv(inputs.evaluation / "calibration.csv", index=False)
    rng = np.random.default_rng(1)
    truth = rng.beta(20, 2, 200)
    estimate = (truth + rng.normal(-0.02, 0.03, 200)).clip(0, 1)
    table = pd.DataFrame({"estimate": estimate, "truth": truth, "low95": estimate - 0.1, "high95": estimate + 0.1})
    table.to_parquet(inputs.evaluation / "estimates.parquet", index=False)
    found = {"tasks": 200, "n_shot": 5, "mean_absolute_error": 0.031, "low95": 0.028, "high95": 0.034}
    put(inputs.evaluation / "estimates.json", found | {"bias": -0.021, "coverage": 0.94})


def _domains(inputs, levels, classes, settings) -> None:
    tests = classes.loc[classes["split"] == "test", "domain"].unique()
    rows = [
        (name, setting, domain, level - 0.03 * place % 0.2, 0.5, 1.0, 400)
        for name, level in levels.items()
        for setting in settings
        for place, domain in enumerate(tests)
    ]
    columns = ["learner", "setting", "domain", "accuracy", "low95", "high95", "queries"]
    pd.DataFrame(rows, columns=columns).to_csv(inputs.evaluation / "domains.csv", index=False)


def _space(inputs, rng, classes) -> None:
    used = classes[classes["split"] != "validation"]
    places = used[["class", "domain", "split"]].assign(
        row=used["first"], x=rng.random(len(used)), y=rng.random(len(used))
    )
    places.to_parquet(inputs.evaluation / "map.parquet", index=False)
    test, training = used[used["split"] == "test"], used[used["split"] == "train"].sample(frac=1, random_state=0)
    nearest = training.iloc[np.arange(len(test)) % len(training)].reset_index(drop=True)
    near = (
        test[["class", "domain"]].reset_index(drop=True).assign(row=test["first"].to_numpy(), nearest=nearest["class"])
    )
    near = near.assign(nearest_domain=nearest["domain"], nearest_row=nearest["first"], distance=2.0)
    near.assign(relative=rng.gamma(8, 0.15, len(test))).to_parquet(inputs.evaluation / "nearness.parquet", index=False)
    first = test["first"].tolist()
    confused = [
        {
            "true": one,
            "said": other,
            "wrong": 9 - place,
            "asked": 30,
            "row_true": first[place],
            "row_said": first[place + 1],
        }
        for place, (one, other) in enumerate(zip(test["class"], test["class"].iloc[1:5], strict=False))
    ]
    put(inputs.evaluation / "confusions.json", confused)


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
