"""`metaloom shadow` on texts, on bundles of many tasks, and where it is killed without a warning."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundles import change_json, reseal
from projects import environment
from test_shadow import records, refusal, shadow
from texts import drawn_texts, write_texts
from working import until

from metaloom.config import Settings
from metaloom.data.support import task_paths
from metaloom.handoff.adapting import fleet
from metaloom.handoff.adapting import shared as shared_fleet
from metaloom.handoff.adapting.one import adapt_to
from metaloom.handoff.bundle.predict import predict
from metaloom.kinds.pictures.kind import Pictures
from metaloom.kinds.text.encode import TextEncoding
from metaloom.kinds.text.kind import Text
from metaloom.learner import Learner

OWN = drawn_texts("home", 5, seed=1)
ASKED = [text for text, _ in drawn_texts("home", 8, seed=2)]
KIND = Text(features=60, characters=64)


def exchanged(bundle: Path, folder: Path) -> Path:
    """The same bundle with its classes, or those of each task, exchanged."""

    def change(labels):
        if isinstance(labels, dict):
            return {task: change(own) for task, own in labels.items()}
        return [*labels[1:], labels[0]]

    shutil.copytree(bundle, folder)
    change_json(folder / "labels.json", change)
    reseal(folder)
    return folder


@pytest.fixture(scope="module")
def of_texts(
    save_model: Callable, tiny_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Two bundles that take texts."""
    folder = tmp_path_factory.mktemp("texts")
    rows = np.stack([KIND.pack(np.array(text)) for text, _ in drawn_texts("shop")])
    network = tiny_settings.network.model_copy(update={"name": "linear", "width": 8})
    settings = tiny_settings.model_copy(update={"network": network})
    model = save_model(Learner.create("protonet", settings, TextEncoding.of(rows, KIND)), folder / "protonet")
    support = write_texts(folder / "mine.csv", OWN)
    adapt_to(support, folder / "bundle", model, tiny_settings, lambda done, text: None)
    return folder / "bundle", exchanged(folder / "bundle", folder / "exchanged")


def test_texts_as_words_and_in_tables(of_texts, tmp_path):
    prod, candidate = of_texts
    log, table = tmp_path / "log.jsonl", write_texts(tmp_path / "asked.csv", drawn_texts("home", 8, seed=2))
    assert len(ASKED) == len(set(ASKED)) == 48
    done = shadow(prod, candidate, ASKED[0], ASKED[1], ASKED[0], "--log", log)
    assert done.stdout.splitlines()[0] == f"2 new inputs in {log}"  # of which one was asked twice
    done = shadow(prod, candidate, table, "--log", log)
    assert f"{len(ASKED) - 2} new inputs in {log}" in done.stdout  # two are of content that was asked before
    assert "agree on 0 of" in done.stdout
    for side, bundle in (("prod", prod), ("candidate", candidate)):
        said = [each.label for each in predict(bundle, [table])]
        assert [each[side]["label"] for each in records(log)[3:]] == said
    assert shadow(prod, candidate, table, ASKED[0], "--log", log).stdout.startswith("0 new inputs")


def test_labels_of_texts(of_texts, tmp_path):
    """A text is its own name in the table of labels, and one of two bundles' classes its label."""
    log = tmp_path / "log.jsonl"
    assert shadow(*of_texts, *ASKED[:3], "--log", log).exit_code == 0
    (tmp_path / "labels.csv").write_text(f"example,label\n{ASKED[1]},nothing\n")
    assert "'nothing' is none of the classes" in refusal("--labels", tmp_path / "labels.csv", "--log", log)
    names = [each["input"] for each in records(log)[1:]]
    assert names == ASKED[:3]


def test_of_many_tasks_one_is_asked(model, shapes, tmp_path, repo, monkeypatch):
    shutil.copy(repo / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    fleet.maker_of.cache_clear()
    for domain in range(2):
        shutil.copytree(shapes / f"domain{domain}", tmp_path / f"tasks/task{domain}")
    paths = [str(each) for each in task_paths(tmp_path / "tasks", Pictures(28, 1))]
    shared_fleet.write_shared([shared_fleet.solve_part(paths, str(model))], tmp_path / "all", str(model))
    other, log = exchanged(tmp_path / "all", tmp_path / "other"), tmp_path / "log.jsonl"
    files = sorted((tmp_path / "tasks/task1").rglob("*.png"))[:6]
    assert "name one with --task" in refusal("all", "other", *files, "--log", log) and not log.exists()
    assert shadow("all", other, *files, "--task", "task1", "--log", log).exit_code == 0
    head, *answers = records(log)
    assert head["task"] == "task1" and len(answers) == 6
    said = [each.label for each in predict(tmp_path / "all", files, "task1")]
    assert [each["prod"]["label"] for each in answers] == said
    assert "is the log of other bundles (all and" in refusal("all", other, *files, "--task", "task0", "--log", log)
    assert shadow("all", other, *files, "--task", "task1", "--log", log).stdout.startswith("0 new inputs")


@pytest.mark.slow
@pytest.mark.parametrize("given", [1, 3, 5])
def test_killed_at_once_it_goes_on_and_asks_nothing_twice(of_texts, tmp_path, given):
    """After so many inputs, of which those of the last batch may not be in the log yet."""
    log = tmp_path / "log.jsonl"
    command = ["metaloom", "shadow", *map(str, of_texts), "-", "--log", str(log)]
    process = subprocess.Popen(command, env=environment(), stdin=subprocess.PIPE, text=True)
    assert process.stdin is not None
    process.stdin.write("".join(f"{text}\n" for text in ASKED[:given]))
    process.stdin.flush()
    until(lambda: log.exists() and log.read_bytes().count(b"\n") > (given + 1) // 2)  # 1, then 2, then 4 at a time
    process.kill()
    process.wait()
    before = log.read_bytes()
    assert before.endswith(b"\n") and before.count(b"\n") - 1 <= given
    done = subprocess.run(command, env=environment(), input="\n".join(ASKED[:8]), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert log.read_bytes().startswith(before)
    assert [each["input"] for each in records(log)[1:]] == ASKED[:8]
