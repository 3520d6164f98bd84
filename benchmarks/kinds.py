"""What meta-learning on texts is worth: CLINC150's intents beside TF-IDF with nearest mean and logistic regression.

python benchmarks/kinds.py FOLDER [--episodes 300] [--work FOLDER]: FOLDER has clinc150_full.json, clinc150_domains.json

The domains travel, utility and work are unseen; small talk and meta choose between networks (protonet on 5w1s); the
other five, 75 intents, are trained on. Episodes are of five intents of one domain, the same for all, five queries each.
TF-IDF is scikit-learn's, of n-grams of 2 to 4 characters within words, fitted on the training intents.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import yaml
from measure import machine
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from metaloom.kinds.text.show import text_of
from metaloom.learner import Learner
from metaloom.stages import plan, prepare, split, train
from metaloom.tasks import EpisodeTable

UNSEEN, CHOOSING = ["travel", "utility", "work"], ["small_talk", "meta"]
NETWORKS = ("linear", "mlp")
WAYS, QUERIES = 5, 5
PARAMS = Path(__file__).parents[1] / "params.yaml"


def main(source: Path, episodes: int, work: Path) -> None:
    print(machine())
    os.chdir(work)
    write_tables(source, Path("data"))
    models = {network: trained(network) for network in NETWORKS}
    examples, domains, classes = packed()
    for network, (_, accuracy) in models.items():
        print(f"{network}: {100 * accuracy:.1f}% on validation")
    best = max(models, key=lambda network: models[network][1])
    vectors = tf_idf(examples, [domain not in UNSEEN + CHOOSING for domain in domains])
    for shots in (1, 5):
        table = drawn(domains, classes, shots, episodes)
        right = {
            "TF-IDF, nearest mean": nearest_mean(vectors, table),
            "TF-IDF, logistic regression": logistic(vectors, table),
        }
        for network, (learner, _) in models.items():
            chosen = " (chosen on validation)" if network == best else ""
            right[f"protonet, {network}{chosen}"] = answered(learner, examples, table)
        said(f"5w{shots}s", right)


def write_tables(source: Path, data: Path) -> None:
    """A table for each domain, of all 150 texts of each intent."""
    of_domain = json.loads((source / "clinc150_domains.json").read_text(encoding="utf-8"))
    texts = json.loads((source / "clinc150_full.json").read_text(encoding="utf-8"))
    domain_of = {intent: domain for domain, intents in of_domain.items() for intent in intents}
    rows = defaultdict(list)
    for part in ("train", "val", "test"):
        for text, intent in texts[part]:
            rows[domain_of[intent]].append(json.dumps({"text": text, "label": intent}))
    data.mkdir()
    for domain, lines in rows.items():
        (data / f"{domain}.jsonl").write_text("\n".join(lines), encoding="utf-8")


def trained(network: str) -> tuple[Learner, float]:
    """The stages up to protonet's training; the learner and its accuracy on validation."""
    params = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    params |= {"kind": "text", "methods": ["protonet"]}
    params["network"]["name"] = network
    params["split"] |= {"validation": CHOOSING, "test": UNSEEN}
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    if not Path("dataset").exists():
        prepare.main("data", "dataset")
    plan.main("dataset", "budget.yaml", "plan.json", "splits.yaml")
    split.main("dataset", "plan.json", "splits.yaml", "splits")
    train.main("protonet", "dataset", "splits", "plan.json", network, f"{network}.json")
    metrics = json.loads((Path(network) / "metrics.json").read_text(encoding="utf-8"))
    return Learner.load(network), metrics["validation"]["accuracy"]


def packed() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Packed texts with their domains and classes."""
    from metaloom.data.packed import Dataset

    dataset = Dataset.load("dataset")
    return np.array(dataset.examples), dataset.items["domain"].to_numpy(), dataset.items["class"].to_numpy()


def tf_idf(examples: np.ndarray, training: list[bool]) -> np.ndarray:
    texts = [text_of(each) for each in examples]
    vectoriser = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), dtype=np.float32)
    vectoriser.fit([text for text, own in zip(texts, training, strict=True) if own])
    return vectoriser.transform(texts)


def drawn(domains: np.ndarray, classes: np.ndarray, shots: int, episodes: int) -> EpisodeTable:
    rng = np.random.default_rng([0, shots])
    rows = []
    for episode in range(episodes):
        own = np.unique(classes[domains == UNSEEN[episode % len(UNSEEN)]])
        chosen = rng.choice(own, WAYS, replace=False)
        rows.append([rng.choice(np.flatnonzero(classes == each), shots + QUERIES, replace=False) for each in chosen])
    table = np.array(rows)
    return EpisodeTable(table[..., :shots], table[..., shots:])


def nearest_mean(vectors: np.ndarray, table: EpisodeTable) -> np.ndarray:
    right = []
    for support, query in zip(table.support, table.query_rows, strict=True):
        means = np.stack([vectors[rows].toarray().mean(axis=0) for rows in support])
        distances = ((vectors[query].toarray()[:, None] - means) ** 2).sum(axis=-1)
        right.append((distances.argmin(axis=1) == table.answers).mean())
    return np.array(right)


def logistic(vectors: np.ndarray, table: EpisodeTable) -> np.ndarray:
    right = []
    for support, query in zip(table.support_rows, table.query_rows, strict=True):
        model = LogisticRegression(C=10.0, max_iter=200).fit(vectors[support], table.labels)
        right.append((model.predict(vectors[query]) == table.answers).mean())
    return np.array(right)


def answered(learner: Learner, examples: np.ndarray, table: EpisodeTable) -> np.ndarray:
    answers = learner.answer(torch.from_numpy(examples), table).argmax(dim=2).cpu().numpy()
    return (answers == table.answers).mean(axis=1)


def said(setting: str, right: dict[str, np.ndarray]) -> None:
    """Each learner's accuracy, and how far it is above nearest mean on the same episodes, with 95% intervals."""
    first = next(iter(right.values()))
    for name, each in right.items():
        half, gain = (1.96 * values.std(ddof=1) / len(values) ** 0.5 for values in (each, each - first))
        print(
            f"{setting} | {name} | {100 * each.mean():.1f} ± {100 * half:.1f} | "
            f"{100 * (each - first).mean():+.1f} ± {100 * gain:.1f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--work", type=Path)
    given = parser.parse_args()
    source = given.folder.resolve()
    if given.work:
        main(source, given.episodes, given.work)
    else:
        with TemporaryDirectory() as folder:
            main(source, given.episodes, Path(folder))
