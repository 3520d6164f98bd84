"""`metaloom init`: a project without the tool's sources, and what an upgrade of the tool makes again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import together
import yaml
from projects import REPO, TINY, run_here, write_params
from typer.testing import CliRunner

from metaloom import __version__
from metaloom.cli import doctor
from metaloom.cli import init as module
from metaloom.cli.app import app
from metaloom.cli.doctor import _code
from metaloom.errors import MetaloomError
from metaloom.pipeline.code import SEEN, compared, hashes, renew_code, take_over
from metaloom.pipeline.stages import due_stages, stage_names
from metaloom.system.git import revision
from metaloom.versioning.code import CODE, read_code
from metaloom.versioning.data import version_dataset


def init(*arguments: str | Path) -> str:
    """What the command says; raises what it raises."""
    done = CliRunner().invoke(app, ["init", *map(str, arguments)])
    if isinstance(done.exception, MetaloomError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A project as the command makes it, which hashes all code: made once."""
    made = together.once("own_project", lambda folder: print(init(folder / "mine")))
    return Path(shutil.copytree(made / "mine", tmp_path / "mine", symlinks=True))


def test_a_project_has_settings_and_no_code(mine: Path):
    found = {str(path.relative_to(mine)) for path in mine.rglob("*") if path.is_file() and ".git/" not in str(path)}
    assert not [each for each in found if each.endswith(".py")]
    assert found >= {"params.yaml", "dvc.yaml", CODE, "README.md", ".gitignore", "prefect.yaml", ".dvc/plots/ways.json"}
    stages = yaml.safe_load((mine / "dvc.yaml").read_text())["stages"]
    for name, stage in stages.items():
        body = stage.get("do", stage)
        assert not [each for each in body["deps"] if each.startswith("src")], name
        assert {CODE: [name]} in body["params"]
    its_own = (REPO / "params.yaml").read_text().replace("  name: retrain ", "  name: mine ")
    assert (mine / "params.yaml").read_text() == its_own
    prefect = (mine / "prefect.yaml").read_text()
    names = [each["name"] for each in yaml.safe_load(prefect)["deployments"]]
    teams = (f"mine-{kind}{stages}" for kind in ("workers", "docker", "kubernetes") for stages in ("", "-stages"))
    assert names == ["mine", *teams]
    assert "metaloom.project.mine" in prefect and list(doctor._names(mine)) == []
    assert stage_names(mine)[:4] == ["prepare", "embed", "plan", "split"]  # DVC takes it
    assert not run_here(mine, "git", "status", "--short").stdout and revision(mine)


def test_its_kind_comes_with_a_network_that_takes_it(tmp_path: Path):
    init(tmp_path / "intents", "--kind", "text")
    params = yaml.safe_load((tmp_path / "intents/params.yaml").read_text())
    assert params["kind"] == "text" and params["network"]["name"] == "linear"


@pytest.mark.parametrize("name", ["2026", "2026-11-28", "yes", "null", "0x1F", "Bolts & nuts"])
def test_a_name_that_yaml_reads_as_something_else_is_quoted(name: str):
    own = "Bolts-nuts" if name.startswith("Bolts") else name
    params = yaml.safe_load(module._settings((REPO / "params.yaml").read_text(), "pictures", name))
    assert params["retrain"]["name"] == own
    deployments = yaml.safe_load(module._deployments((REPO / "prefect.yaml").read_text(), name))["deployments"]
    pools = [f"{own}-{pool}{of}" for pool in ("workers", "docker", "kubernetes") for of in ("", "-stages")]
    assert sorted(each["name"] for each in deployments) == sorted([own, *pools])


def test_without_data_it_says_so_and_builds_no_glyphs(mine: Path):
    with pytest.raises(MetaloomError, match="holds no files: put data there, or `metaloom data add PATH`"):
        version_dataset(mine)
    assert not (mine / "data").exists()


@pytest.mark.parametrize(("name", "words"), [("full", r"is not empty \(it holds mine.txt\)"), ("file", "is a file")])
def test_what_is_there_stays(tmp_path: Path, name: str, words: str):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").touch()
    (tmp_path / "file").touch()
    with pytest.raises(MetaloomError, match=words):
        init(tmp_path / name)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


@pytest.mark.slow
def test_an_empty_clone_becomes_the_project_where_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run_here(tmp_path, "git", "init", "-q", "clone")
    run_here(tmp_path / "clone", "git", "remote", "add", "origin", "/nowhere")
    monkeypatch.chdir(tmp_path / "clone")
    there = (tmp_path / "clone").stat().st_ino
    init(".")
    assert (tmp_path / "clone").stat().st_ino == there
    assert "/nowhere" in (tmp_path / "clone/.git/config").read_text() and (tmp_path / "clone/.dvc/config").is_file()


@pytest.mark.slow
def test_inside_another_repository_it_is_a_part_of_that(tmp_path: Path):
    run_here(tmp_path, "git", "init", "-q")
    run_here(tmp_path, "git", "commit", "-q", "--allow-empty", "-m", "theirs")
    before = revision(tmp_path)
    init(tmp_path / "models/mine")
    assert not (tmp_path / "models/mine/.git").exists() and revision(tmp_path) == before
    assert "A  models/mine/dvc.yaml" in run_here(tmp_path, "git", "status", "--short").stdout
    assert stage_names(tmp_path / "models/mine")


def test_a_failure_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "DVC", (sys.executable, "-c", "import sys; sys.exit('no room')"))
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        with pytest.raises(MetaloomError, match="failed: no room$"):
            init(tmp_path / name)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["empty"]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hashes are taken in this process, which keeps them."""

    def run(command: list[str], cwd: Path, **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 0, compared(cwd), "")

    monkeypatch.setattr("metaloom.pipeline.code.subprocess", SimpleNamespace(run=run))


def upgraded(root: Path, **other: str) -> None:
    """As if an older metaloom had written code.yaml."""
    (root / CODE).write_text(yaml.safe_dump((read_code(root) or {}) | other))


@pytest.mark.usefixtures("here")
def test_an_upgrade_says_what_it_makes_again(mine: Path):
    now = read_code(mine)
    assert take_over(mine) is None and read_code(mine) == now == {
        "metaloom": __version__,
        **hashes((mine / "dvc.yaml").read_text()),
    }
    upgraded(mine, metaloom="0.0.9", train="0" * 16, report="1" * 16)
    said = f"metaloom 0.0.9 → {__version__}: other code than before for train, report: these run again, and"
    said += " what depends on them"
    assert take_over(mine) == said and read_code(mine) == now and take_over(mine) is None
    assert (mine / SEEN).is_file()
    upgraded(mine, train="0" * 16)
    assert (take_over(mine) or "").endswith("for train: it runs again, and what depends on it")
    upgraded(mine, metaloom="0.0.9")
    assert take_over(mine) is None and read_code(mine) == now  # another version with the same code


def test_a_conflict_of_git_in_it_is_written_over(mine: Path):
    now = read_code(mine)
    (mine / CODE).write_text("<<<<<<< HEAD\nprepare: 1\n")
    assert "these run again" in (take_over(mine) or "") and read_code(mine) == now


BROKEN = {
    "missing": (None, "code.yaml is missing, which dvc.yaml names"),
    "empty": ("", "code.yaml is broken"),
    "a conflict of git": ("<<<<<<< HEAD\nprepare: 1\n", "code.yaml is broken"),
    "a date that is none": ("metaloom: 2020-99-99\n", "code.yaml is broken"),
    "numbers": ("metaloom: 1\n", "code.yaml is broken"),
    "older": ("metaloom: 0.0.9\n", f"code.yaml is of metaloom 0.0.9, and {__version__} is installed"),
    "of other code": (
        f"metaloom: {__version__}\ntrain: '0'\n",
        "code.yaml is of other code than the one that is installed",
    ),
}


@pytest.mark.parametrize(
    "name", ["missing", *(pytest.param(each, marks=pytest.mark.slow) for each in list(BROKEN)[1:])]
)
def test_doctor_names_a_code_file_that_is_not_right(mine: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    """The hashes themselves are tested above."""
    now = read_code(mine)
    monkeypatch.setattr(
        "metaloom.pipeline.code.hashes", lambda dag: {k: v for k, v in (now or {}).items() if k != "metaloom"}
    )
    assert list(_code(mine)) == []
    content, words = BROKEN[name]
    (mine / CODE).unlink() if content is None else (mine / CODE).write_text(content)
    (finding,) = _code(mine)
    assert finding.what.startswith(words) and finding.remedy == "`metaloom run` writes it again"
    monkeypatch.setattr("metaloom.pipeline.code.take_over", compared)
    assert finding.fix is not None and finding.fix() and read_code(mine) == now and list(_code(mine)) == []


def test_a_project_with_the_tool_s_code_wants_no_code_file(repo: Path):
    assert list(_code(repo)) == []


@pytest.mark.usefixtures("here")
def test_a_scheduled_run_takes_other_code_for_due(mine: Path, shapes: Path):
    shutil.copytree(shapes, mine / "data")
    version_dataset(mine)
    upgraded(mine, metaloom="0.0.9")
    renew_code(mine)
    assert due_stages(mine)
    assert (read_code(mine) or {})["metaloom"] == __version__


def test_plain_repro_after_an_upgrade_is_refused(mine: Path, shapes: Path):
    shutil.copytree(shapes, mine / "data")
    upgraded(mine, metaloom="0.0.9")
    refused = run_here(mine, "dvc", "repro", "prepare", check=False)
    assert f"error: {CODE} is of metaloom 0.0.9, and {__version__} is installed: `metaloom run`" in refused.stderr
    assert not (mine / "artifacts/dataset").exists()


@pytest.mark.parametrize(
    "whole",
    [
        pytest.param(False, marks=pytest.mark.slow, id="to its splits"),
        pytest.param(True, marks=pytest.mark.sweep, id="to its bundle"),  # five minutes beside other tests
    ],
)
def test_a_project_made_from_a_wheel_runs(whole: bool, tmp_path: Path, shapes: Path):
    """The wheel alone on the path, three commands: no file of the repo is at hand."""
    run_here(REPO, sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(REPO))
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    path = {"PYTHONPATH": str(tmp_path / "site")}

    def metaloom(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run_here(root, sys.executable, "-c", "from metaloom.cli.app import main; main()", *arguments, **path)

    code = "import metaloom, flows; print(metaloom.__file__, flows.__file__)"
    where = run_here(tmp_path, sys.executable, "-c", code, **path)
    assert where.stdout.split() == [str(tmp_path / f"site/{name}/__init__.py") for name in ("metaloom", "flows")]
    metaloom(tmp_path, "init", "mine")
    mine = tmp_path / "mine"
    write_params(mine, yaml.safe_load((mine / "params.yaml").read_text()), TINY)
    metaloom(mine, "data", "add", str(shapes))
    if not whole:
        run_here(mine, sys.executable, "-m", "dvc", "repro", "split", **path)
        assert (mine / "artifacts/splits/classes.parquet").is_file()
        assert "everything fits" in metaloom(mine, "plan").stdout
        return
    assert "artifacts/bundle" in metaloom(mine, "run").stdout
    status = run_here(mine, "dvc", "status", **path).stdout
    assert "up to date" in status, status
    metaloom(mine, "verify", "artifacts/bundle")
    assert all("artifacts" in path.parts for path in mine.rglob("*.py"))  # a bundle has its own


def test_the_deployment_is_found_without_a_file_of_its_own(mine: Path):
    deployments = yaml.safe_load((mine / "prefect.yaml").read_text())["deployments"]
    entrypoints = sorted({each["entrypoint"] for each in deployments})
    code = (
        "from prefect.flows import load_flow_from_entrypoint as load; import sys; "
        "print(*(load(each).name for each in sys.argv[1:]))"
    )
    path = f"{REPO}{os.pathsep}{REPO / 'src'}"
    assert run_here(mine, sys.executable, "-c", code, *entrypoints, PYTHONPATH=path).stdout.split() == [
        "retrain",
        "stage",
    ]


@pytest.mark.slow
def test_without_a_name_for_git_there_is_a_first_commit_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in [each for each in os.environ if each.startswith("GIT_")] + ["EMAIL"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    (tmp_path / ".gitconfig").write_text("[user]\n    useConfigOnly = true\n")
    init(tmp_path / "mine")
    assert revision(tmp_path / "mine")


def test_what_a_killed_one_has_left_does_not_stop_the_next(tmp_path: Path):
    """But nothing of the user's goes."""
    folder = tmp_path / "mine"
    for name, text in ((".metaloom/init", ""), ("dvc.yaml", "stages:"), (".dvc/config", ""), (".git/HEAD", "")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "photo.png").write_bytes(b"mine")
    with pytest.raises(MetaloomError, match="is not empty"):
        init(folder)
    assert (folder / "photo.png").is_file() and (folder / "dvc.yaml").is_file()
    (folder / "photo.png").unlink()
    init(folder)
    assert stage_names(folder) and revision(folder) and not (folder / ".metaloom").exists()


def test_without_git_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MetaloomError, match="git is not installed"):
        init(tmp_path / "mine")
    assert list(tmp_path.iterdir()) == []


def test_inside_a_project_it_is_one_of_its_own_unless_git_ignores_the_folder(mine: Path):
    assert "mine/sub is a metaloom project" in init(mine / "sub")
    assert stage_names(mine / "sub") and (mine / "sub/.dvc/config").is_file()
    assert "A  sub/dvc.yaml" in run_here(mine, "git", "status", "--short").stdout
    for name in ("artifacts/new", "data", "report/a/b"):
        with pytest.raises(MetaloomError, match=rf"{name} is ignored by git \(.gitignore:\d:/\w+/?\): choose a folder"):
            init(mine / name)
    assert not (mine / "artifacts").exists() and not (mine / "data").exists()
