"""Two bundles answer inputs of real use, and labels that come later decide between them."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from bundles import change_json, reseal
from judged import start
from projects import REPO, run_here
from typer.testing import CliRunner, Result

from metaloom.cli.app import app
from metaloom.cli.judge import before_promotion
from metaloom.errors import MetaloomError
from metaloom.handoff.bundle.predict import predict
from metaloom.judging.decision import decide
from metaloom.judging.ledger import spent
from metaloom.judging.records import read_ledger
from metaloom.judging.shadow import log as logs
from metaloom.retraining import telling
from metaloom.versioning import registry
from metaloom.versioning.project import open_project

NIGHT = 0.05 / 365


def shadow(*words: object) -> Result:
    return CliRunner().invoke(app, ["shadow", *map(str, words)])


def refusal(*words: object) -> str:
    done = shadow(*words)
    assert isinstance(done.exception, MetaloomError), done.output
    assert "\n" not in str(done.exception)
    return str(done.exception)


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def mixed_up(whole_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same bundle with its classes exchanged: it never says what the other one says."""
    folder = Path(shutil.copytree(whole_bundle, tmp_path_factory.mktemp("mixed") / "bundle"))
    change_json(folder / "labels.json", lambda labels: [*labels[1:], labels[0]])
    reseal(folder)
    return folder


@pytest.fixture(scope="module")
def files(shapes: Path) -> list[Path]:
    return sorted((shapes / "domain0").rglob("*.png"))


@pytest.fixture(scope="module")
def six(whole_bundle: Path, mixed_up: Path, files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("six") / "log.jsonl"
    done = shadow(whole_bundle, mixed_up, *files[:6], "--log", path)
    assert done.exit_code == 0, done.output
    return path


@pytest.fixture
def asked(six: Path, tmp_path: Path) -> Path:
    """The log of both on six pictures, outside of any project."""
    return Path(shutil.copy(six, tmp_path))


def test_both_answer_what_predict_says_and_the_log_has_it(asked, whole_bundle, mixed_up, files):
    head, *answers = records(asked)
    assert head["prod"]["name"] == str(whole_bundle) and len(head["classes"]) == 4
    for side, bundle in (("prod", whole_bundle), ("candidate", mixed_up)):
        said = predict(bundle, files[:6])
        assert [each[side]["label"] for each in answers] == [each.label for each in said]
        assert [each[side]["probability"] for each in answers] == pytest.approx(
            [each.probability for each in said], abs=1e-5
        )
    assert [each["input"] for each in answers] == list(map(str, files[:6]))


def test_what_was_answered_is_not_asked_again(asked, whole_bundle, mixed_up, files):
    before = asked.read_bytes()
    done = shadow(whole_bundle, mixed_up, *files[:8], "--log", asked)
    assert done.stdout.splitlines()[0] == f"2 new inputs in {asked}"
    assert done.stdout.splitlines()[1].endswith("agree on 0 of 8 inputs (0.0%)")
    assert asked.read_bytes().startswith(before) and len(records(asked)) == 9


def test_a_log_that_was_cut_off_goes_on_with_whole_records(asked, whole_bundle, mixed_up, files):
    whole = [each["sha256"] for each in records(asked)[1:]]
    for cut in (10, 200):  # in the last record, and in the one before
        asked.write_bytes(asked.read_bytes()[:-cut])
        done = shadow(whole_bundle, mixed_up, *files[:6], "--log", asked)
        assert f"{asked}: its last record was cut off, so it is left out" in done.stdout
        assert sorted(each["sha256"] for each in records(asked)[1:]) == sorted(whole)
    asked.write_bytes(asked.read_bytes()[:50])  # killed while the first line was written
    assert shadow(whole_bundle, mixed_up, files[0], "--log", asked).exit_code == 0
    assert len(records(asked)) == 2


def test_a_full_disk_leaves_whole_records(asked, whole_bundle, mixed_up, files, monkeypatch):
    before, write = asked.read_bytes(), os.write

    def full(file: int, data: bytes) -> int:
        write(file, data[:40])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(logs.os, "write", full)
        assert isinstance(shadow(whole_bundle, mixed_up, *files[:8], "--log", asked).exception, OSError)
    assert asked.read_bytes() == before


def test_a_file_that_cannot_be_read_leaves_the_others_their_answers(whole_bundle, mixed_up, files, tmp_path):
    (tmp_path / "cut.png").write_bytes(files[0].read_bytes()[:60])
    done = shadow(whole_bundle, mixed_up, tmp_path / "cut.png", files[0], "--log", tmp_path / "log.jsonl")
    assert done.exit_code == 1 and "cut.png is damaged" in done.stderr and len(records(tmp_path / "log.jsonl")) == 2


def test_bundles_that_cannot_be_compared(asked, whole_bundle, mixed_up, files, tmp_path, bundle, monkeypatch):
    monkeypatch.chdir(tmp_path)
    change_json(bundle / "labels.json", lambda labels: [*labels[1:], "zeta"])
    reseal(bundle)
    message = refusal(whole_bundle, bundle, files[0], "--log", tmp_path / "new.jsonl")
    assert "have other classes (only" in message and f"only {bundle} has zeta" in message
    assert "are the same bundle" in refusal(whole_bundle, whole_bundle, files[0], "--log", tmp_path / "new.jsonl")
    assert "is the log of other bundles" in refusal(mixed_up, whole_bundle, files[0], "--log", asked)
    assert refusal("v0.1.0", whole_bundle, files[0], "--log", asked).startswith("v0.1.0: there is no such folder, and")
    assert "--log FILE" in refusal(whole_bundle, mixed_up, files[0])
    assert not (tmp_path / "new.jsonl").exists()


def test_what_is_no_log(asked, whole_bundle, mixed_up, files, tmp_path):
    lines = asked.read_text().splitlines(keepends=True)
    asked.write_text("".join([*lines[:3], lines[3][:40] + "\n", *lines[4:]]))
    assert f"{asked}, line 4, is no record" in refusal("--log", asked)
    for text in ("hello", "hello\n", '{"log": 9, "prod": {}}\n', ""):
        (tmp_path / "other").write_text(text)
        assert "is no log of `metaloom shadow`" in refusal("--log", tmp_path / "other")
        if text:
            assert "is no log" in refusal(whole_bundle, mixed_up, files[0], "--log", tmp_path / "other")
            assert (tmp_path / "other").read_text() == text
    assert "there is no such log" in refusal("--log", tmp_path / "none")
    assert "there is no folder" in refusal(whole_bundle, mixed_up, files[0], "--log", tmp_path / "none" / "log")


@dataclass
class Versions:
    """A project with two versions in git, whose bundles are those of the tests."""

    root: Path
    log: Path

    def label(self, said_by: str, chosen: slice = slice(None)) -> Result:
        """Labels that are what one side says of some of the inputs."""
        rows = [each for each in records(self.log) if "input" in each][chosen]
        table = self.root / "labels.csv"
        lines = [f"{each['input']},{each[said_by]['label']}\n" for each in rows]
        table.write_text("".join(["example,label\n", *lines]))
        return shadow("--labels", table)

    def prod(self) -> str:
        return registry.version_in(self.root, "prod")


@pytest.fixture(scope="module")
def made(whole_bundle: Path, mixed_up: Path, files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shadowed") / "project"
    start(root)
    shutil.copy(REPO / "params.yaml", root)
    (root / "dvc.yaml").write_text(
        "stages:\n  export: {cmd: 'true', outs: [artifacts/bundle]}\n"
        "artifacts:\n  handoff: {path: artifacts/bundle, type: model}\n"
    )
    for version, bundle in (("v0.0.1", whole_bundle), ("v0.0.2", mixed_up)):
        shutil.rmtree(root / "artifacts/bundle", ignore_errors=True)
        shutil.copytree(bundle, root / "artifacts/bundle")
        with open_project(root) as repo:
            repo.commit(force=True)
        run_here(root, "git", "add", "-A")
        run_here(root, "git", "commit", "-qm", version)
        run_here(root, "git", "tag", "-a", f"handoff@{version}", "-m", version)
    registry.put_into(root, "v0.0.1", "prod")
    registry.put_into(root, "v0.0.2", "candidate")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert shadow("prod", "candidate", *files).exit_code == 0
    shutil.rmtree(root / ".dvc/cache")  # which nothing below has a use for
    return root


@pytest.fixture
def versions(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Versions:
    """v0.0.1 is prod and v0.0.2 candidate; both have answered all pictures."""
    monkeypatch.setattr(registry, "_check_bundle", lambda root, commit: None)
    root = Path(shutil.copytree(made, tmp_path / "project", ignore=shutil.ignore_patterns("artifacts")))
    monkeypatch.chdir(root)
    return Versions(root, root / ".metaloom/shadow/v0.0.1-v0.0.2.jsonl")


def test_a_candidate_in_use_that_labels_show_to_be_worse_leaves_once(versions, files, monkeypatch):
    told: list[str] = []

    def tell(root: Path, settings: object, cause: str, message: str) -> bool:
        """Nobody can be reached the first time."""
        told.append(f"{cause}: {message}")
        return len(told) > 1

    monkeypatch.setattr(telling, "tell", tell)
    registry.put_into(versions.root, "v0.0.2", "prod")
    few = versions.label("prod", slice(5))
    assert few.exit_code == 0 and "whether v0.0.2 is better or worse than v0.0.1 is not decided" in few.stdout
    assert versions.prod() == "v0.0.2"
    done = versions.label("prod")
    assert done.exit_code == 4
    new, agree, verdict, did = done.stdout.splitlines()
    assert new.startswith(f"{len(files) - 5} new labels from ") and agree.startswith("v0.0.1 and v0.0.2 agree on 0 of ")
    assert verdict.startswith("v0.0.2 is worse than v0.0.1: −100.0 points (95% interval −100.0 to −")
    assert verdict.endswith(f"{len(files)} labelled inputs, of which they have 0.0% and 100.0% right")
    assert did == "v0.0.1 is prod again, instead of v0.0.2; share it: `git push --tags`"
    assert versions.prod() == "v0.0.1"
    message = run_here(versions.root, "git", "tag", "-n9", "-l", "handoff#prod#4").stdout
    assert "v0.0.2 is worse than v0.0.1" in message and 'judged: {"when"' in message
    registry.put_into(versions.root, "v0.0.2", "prod")  # a person wants it so
    again = versions.label("prod")
    assert again.stdout.startswith("0 new labels") and again.exit_code == 4
    assert versions.prod() == "v0.0.2" and len(again.stdout.splitlines()) == 3
    assert versions.label("prod").exit_code == 4
    assert told == [f"held: {verdict}; {did}"] * 2


def test_the_first_ever_in_use_that_is_worse_is_told_though_none_can_come_back(versions, monkeypatch):
    told: list[str] = []
    monkeypatch.setattr(telling, "tell", lambda root, settings, cause, message: told.append(message) or True)
    run_here(versions.root, "git", "tag", "-d", "handoff#prod#1")
    registry.put_into(versions.root, "v0.0.2", "prod")
    done = versions.label("prod")
    assert done.exit_code == 4 and versions.prod() == "v0.0.2"
    did = "v0.0.2 stays prod, as nothing was there before it: promote another version"
    assert done.stdout.splitlines()[-1] == did and [line.partition("; ")[2] for line in told] == [did]


def test_killed_before_it_was_done_it_is_done_by_the_next_call(versions, monkeypatch):
    registry.put_into(versions.root, "v0.0.2", "prod")

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("metaloom.judging.shadow.process.rollback", killed)
        versions.label("prod")
    assert versions.prod() == "v0.0.2"
    assert versions.label("prod").stdout.startswith("0 new labels") and versions.prod() == "v0.0.1"
    (entry,) = read_ledger(versions.root)
    assert entry.outcome == "worse"


def test_killed_after_it_was_done_it_is_said_by_the_next_call(versions, monkeypatch):
    told: list[str] = []
    monkeypatch.setattr(telling, "tell", lambda root, settings, cause, message: told.append(message) or True)
    registry.put_into(versions.root, "v0.0.2", "prod")

    def killed(*arguments, **options):
        registry.rollback(*arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("metaloom.judging.shadow.process.rollback", killed)
        versions.label("prod")
    assert versions.prod() == "v0.0.1" and not told
    did = "v0.0.1 is prod again, instead of v0.0.2; share it: `git push --tags`"
    assert versions.label("prod").stdout.splitlines()[-1] == did
    assert [line.partition("; ")[2] for line in told] == [did]


def test_no_rollback_says_it_alone(versions, monkeypatch):
    heard: list[str] = []
    monkeypatch.setattr(telling, "tell", lambda root, settings, cause, message: heard.append(message) or True)
    registry.put_into(versions.root, "v0.0.2", "prod")
    table = versions.root / "labels.csv"
    rows = [each for each in records(versions.log) if "input" in each]
    table.write_text("sha256,label\n" + "".join(f"{each['sha256']},{each['prod']['label']}\n" for each in rows))
    done = shadow("v0.0.1", "v0.0.2", "--labels", table, "--no-rollback", "--json")
    told = json.loads(done.stdout.partition("\n")[2])
    assert (told["outcome"], told["labelled"], told["prod_right"]) == ("worse", len(rows), len(rows))
    assert (told["prod"], told["candidate"]) == ("v0.0.1", "v0.0.2")
    said = "v0.0.2 is prod: `metaloom rollback` puts the version before back"
    assert told["did"] == said
    again = shadow("--labels", table, "--no-rollback")
    assert again.stdout.splitlines()[-1] == said and versions.prod() == "v0.0.2"
    for did in ("v0.0.1 is prod again, instead of v0.0.2; share it: `git push --tags`", again.stdout.splitlines()[-2]):
        done = shadow("--labels", table)
        assert done.exit_code == 4, done.exception
        assert done.stdout.splitlines()[-1] == did  # done by the first call that may, once
    assert versions.prod() == "v0.0.1" and len(heard) == 2


def test_what_a_person_has_undone_after_a_look_is_not_done_or_told_again(versions, monkeypatch):
    told: list[str] = []
    monkeypatch.setattr(telling, "tell", lambda root, settings, cause, message: told.append(message) or True)
    registry.put_into(versions.root, "v0.0.2", "prod")
    versions.label("prod")
    versions.log.write_text("".join(line for line in versions.log.open() if '"verdict"' not in line))
    registry.put_into(versions.root, "v0.0.2", "prod")
    table = versions.root / "labels.csv"
    assert shadow("--labels", table, "--no-rollback").exit_code == 4 and len(told) == 2
    registry.rollback(versions.root, "prod")
    assert shadow("--labels", table).exit_code == 4 and len(told) == 2
    registry.put_into(versions.root, "v0.0.2", "prod")
    assert shadow("--labels", table).exit_code == 4 and versions.prod() == "v0.0.2" and len(told) == 2


def test_bundles_are_found_again_as_they_were_named_and_inputs_by_the_name_of_their_file(versions, files):
    table, said = versions.root / "labels.csv", records(versions.log)[1]["prod"]["label"]
    table.write_text(f"example,label\nalone.png,{said}\n")
    sides = {side: {"label": said, "probability": 1.0, "novelty": 0.0} for side in ("prod", "candidate")}
    with versions.log.open("a") as log:
        for place, name in enumerate(("a/alone.png", "a/twice.png", "b/twice.png")):
            log.write(json.dumps({"input": name, "sha256": str(place)} | sides) + "\n")
    assert shadow("prod", "candidate", "--labels", table).stdout.startswith("1 new label from ")
    table.write_text(f"example,label\ntwice.png,{said}\n")
    assert "'twice.png' is the name of 2 inputs: give it with its folder" in refusal("--labels", table)
    assert "there is no such log" in refusal("prod", "prod")
    message = refusal("spare", "prod", files[0])
    assert message == "spare: there is no such folder, revision or stage: `metaloom models` lists versions and stages"


def test_one_that_is_not_in_use_is_not_promoted_after_that(versions):
    assert versions.label("prod").stdout.splitlines()[-1] == "do not promote it: v0.0.1 is prod"
    judged = before_promotion(versions.root, "v0.0.1", "v0.0.2")
    assert judged is not None and judged.refused and judged.told.startswith("in shadow: worse, −100.0 points (")
    registry.put_into(versions.root, "v0.0.2", "spare")
    columns, newest, *_ = CliRunner().invoke(app, ["models"]).stdout.splitlines()
    assert "  candidate,spare  " in newest and "  in shadow worse than v0.0.1  20" in newest
    assert columns.index("date") == newest.index("  20") + 2


def test_a_better_one_is_to_be_promoted(versions):
    done = versions.label("candidate")
    assert done.exit_code == 0 and done.stdout.splitlines()[-1] == "promote it: `metaloom promote v0.0.2`"
    assert versions.prod() == "v0.0.1"


def test_labels_in_parts_come_to_what_all_at_once_do_and_error_is_spent_once(versions):
    for part in range(6):
        versions.label("prod", slice(part, None, 6))
    in_parts, (entry,) = json.loads(shadow("--json").stdout), read_ledger(versions.root)
    assert (entry.outcome, entry.alpha) == ("worse", pytest.approx(NIGHT)) and entry.test.startswith("shadow ")
    assert spent([entry], entry.when) == pytest.approx(NIGHT)
    versions.log.write_text(
        "".join(line for line in versions.log.open() if '"is"' not in line and '"verdict"' not in line)
    )
    versions.label("prod")
    at_once = json.loads(shadow("--json").stdout)
    assert in_parts == at_once and len(read_ledger(versions.root)) == 1


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("x.png,{0}", "'x.png' is no input that "),
        ("{file},zeta", "'zeta' is none of the classes ({0}, "),
        ("{file},{1}", "' has the label '{0}' already, and now '{1}'"),
    ],
)
def test_a_wrong_row_keeps_all_labels_out(versions, files, row, words):
    classes = records(versions.log)[0]["classes"]
    table = versions.root / "labels.csv"
    table.write_text(f"example,label\n{files[0]},{classes[0]}\n{row.format(*classes, file=files[0])}\n")
    before = versions.log.read_bytes()
    message = refusal("--labels", table)
    assert message.startswith(f"{table}, line 3: ") and words.format(*classes) in message
    assert message.endswith("; none of its labels is used")
    assert versions.log.read_bytes() == before and read_ledger(versions.root) == []


def test_what_is_no_table_of_labels(versions, files, tmp_path):
    table = tmp_path / "labels.csv"
    assert refusal("--labels", table) == f"{table}: there is no such file"
    for content in (b"a,b\n1,2\n", b"", b"\xff\xfe\x00"):
        table.write_bytes(content)
        assert refusal("--labels", table).startswith(str(table))


def test_a_name_of_two_inputs_is_not_enough(versions, files, tmp_path):
    one, other = (each for each in records(versions.log)[1:3])
    with versions.log.open("a") as file:
        file.write(json.dumps(one | {"input": "a.png"}) + "\n" + json.dumps(other | {"input": "a.png"}) + "\n")
    table = tmp_path / "labels.csv"
    table.write_text("example,label\na.png,x\n")
    assert "'a.png' is the name of 2 inputs: give it with its folder" in refusal("--labels", table)


def test_which_log_is_meant(versions):
    assert shadow().stdout.startswith("v0.0.1 and v0.0.2 agree on 0 of ")
    assert shadow("v0.0.1", "v0.0.2").stdout == shadow().stdout
    assert "name both bundles" in refusal("v0.0.1")
    shutil.copy(versions.log, versions.log.with_name("other.jsonl"))
    assert "there are 2 logs (other, v0.0.1-v0.0.2): name the bundles" in refusal()


def test_folders_are_compared_and_no_stage_is_touched(versions):
    head, *answers = versions.log.read_text().splitlines(keepends=True)
    plain = json.loads(head)
    plain["prod"]["commit"] = plain["candidate"]["commit"] = ""
    versions.log.write_text("".join([json.dumps(plain) + "\n", *answers]))
    registry.put_into(versions.root, "v0.0.2", "prod")
    done = versions.label("prod")
    assert done.exit_code == 4 and done.stdout.splitlines()[-1].endswith("name versions for that")
    assert versions.prod() == "v0.0.2" and read_ledger(versions.root) == []


def test_another_version_that_has_come_meanwhile_stays(versions):
    registry.put_into(versions.root, "v0.0.2", "prod")
    with pytest.raises(MetaloomError, match=r"^v0\.0\.2 has become prod meanwhile, so v0\.0\.1 stays as it is$"):
        registry.rollback(versions.root, "prod", leaving="v0.0.1")


def test_of_two_that_are_equally_good_none_is_shown_to_be_better_more_often_than_promised():
    """2,000 logs of 400 labelled inputs at an error of 5%: one right and the other wrong in a tenth, either way."""
    rng = np.random.default_rng(0)
    gains = rng.choice([-1.0, 0.0, 1.0], (2000, 400, 1), p=[0.05, 0.9, 0.05])
    outcome = decide(gains, 0.05, 0.01).outcome
    for wrong in (0, 2):
        assert (outcome == wrong).mean() <= 0.05 + 3 * (0.05 * 0.95 / 2000) ** 0.5
