"""Remotes that refuse, are not there, break off, hang: S3 (moto's server) and SSH (a server on loopback), whole."""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import io
import os
import shutil
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import together
import yaml
from projects import REPO, run_here
from proxy import Proxy
from s3 import BUCKET, Moto
from standins import PATIENCE

from metaloom.cli import models
from metaloom.errors import MetaloomError
from metaloom.retraining import clones, relay, transfers
from metaloom.retraining.nights import Night
from metaloom.system.files import write_json
from metaloom.system.limits import HungError
from metaloom.system.lock import BusyError
from metaloom.versioning import remotes
from metaloom.versioning.data import version_dataset
from metaloom.versioning.project import open_project
from metaloom.versioning.remotes import _problem, push_version
from metaloom.versioning.revisions import at_revision
from metaloom.versioning.silence import limit_silence

EXTRAS = {"s3": "dvc_s3", "gs": "dvc_gs", "azure": "dvc_azure", "ssh": "dvc_ssh"}
SIZE = 3_000_000  # bytes of one file: several pieces for a proxy to count


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remotes, "WAITS", (0.1, 0.2))


def make_project(root: Path) -> None:
    (root / "data").mkdir()
    (root / "data/a").write_bytes(os.urandom(SIZE))
    (root / "data/b").write_text("b\n")
    (root / "dvc.yaml").write_text("stages: {}\n")
    shutil.copy(REPO / "params.yaml", root)
    run_here(root, "git", "init", "-q")
    run_here(root, "dvc", "init", "-q")
    with open_project(root) as repo:
        repo.add(str(root / "data"))
    run_here(root, "git", "add", "-A")
    run_here(root, "git", "commit", "-qm", "data")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """One version of data/ of two files, without a remote."""
    made = together.once("project_for_remotes", make_project)
    return Path(shutil.copytree(made, tmp_path / "project", symlinks=True))


def configure(root: Path, url: str, **options: str) -> None:
    """The remote of a project, its only one, in the file that git does not see."""
    lines = [f"    {name} = {value}\n" for name, value in {"url": url, **options}.items()]
    (root / ".dvc/config.local").write_text("[core]\n    remote = store\n['remote \"store\"']\n" + "".join(lines))


def use_s3(root: Path, port: int, user: tuple[str, str], bucket: str = BUCKET) -> None:
    configure(
        root, f"s3://{bucket}/{root.parent.name}", endpointurl=f"http://127.0.0.1:{port}", access_key_id=user[0],
        secret_access_key=user[1], region="us-east-1", read_timeout="5", connect_timeout="5",
    )  # fmt: skip


def clone_without_data(root: Path) -> Path:
    clone = root.parent / "clone"
    run_here(root.parent, "git", "clone", "-q", str(root), str(clone))
    shutil.copy(root / ".dvc/config.local", clone / ".dvc/config.local")
    return clone


def never(folder: Path) -> None:
    raise AssertionError("the embedded data were built instead")


def refusal(call, kind: type[MetaloomError] = MetaloomError) -> str:
    with pytest.raises(MetaloomError) as caught:
        call()
    assert type(caught.value) is kind, repr(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("protocol", EXTRAS)
def test_an_absent_extra_is_named(project: Path, protocol: str):
    if importlib.util.find_spec(EXTRAS[protocol]):
        pytest.skip("it is here")
    configure(project, f"{protocol}://{BUCKET}/x")
    assert "pip install 'metaloom[s3]'" in refusal(lambda: push_version(project, "HEAD"))


def test_without_a_remote_nothing_is_pushed(project: Path):
    assert push_version(project, "HEAD") is None


def test_a_promotion_whose_files_stay_behind_says_how_they_are_sent(project: Path, monkeypatch: pytest.MonkeyPatch):
    def away(*_: object) -> None:
        raise BusyError("the remote does not answer")

    monkeypatch.setattr(remotes, "push_version", away)
    said = refusal(lambda: models._kept(project, "v0.0.1", "HEAD", "candidate"))
    assert "cache alone: the remote does not answer; then `metaloom promote v0.0.1` sends them (with --stage" in said


def test_an_older_commit_is_sought_where_files_lie_now(project: Path):
    """The commit was made before there was this remote, or a cache elsewhere."""
    run_here(project, "dvc", "remote", "add", "-d", "store", "s3://nowhere/gone")
    run_here(project, "dvc", "remote", "modify", "store", "endpointurl", "http://127.0.0.1:1")
    run_here(project, "git", "commit", "-qam", "a remote that is given up later, of the same name as the next")
    run_here(project, "dvc", "remote", "remove", "store")
    run_here(project, "dvc", "remote", "add", "-d", "store", str(project.parent / "store"))
    run_here(project, "dvc", "cache", "dir", str(project.parent / "cache"))
    shutil.move(project / ".dvc/cache", project.parent / "cache")
    run_here(project, "git", "commit", "-qam", "cache and remote are elsewhere")
    for commit in ("HEAD~1", "HEAD~2"):
        with at_revision(project, commit) as revision:
            assert (revision.get("data", project.parent / f"cached_{commit}") / "b").read_text() == "b\n"
    assert push_version(project, "HEAD~2") == 3
    shutil.rmtree(project.parent / "cache")
    for commit in ("HEAD~1", "HEAD~2"):
        with at_revision(project, commit) as revision:
            assert (revision.get("data", project.parent / f"pulled_{commit}") / "b").read_text() == "b\n"


def test_a_disk_that_is_full_under_a_remote_is_no_silence():
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    said = str(_problem([full]))
    assert (
        said.startswith("the remote cannot be written to: ") and "No space left" in said and "make room there" in said
    )
    assert not isinstance(_problem([full]), BusyError)  # it would be tried again


def test_a_folder_as_remote_is_asked_what_it_holds(project: Path, at_once: None, monkeypatch: pytest.MonkeyPatch):
    configure(project, str(project.parent / "store"))
    assert push_version(project, "HEAD") == 3
    (stored,) = (path for path in (project.parent / "store").rglob("*") if path.is_file() and path.stat().st_size == 2)
    stored.unlink()  # behind DVC's back, which remembers that it sent it
    assert push_version(project, "HEAD") == 3 and stored.exists()

    monkeypatch.setattr("dvc_data.hashfile.transfer.transfer", lambda *_, **__: None)
    stored.unlink()
    assert "1 of 3 files have not arrived" in refusal(lambda: push_version(project, "HEAD"), BusyError)


def test_a_folder_that_is_not_there_is_a_disk_that_is_not_mounted(project: Path, at_once: None):
    """DVC makes a folder of that name; it may, the first time."""
    store = project.parent / "store"
    configure(project, str(store))
    assert push_version(project, "HEAD") == 3
    store.rename(project.parent / "away")
    message = refusal(lambda: push_version(project, "HEAD"))
    assert message.startswith(f"DVC's remote is the folder {store}, which was there and is not now: mount its disk")
    assert not store.exists()
    store.mkdir()
    assert push_version(project, "HEAD") == 3


@pytest.mark.slow
def test_s3_whole(project: Path, moto: Moto, at_once: None):
    proxy = Proxy(moto.port)
    use_s3(project, proxy.port, moto.users["owner"])
    proxy.cuts, proxy.after = 6, 1_000_000  # mid-push, as often as the client itself tries, and once more
    assert push_version(project, "HEAD") == 3 and proxy.cut > 0

    clone = clone_without_data(project)
    use_s3(clone, proxy.port, moto.users["owner"])
    (clone / ".dvc/config.local").write_text((project / ".dvc/config.local").read_text())
    proxy.cut, proxy.cuts = 0, 1
    assert "restored" in version_dataset(clone, build=never).message and proxy.cut == 1
    assert (clone / "data/a").read_bytes() == (project / "data/a").read_bytes()
    proxy.close()


@pytest.mark.slow
@pytest.mark.parametrize("who", ["stranger", "wrong secret", "nobody"])
def test_s3_403_is_a_403(project: Path, moto: Moto, at_once: None, who: str):
    key, secret = moto.users["owner"]
    user = {"stranger": moto.users["stranger"], "wrong secret": (key, "x" * 40), "nobody": ("A" * 20, secret)}[who]
    use_s3(project, moto.port, user)
    assert "the remote refuses access: " in refusal(lambda: push_version(project, "HEAD"))
    clone = clone_without_data(project)
    assert "the remote refuses access: " in refusal(lambda: version_dataset(clone, build=never))

    def get() -> None:
        with at_revision(clone, "HEAD") as revision:
            revision.get("data", clone / "elsewhere")

    assert "the remote refuses access: " in refusal(get)


@pytest.mark.slow
def test_a_checkpoint_goes_through_s3(project: Path, moto: Moto):
    use_s3(project, moto.port, moto.users["owner"])
    write_json(project / clones.OTHERS, {"handover": 10})
    night, here = Night("n", "k" * 64, "HEAD", "", 1.0), project / transfers.CHECKPOINTS / "maml.safetensors"
    here.parent.mkdir(parents=True)
    for text in ("step 7", "step 8"):
        here.write_text(text)
        relay.leave(project, project, night, {})
    here.unlink()
    relay.take(project, project, night)
    assert here.read_text() == "step 8"
    relay.forget(project, night)
    here.unlink()
    relay.take(project, project, night)
    assert not here.exists()


@pytest.mark.slow
def test_s3_without_its_bucket(project: Path, moto: Moto, at_once: None):
    use_s3(project, moto.port, moto.users["owner"], "nowhere")
    assert "the remote is not there: " in refusal(lambda: push_version(project, "HEAD"))


@pytest.mark.slow
def test_s3_down_and_back(project: Path, at_once: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # of the client itself, whose waits are long
    server = Moto()
    server.start()
    use_s3(project, server.port, server.users["owner"])
    server.stop()
    assert "the remote does not answer: " in refusal(lambda: push_version(project, "HEAD"), BusyError)
    server.start(server.port)
    use_s3(project, server.port, server.users["owner"])
    assert push_version(project, "HEAD") == 3
    server.stop()


def limit(root: Path, seconds: float) -> None:
    params = yaml.safe_load((root / "params.yaml").read_text())
    (root / "params.yaml").write_text(
        yaml.safe_dump(params | {"limits": params["limits"] | {"remote_seconds": seconds}})
    )


@pytest.mark.parametrize("written", ["0", "-1", ".inf", ".nan", "soon", "null"])
def test_a_limit_that_is_none_leaves_a_remote_as_it_is(tmp_path: Path, written: str):
    (tmp_path / "params.yaml").write_text(f"limits: {{remote_seconds: {written}}}\n")
    remote = {"url": f"http://127.0.0.1/{BUCKET}"}
    limit_silence(SimpleNamespace(config={"remote": {"x": remote}}, root_dir=str(tmp_path)))
    assert list(remote) == ["url"]


def assert_given_up(transfer: Callable[[], Any]) -> None:
    """Without a limit this would take minutes, or for ever."""
    with pytest.raises(HungError) as caught:
        transfer()
    assert str(caught.value).startswith("the remote has been silent for too long (limits.remote_seconds): ")
    assert caught.value.state == "TimedOut" and "\n" not in str(caught.value)


@pytest.mark.slow
def test_s3_that_hangs(project: Path, moto: Moto):
    key, secret = moto.users["owner"]
    proxy = Proxy(moto.port)
    configure(
        project, f"s3://{BUCKET}/hangs", endpointurl=f"http://127.0.0.1:{proxy.port}", access_key_id=key,
        secret_access_key=secret, region="us-east-1",
    )  # fmt: skip
    limit(project, 1)
    proxy.hangs, proxy.after = True, 1_000_000
    assert_given_up(lambda: push_version(project, "HEAD"))
    proxy.hangs = False
    limit(project, 60)
    assert push_version(project, "HEAD") == 3
    clone = clone_without_data(project)
    limit(clone, 1)
    proxy.hangs, proxy.after = True, 0  # a read that hangs later goes on from where it was
    assert_given_up(lambda: version_dataset(clone, build=never))
    proxy.close()


needs_ssh = pytest.mark.skipif(not importlib.util.find_spec("dvc_ssh"), reason="dvc-ssh is absent")
PASSWORD = "for this test"


class Sshd:
    """A server of SFTP on loopback that lets one password in, in a thread of its own."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder, self.port = folder, port
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.server = asyncio.run_coroutine_threadsafe(self._listen(), self.loop).result(PATIENCE)
        self.port = self.server.get_port()

    async def _listen(self):
        import asyncssh

        class Login(asyncssh.SSHServer):
            def password_auth_supported(self) -> bool:
                return True

            def validate_password(self, username: str, password: str) -> bool:
                return (username, password) == ("owner", PASSWORD)

        def files(channel) -> asyncssh.SFTPServer:
            return asyncssh.SFTPServer(channel, chroot=str(self.folder))

        key = asyncssh.generate_private_key("ssh-ed25519")
        return await asyncssh.listen(
            "127.0.0.1", self.port, server_factory=Login, server_host_keys=[key], sftp_factory=files
        )

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.server.close)
        asyncio.run_coroutine_threadsafe(self.server.wait_closed(), self.loop).result(PATIENCE)


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    (tmp_path / "served").mkdir()
    server = Sshd(tmp_path / "served")
    yield server
    server.stop()


def use_ssh(root: Path, port: int, password: str = PASSWORD) -> None:
    configure(root, "ssh://127.0.0.1/store", user="owner", port=str(port), password=password, allow_agent="false")


@needs_ssh
@pytest.mark.slow
def test_ssh_whole(project: Path, sshd: Sshd, at_once: None):
    proxy = Proxy(sshd.port)
    use_ssh(project, proxy.port)
    proxy.cuts, proxy.after = 1, 1_000_000
    assert push_version(project, "HEAD") == 3 and proxy.cut == 1
    clone = clone_without_data(project)
    proxy.cuts = 1
    assert "restored" in version_dataset(clone, build=never).message and proxy.cut == 2
    assert (clone / "data/a").read_bytes() == (project / "data/a").read_bytes()
    proxy.close()


@needs_ssh
@pytest.mark.slow
def test_ssh_with_a_wrong_password_is_a_refusal(
    project: Path, sshd: Sshd, at_once: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.stdin", io.StringIO())  # nobody is there to be asked
    use_ssh(project, sshd.port, "guessed")
    assert "the remote refuses access: " in refusal(lambda: push_version(project, "HEAD"))


@needs_ssh
@pytest.mark.slow
def test_ssh_down_and_back(project: Path, sshd: Sshd, at_once: None):
    use_ssh(project, sshd.port)
    sshd.stop()
    assert "the remote does not answer: " in refusal(lambda: push_version(project, "HEAD"), BusyError)
    again = Sshd(sshd.folder, sshd.port)
    assert push_version(project, "HEAD") == 3
    again.stop()


@needs_ssh
@pytest.mark.slow
def test_ssh_that_hangs(project: Path, sshd: Sshd):
    proxy = Proxy(sshd.port)
    use_ssh(project, proxy.port)
    limit(project, 2)
    proxy.hangs, proxy.after = True, 1_000_000
    assert_given_up(lambda: push_version(project, "HEAD"))
    proxy.close()


def test_the_packages_of_every_extra_are_pinned():
    extras = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pinned = {line.split("==")[0] for line in (REPO / "constraints.txt").read_text().splitlines()}
    assert {name for extra in EXTRAS for name in extras[extra]} <= pinned
    assert {"gcsfs", "adlfs", "s3fs", "sshfs"} <= pinned  # which have to fit fsspec
