"""`metaloom doctor` names what is wrong, and --fix puts it right."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import typer
from prefect.client import orchestration
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings
from projects import REPO
from test_flipped_bytes import flip, stored

from metaloom.cli import doctor
from metaloom.errors import MetaloomError
from metaloom.pipeline.stages import due_stages, reproduce
from metaloom.versioning.data import version_dataset
from metaloom.versioning.health import of_cache, of_config, of_dvc, of_hashes, of_outputs, of_remotes
from metaloom.versioning.project import open_project


@pytest.fixture
def root(standin):
    version_dataset(standin.root)
    reproduce(standin.root, "prepare")
    return standin.root


def test_a_sound_project_is_said_so(root, standin):
    done = standin.command("doctor")
    assert (done.returncode, done.stdout, done.stderr) == (0, "all is well\n", "")


@pytest.mark.slow
def test_all_that_can_be_is_put_right(root, standin):
    standin.dvc("remote", "add", "-d", "store", str(root / "store"))
    standin.dvc("remote", "add", "gone", "http://127.0.0.1:9/nowhere")
    right = (root / "prepare.txt").read_text()
    flip(root / "prepare.txt")
    flip(stored(root, "prepare.txt").parent.parent / "b0/26324c6904b2a9cb4b88d6d61c81d1")  # md5 of data/a
    (root / ".dvc/tmp/rwlock").write_text("")
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "-m metaloom.stages.train"], cwd=root)
    reaper = threading.Thread(target=left.wait)  # as init does it for one whose parent has ended
    reaper.start()
    try:
        wrong = standin.command("doctor")
        assert wrong.returncode == 1
        cleared, *named, _ = [line.removeprefix("wrong: ").split(":")[0] for line in wrong.stdout.splitlines()]
        assert cleared == ".dvc/tmp/rwlock was broken, and nobody holds it"
        assert named == [
            named[0],
            "1 file in DVC's cache is damaged",
            "prepare.txt of prepare is damaged",
            named[3],
            "remote store is not verified by `dvc pull` (metaloom itself verifies it)",
            "remote gone is not verified by `dvc pull` (metaloom itself verifies it)",
        ]
        assert f"process {left.pid} " in named[0] and "remote gone cannot be used" in named[3]
        fixed = standin.command("doctor", "--fix")
        rest = [line for line in fixed.stdout.splitlines() if line.startswith("wrong")]
        assert fixed.returncode == 1 and len(rest) == 1 and "remote gone cannot be used" in rest[0]
    finally:
        left.kill()
        reaper.join()
    assert left.returncode == -signal.SIGTERM
    assert (root / "prepare.txt").read_text() == right
    assert standin.command("doctor").stdout.endswith("\nthis is yours to put right\n")
    standin.dvc("remote", "remove", "gone")
    assert standin.command("doctor").stdout == "all is well\n"


def test_outputs_that_are_missing_are_named_and_brought_back(root, standin):
    """As a stage leaves it that fails under plain `dvc repro`: DVC removes its outputs first."""
    reproduce(root, "train@protonet")
    right = (root / "prepare.txt").read_text()
    (root / "prepare.txt").unlink()
    shutil.rmtree(root / "data")
    data, output = (each.what for each in sorted(of_outputs(root), key=lambda each: each.what))
    assert (data, output) == ("data of data.dvc is missing", "prepare.txt of prepare is missing")
    assert all(each.fix() for each in of_outputs(root)) and list(of_outputs(root)) == []
    assert (root / "prepare.txt").read_text() == right and (root / "data/a").exists()


def test_an_output_that_was_written_to_is_named_and_put_back(root):
    """DVC sees it, too, and would make it again."""
    right = (root / "prepare.txt").read_text()
    (root / "prepare.txt").write_text("other")
    (fault,) = of_hashes(root)
    assert fault.what == "prepare.txt of prepare is damaged"
    assert fault.fix() and list(of_hashes(root)) == []
    assert (root / "prepare.txt").read_text() == right


def test_what_the_next_run_makes_anew_is_not_called_damaged(root):
    (root / "prepare.txt").write_text("other")
    (root / "data/new").write_text("1\n")
    assert list(of_hashes(root)) == []


@pytest.mark.parametrize("mode", [0o444, 0o644])
def test_an_object_of_the_cache_is_named_and_comes_again(root, mode):
    """DVC removes one that is not write-protected as soon as it is asked about it."""
    held = stored(root, "prepare.txt")
    right = held.read_bytes()
    held.chmod(0o644)
    held.write_bytes(b"X" + right[1:])
    held.chmod(mode)
    (fault,) = of_cache(root)
    assert fault.what == "1 file in DVC's cache is damaged" and held.exists()
    assert fault.fix() and list(of_cache(root)) == []
    assert held.read_bytes() == right


def test_an_object_that_the_cache_lacks_comes_from_the_workspace(root):
    held = stored(root, "prepare.txt")
    right = held.read_bytes()
    held.unlink()
    (fault,) = of_cache(root)
    assert fault.what == "DVC's cache lacks prepare.txt, which the workspace has"
    assert fault.fix() and list(of_cache(root)) == []
    assert held.read_bytes() == right


@pytest.mark.slow
def test_what_is_missing_and_in_no_cache_the_next_run_makes(root, standin):
    right = (root / "prepare.txt").read_text()
    stored(root, "prepare.txt").unlink()
    (root / "prepare.txt").unlink()
    done = standin.command("doctor", "--fix")
    assert done.returncode == 1 and done.stderr == ""
    assert done.stdout.startswith("wrong: prepare.txt of prepare is missing: `metaloom run` takes it from")
    reproduce(root, "prepare")
    assert (root / "prepare.txt").read_text() == right


def test_a_clone_in_which_nothing_was_made_yet_lacks_nothing(root):
    (root / "prepare.txt").unlink()
    shutil.rmtree(root / "data")
    shutil.rmtree(root / ".dvc/cache")
    assert list(of_outputs(root)) == []


def test_settings_that_cannot_be_read_are_named(root, standin):
    (root / "params.yaml").write_text("seed: many\n")
    done = standin.command("doctor", "--fix")
    assert done.returncode == 2 and "params.yaml: seed" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("change", ["by hand", "by the disk"])
def test_data_that_are_nowhere_else_stay(root, standin, change):
    (root / "data/new").write_text("unsaved\n")
    if change == "by the disk":
        (root / "data/new").unlink()
        flip(root / "data/a")
        flip(root / ".dvc/cache/files/md5/b0/26324c6904b2a9cb4b88d6d61c81d1")
    before = {path.name: path.read_bytes() for path in (root / "data").iterdir()}
    done = standin.command("doctor", "--fix")
    assert {path.name: path.read_bytes() for path in (root / "data").iterdir()} == before
    assert done.returncode == (change == "by the disk") == ("data/a of data.dvc is damaged" in done.stdout)


CUT = {
    b"[core": "holds no settings that DVC can read (Invalid line ('[core') ",
    b"\xff\xfe": "holds no settings that DVC can read ('utf-8' codec can't decode byte 0xff in position 0",
    b"[core]\n    remote = st": "is cut off in the middle of a line",
    b"": "is empty, and not so in git",
}


def test_a_file_of_dvcs_settings_that_was_cut_off_is_named_and_taken_from_git(standin, monkeypatch, capsys):
    path, whole = (
        standin.root / ".dvc/config",
        b"[core]\n    remote = store\n['remote \"store\"']\n    url = /nowhere\n",
    )
    path.write_bytes(whole)
    standin.git("commit", "--quiet", "--message", "a remote", ".dvc/config")
    assert list(of_config(standin.root)) == []
    for left, how in CUT.items():
        path.write_bytes(left)
        (fault,) = of_config(standin.root)
        assert fault.what.startswith(f".dvc/config {how}") and fault.remedy == (
            "git checkout .dvc/config (what was never committed is lost then; `--fix` keeps it as "
            ".metaloom/dvc-config.broken)"
        )
        assert fault.fix() and path.read_bytes() == whole
        assert (standin.root / ".metaloom/dvc-config.broken").read_bytes() == left
    path.write_bytes(b"[core")
    with pytest.raises(typer.Exit):
        doctor.doctor(fix=False)
    first, last = capsys.readouterr().out.splitlines()  # without it nothing else can be looked at
    assert first.startswith("wrong: .dvc/config holds no settings") and last.startswith("`metaloom doctor --fix` puts")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[core", r"^.dvc/config holds no settings that DVC can read \(Invalid line .*\): correct it$"),
        ("[core]\n    nonsense = 1\n", r"^.dvc/config holds .* \(extra keys not allowed .*nonsense.*\): correct it$"),
    ],
)
def test_settings_of_dvc_that_cannot_be_read_are_one_line_to_every_command(tmp_path, content, said):
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text(content)
    with pytest.raises(MetaloomError, match=said), open_project(tmp_path):
        pass


def test_a_default_remote_that_is_none_is_named(root, standin):
    (root / ".dvc/config").write_text("[core]\n    remote = st\n")
    (fault,) = of_remotes(root)
    assert fault.what == ".dvc/config has no remote st, which it names as the default"


def test_too_little_room_and_folders_that_cannot_be_written_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**30))
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: path != tmp_path / ".dvc")
    full, closed = doctor._room(tmp_path)
    assert full.what.startswith("1.0 GiB free on the disk") and full.remedy == "a run should find 2 GiB"
    assert closed.what == f"{tmp_path / '.dvc'} cannot be written" and "chown or chmod" in closed.remedy


def test_conflicts_of_git_are_named(tmp_path):
    (tmp_path / "dvc.lock").write_text("<<<<<<< HEAD\n")
    (fault,) = of_dvc(tmp_path)
    assert fault.what == "dvc.lock has conflicts of git" and "git checkout --ours dvc.lock" in fault.remedy


def test_a_dvc_yaml_without_stages_is_named(root):
    (root / "dvc.yaml").write_text("")
    fault, *_ = of_outputs(root)
    assert (fault.what, fault.remedy) == ("dvc.yaml names no stages", "git checkout dvc.yaml")
    with pytest.raises(MetaloomError, match="^dvc.yaml names no stages: `git checkout dvc.yaml` brings back"):
        due_stages(root)


def installed(monkeypatch, wanted: dict[str, list[str]], versions: dict[str, str]) -> None:
    """What packages require, and which versions are there."""

    def found(table):
        def look(name):
            if name not in table:
                raise PackageNotFoundError(name)
            return table[name]

        return look

    monkeypatch.setattr(doctor, "requires", found(wanted))
    monkeypatch.setattr(doctor, "version", found(versions))


WANTED = {"metaloom": ["alpha>=1", "beta", "extra; extra == 'test'"], "alpha": ["gamma<2", "old; python_version < '3'"]}


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ({"alpha": "1.2", "beta": "3", "gamma": "1.9"}, []),
        ({"alpha": "0.9", "beta": "3", "gamma": "1.9"}, ["alpha is 0.9, and metaloom wants >=1"]),
        ({"alpha": "1.2", "beta": "3", "gamma": "2.1"}, ["gamma is 2.1, and alpha wants <2"]),
        ({"alpha": "2.0rc1", "gamma": "1"}, ["beta is not installed"]),
    ],
)
def test_versions_that_do_not_fit_are_named(monkeypatch, tmp_path, versions, said):
    installed(monkeypatch, WANTED, versions)
    assert [each.what for each in doctor._versions(tmp_path)] == said


def test_the_pinned_versions_fit(tmp_path):
    assert list(doctor._versions(tmp_path)) == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("here", []),
        ("/elsewhere", ["the deployment retrain/retrain is of /elsewhere"]),
        (".", []),  # in a container, say
        (None, []),
        (ObjectNotFound(LookupError()), []),
        (httpx.ConnectError("refused"), ["the Prefect server at http://127.0.0.1:9/api does not answer (refused)"]),
    ],
)
def test_a_deployment_that_points_elsewhere_is_named(monkeypatch, tmp_path, answer, said):
    import flows.notes  # noqa: F401 (whose own client it is, before there is another)

    class Client:
        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda *_: None  # noqa: E731

        def read_deployment_by_name(self, name):
            assert name == "retrain/retrain"
            if isinstance(answer, Exception):
                raise answer
            return SimpleNamespace(path=str(tmp_path) if answer == "here" else answer)

    monkeypatch.setattr(orchestration, "get_client", lambda sync_client: Client())
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert [each.what for each in doctor._deployment(Path(tmp_path))] == said


def test_a_project_of_another_name_than_prefect_yaml_has_is_named(tmp_path):
    (tmp_path / "params.yaml").write_text((REPO / "params.yaml").read_text())
    assert list(doctor._names(tmp_path)) == []
    (tmp_path / "prefect.yaml").write_text((REPO / "prefect.yaml").read_text())
    assert list(doctor._names(tmp_path)) == []
    change_settings(tmp_path, "  name: retrain ", "  name: shop ")
    said = "prefect.yaml has retrain, retrain-workers, retrain-docker, retrain-kubernetes, metaloom.project.retrain"
    assert [each.what for each in doctor._names(tmp_path)] == [f"{said}, and retrain.name is shop"]
    (tmp_path / "prefect.yaml").write_text("deployments: [1]")
    assert [each.what for each in doctor._names(tmp_path)] == ["prefect.yaml is damaged"]


def change_settings(root: Path, before: str, after: str) -> None:
    text = (root / "params.yaml").read_text()
    assert before in text
    (root / "params.yaml").write_text(text.replace(before, after))
