"""One hostile name, and every output that names and labels get into: it is text there, and nothing else."""

from __future__ import annotations

import ast
import csv
import io
import json
import logging
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType, SimpleNamespace

import markdown as reader
import numpy as np
import pandas as pd
import pytest
import typer
from bundles import change_json, reseal, said_by_example
from made_up_project import make_project, write_quality
from projects import REPO, run_here
from typer.testing import CliRunner

from flows import pipeline as flow_of_stages
from flows import retrain as flow_of_retraining
from flows import stage as flow_of_a_stage
from metaloom.cli import doctor, judge, models, plan
from metaloom.cli.app import app, main
from metaloom.cli.data import _table
from metaloom.errors import MetaloomError
from metaloom.evaluation.figures import Answers
from metaloom.evaluation.tables import Everyone, domain_rows
from metaloom.handoff.bundle.card import model_card
from metaloom.handoff.metadata import read_metadata
from metaloom.pipeline.summary import RunSummary, StageRun, as_markdown
from metaloom.report.page import build
from metaloom.retraining.loop import Result
from metaloom.stages import _fail
from metaloom.system.escaping import cell, on_one_line
from metaloom.system.terminal import bar, complain, say
from metaloom.tasks import EpisodeTable
from metaloom.versioning import health, registry
from metaloom.versioning.revisions import plots_differ

EVIL = "=1+1|</script><script>alert(7)</script><img src=x onerror=alert(7)>*`[x](javascript:alert(7))\x1b[2J\u202e\r\n"
SCRIPTS = sorted((REPO / "src/metaloom/kinds").glob("*/shipped/*.py"))
ORDERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # what a terminal or a reader obeys


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def assert_harmless(page: str) -> None:
    elements = Elements(page).found
    assert elements
    for tag, attributes in elements:
        assert "onerror" not in attributes and not str(attributes.get("href")).startswith("javascript"), tag
        assert attributes.get("src") != "x"
    assert "<script>alert(7)" not in page


def assert_plain(text: str) -> None:
    assert "alert(7)" in text
    assert not ORDERS.search(text), ORDERS.findall(text)


@pytest.fixture
def named(bundle: Path) -> Path:
    """A stranger's bundle, whose task and first class have the name."""
    change_json(bundle / "labels.json", lambda labels: [EVIL, *labels[1:]])
    change_json(bundle / "metadata.json", lambda v: v["task"].update(name=EVIL))
    reseal(bundle)
    return bundle


def of_first_class(shapes: Path) -> str:
    return str(next((shapes / "domain0/class0").iterdir()))


def asked(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return done.stdout


def test_predictions_on_a_terminal_in_a_table_and_as_json(named: Path, shapes: Path):
    pictures = [str(path) for path in sorted((shapes / "domain0").rglob("0.png"))]
    lines = asked("predict", str(named), *pictures)
    assert_plain(lines)
    assert lines.count("\n") == len(pictures) and all(line.count("\t") == 3 for line in lines.splitlines())

    rows = list(csv.reader(io.StringIO(asked("predict", str(named), *pictures, "--csv"))))
    assert_plain(" ".join(map(" ".join, rows)))
    for each in (each for row in rows for each in row):
        assert not each.startswith(("=", "+", "-", "@", "\t", "\r")) or float(each) is not None
    assert json.loads(asked("predict", str(named), *pictures, "--json"))[0]["probabilities"].keys() >= {EVIL}


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_what_a_spreadsheet_takes_for_a_formula(first: str):
    """https://owasp.org/www-community/attacks/CSV_Injection: full-width signs too, which some locales read so."""
    assert cell(f"{first}1+1") == f"'{first}1+1"
    assert cell("a" + first) == "a" + first and cell("-1.5") == "-1.5"


def test_inspect_and_verify(named: Path, capsys: pytest.CaptureFixture[str]):
    assert_plain(asked("inspect", str(named)))
    (named / "alert(7)\x1b[2J\u202e.txt").touch()
    with pytest.raises(SystemExit):
        main(lambda: app(["verify", str(named)]))
    assert_plain(capsys.readouterr().err)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: "/".join(path.parts[-3::2]))
def test_the_scripts_of_a_bundle_show_names_as_predict_does(script: Path):
    text, names = script.read_text(encoding="utf-8"), {}
    (function,) = (each for each in ast.parse(text).body if isinstance(each, ast.FunctionDef) and each.name == "shown")
    exec(ast.unparse(function), names)
    assert names["shown"](EVIL + "\t\xa0\udc80") == on_one_line(EVIL + "\t\xa0\udc80")
    said = [line for line in text.splitlines() if "print(f" in line]
    assert said and all("shown(labels[best])" in line for line in said)


def test_a_bundles_own_script(named: Path, shapes: Path):
    ((_, label, _, _),) = said_by_example(named, of_first_class(shapes))
    assert label == on_one_line(EVIL)


def test_the_model_card(named: Path):
    metadata = read_metadata(json.loads((named / "metadata.json").read_text()))
    metadata = metadata.model_copy(update={"params": {"export": {"data_licence": EVIL}}})
    card = model_card(metadata, [EVIL, "b", "c", "d"])
    assert_plain(card)
    assert_harmless(reader.markdown(card, extensions=["tables", "fenced_code"]))
    assert "<h1>=1+1" in reader.markdown(card)


def test_the_artifact_in_prefect():
    scores = {EVIL: {"5w1s": {"accuracy": 0.5, "ci95": 0.1, "episodes": 10}}}
    stages = (StageRun(EVIL, "Ran", 1.0),)
    summary = RunSummary(EVIL, stages, 1.0, scores, {"report": EVIL}, EVIL, (EVIL,), EVIL)
    page = as_markdown(summary)
    assert_plain(page)
    assert_harmless(reader.markdown(page, extensions=["tables"]))
    assert reader.markdown(page, extensions=["tables"]).count("<table>") == 2


@pytest.mark.parametrize(
    "flow", [flow_of_retraining, flow_of_stages, flow_of_a_stage], ids=lambda module: module.__name__
)
def test_a_run_s_log_and_state_in_prefect(flow: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog):
    """`prefect flow-run logs` and `inspect` print them as they are."""

    def refused(*_: object) -> None:
        raise MetaloomError(EVIL)

    monkeypatch.setattr(flow, "find_root", refused)
    monkeypatch.setattr(flow, "get_run_logger", lambda: logging.getLogger("of the run"))
    name = flow.__name__.rpartition(".")[2]
    state = getattr(flow, name).fn(**({"training": "0" * 40, "name": "a@b"} if name == "stage" else {}))
    assert_plain(state.message)
    assert_plain(caplog.messages[-1])


def test_what_a_retraining_comes_to_in_prefect(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog):
    monkeypatch.setattr(flow_of_retraining, "find_root", lambda: tmp_path)
    for name in ("note", "mark_crashed", "refuse_after_crashes", "skip_missed"):
        monkeypatch.setattr(flow_of_retraining, name, lambda *_: None)
    monkeypatch.setattr(flow_of_retraining.approval, "asked", lambda: "")
    monkeypatch.setattr(flow_of_retraining.loop, "retrain", lambda *_, **__: Result("Skipped", EVIL))
    monkeypatch.setattr(flow_of_retraining, "get_run_logger", lambda: logging.getLogger("of the run"))
    with caplog.at_level(logging.INFO):
        state = flow_of_retraining.retrain.fn(dry_run=True)
    assert_plain(state.message)
    assert_plain(caplog.messages[-1])


def test_what_a_stage_says_in_a_run_s_log(monkeypatch: pytest.MonkeyPatch, caplog):
    monkeypatch.setattr(flow_of_stages, "get_run_logger", lambda: logging.getLogger("of the run"))
    with caplog.at_level(logging.INFO):
        for listener in flow_of_stages._listeners():
            listener(EVIL)
    assert len(caplog.messages) == 2
    assert_plain("".join(caplog.messages))
    assert_plain(flow_of_stages._failure(MetaloomError(EVIL)).message)


def test_messages(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    def refused() -> None:
        raise MetaloomError(EVIL)

    monkeypatch.delenv("METALOOM_ERROR_FILE", raising=False)
    say(EVIL)
    complain(EVIL)
    with pytest.raises(SystemExit):
        main(refused)
    _fail(EVIL)
    out, err = capsys.readouterr()
    assert_plain(out)
    assert_plain(err)
    assert out.count("alert(7)") == 3 and err.count("alert(7)") == 9


def test_what_doctor_judge_promote_plan_and_gc_print(tmp_path: Path, capsys, monkeypatch):
    """What they were asked for: domains, files, and other users' processes have names."""
    for check in ("_code", "_room", "_versions", "_processes", "_names", "_deployment", "_flow_runs"):
        monkeypatch.setattr(doctor, check, lambda root: [])
    for check in ("of_config", "of_dvc", "of_cache", "of_outputs", "of_hashes", "of_remotes"):
        monkeypatch.setattr(health, check, lambda root: [health.Fault(EVIL, EVIL)])
    monkeypatch.setattr(doctor, "enter_project", lambda: tmp_path)
    monkeypatch.setattr("metaloom.config.load_settings", lambda path: None)
    with pytest.raises(typer.Exit):
        doctor.doctor()

    domains = [{"domain": EVIL, "gain": 0.1, "low95": 0.0, "high95": 0.2}]
    verdict = SimpleNamespace(message=EVIL, evidence={"domains": domains}, held=(), outcome="better")
    monkeypatch.setattr("metaloom.versioning.project.find_root", lambda: tmp_path)
    monkeypatch.setattr("metaloom.judging.judge", lambda *_, **__: verdict)
    with pytest.raises(typer.Exit):
        judge.judge("v1")

    monkeypatch.setattr(registry, "promote", lambda *_: ("v1", "c", EVIL))
    monkeypatch.setattr(models, "_kept", lambda *_: "kept")
    models.promote()
    unused = SimpleNamespace(objects=1, outputs={EVIL: 1}, unnamed=0, size=1)
    monkeypatch.setattr("metaloom.versioning.gc.find_unused", lambda root: unused)
    monkeypatch.setattr("metaloom.versioning.gc.collect_garbage", lambda root: None)
    models.gc(yes=True)

    monkeypatch.setattr("metaloom.planning.plan.make_plan", lambda *_: SimpleNamespace(findings=[EVIL], way_out=EVIL))
    monkeypatch.setattr("metaloom.data.packed.Dataset.load", lambda folder: None)
    monkeypatch.setattr(plan, "read_params", dict)
    with pytest.raises(typer.Exit):
        plan._show(tmp_path, "dataset", 0)
    out, err = capsys.readouterr()
    assert_plain(out)
    assert_plain(err)
    assert (out.count("=1+1"), err.count("=1+1")) == (16, 2)


def test_a_progress_bar_takes_no_markup_from_a_name():
    with bar("reading", 2, EVIL) as progress:
        progress.update(1, "[/nothing] " + EVIL)


def test_the_table_of_what_is_wrong_with_data():
    from rich.console import Console

    problems = {"unreadable": [{"source": EVIL, "reason": "[/x]"}], "few": [{"class": EVIL, "examples": 1}]}
    report = {"examples": 2, "used": 1, "classes": 1, "domains": 1, "problems": problems}
    console = Console(width=400, record=True, file=io.StringIO())
    console.print(_table(report, Path(EVIL.replace("/", "_"))))
    assert_plain(console.export_text())


def test_the_report(tmp_path: Path):
    project = make_project(tmp_path, 6, settings=("5w1s",), class_name=EVIL, prefix=EVIL)
    write_quality(project, 10, {"unreadable": [{"source": EVIL + ".png", "reason": EVIL}]})
    assert_harmless(build(project))


def answers(domains: int) -> Answers:
    rows = np.arange(4 * domains).reshape(1, domains, 4)
    table = EpisodeTable(rows[:, :, :1], rows[:, :, 1:])
    return Answers(np.log(np.full((1, 3 * domains, domains), 1 / domains)), table)


@pytest.fixture
def plotted(tmp_path: Path) -> Path:
    """A project of plots alone, with a first commit."""
    (tmp_path / "dvc.yaml").write_text(
        "plots:\n  - domains:\n      template: domains\n      x: domain\n      y:\n        domains.csv: learner\n"
    )
    (tmp_path / "params.yaml").write_text("{}\n")
    run_here(tmp_path, "git", "init", "-q")
    run_here(tmp_path, "dvc", "init", "-q")
    shutil.copytree(REPO / ".dvc/plots", tmp_path / ".dvc/plots")
    everyone = Everyone({"maml": {"3w1s": answers(3)}}, {"maml": "meta"}, "maml", 10, np.arange(12) // 4)
    domain_rows(everyone, ["3w1s"], pd.Series([EVIL, "b", "c"]).repeat(4)).to_csv(tmp_path / "domains.csv", index=False)
    run_here(tmp_path, "git", "add", "-A")
    run_here(tmp_path, "git", "commit", "-qm", "plots")
    return tmp_path


def test_dvcs_page_of_plots_and_the_table_that_it_shows(plotted: Path):
    assert "'=1+1" in set(pd.read_csv(plotted / "domains.csv")["domain"].str[:5])
    run_here(plotted, "dvc", "plots", "show", "-q")
    page = (plotted / "dvc_plots/index.html").read_text()
    assert "alert(7)" in page
    assert_harmless(page)


def test_a_comparison_with_plots_of_before(plotted: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("metaloom.versioning.revisions.keep_offline", lambda root: False)  # asks a registry
    table = pd.read_csv(plotted / "domains.csv")
    table["domain"] = EVIL  # as versions before this one wrote it
    table.to_csv(plotted / "domains.csv", index=False)
    page = plots_differ(plotted, "HEAD", "workspace", plotted / "out")
    assert page is not None and "alert(7)" in page.read_text()
    assert_harmless(page.read_text())


def test_curves_of_a_method_that_was_not_trained_are_not_spoken_of(plotted: Path, monkeypatch, capfd):
    monkeypatch.setattr("metaloom.versioning.revisions.keep_offline", lambda root: False)
    with (plotted / "dvc.yaml").open("a") as file:
        file.write("        untrained.csv: learner\n")
    assert plots_differ(plotted, "HEAD", "workspace", plotted / "out") is not None
    assert capfd.readouterr().err == ""


def test_a_bundles_page_shows_names_as_text():
    """Names are in a script of its own file, and the page shows them as text."""
    page = (REPO / "src/metaloom/kinds/pictures/shipped/index.html").read_text(encoding="utf-8")
    assert "innerHTML" not in page and "document.write" not in page and "insertAdjacentHTML" not in page
