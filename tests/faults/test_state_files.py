"""Files of .metaloom/ that a machine has lost its power over: empty, zeros, no text."""

from __future__ import annotations

import os
import re
from pathlib import Path
from uuid import UUID

import pytest
from filelock import FileLock

from flows.notes import FOLDER, killed
from metaloom.cli import prefect_server
from metaloom.cli.prefect_server import LOGIN, URL, kept_login
from metaloom.system.lock import BusyError
from metaloom.versioning import data
from metaloom.versioning.intact import KNOWN, Hashes

DAMAGE = [b"", bytes(40), b"\xff\xfe\xff", b"[]", b"{}"]


@pytest.mark.parametrize("content", DAMAGE)
def test_a_note_of_a_run_that_cannot_be_read_is_dropped(tmp_path: Path, content: bytes):
    note = tmp_path / FOLDER / f"{UUID(int=1)}.json"
    note.parent.mkdir(parents=True)
    note.write_bytes(content)
    assert killed(tmp_path) == [] and not note.exists()


@pytest.mark.parametrize("content", DAMAGE)
def test_hashes_that_cannot_be_read_are_taken_again(tmp_path: Path, content: bytes):
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / KNOWN).parent.mkdir()
    (tmp_path / KNOWN).write_bytes(content)
    assert Hashes(tmp_path).of(tmp_path / "a") == "0cc175b9c0f1b6a831c399e269772661"


@pytest.mark.parametrize("content", DAMAGE)
def test_a_note_of_the_version_of_data_that_cannot_be_read_names_none(tmp_path: Path, content: bytes):
    (tmp_path / data.SEEN).parent.mkdir()
    (tmp_path / data.SEEN).write_bytes(content)
    assert not re.fullmatch(r"[0-9a-f]{32}", data._seen(tmp_path) or "")


def test_a_second_serve_does_not_take_the_first_one_s_login_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prefect_server, "own_server", lambda root: None)
    monkeypatch.setattr(prefect_server, "_temporary", lambda _: pytest.fail("a server was started"))
    (tmp_path / ".metaloom").mkdir()
    with FileLock(tmp_path / ".metaloom/serve.lock"), pytest.raises(BusyError, match="another `metaloom serve` is at"):
        prefect_server.prefect_server(tmp_path, served=True)


def test_the_login_of_another_server_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(LOGIN, "metaloom:secret")
    monkeypatch.setenv(URL, "http://127.0.0.1:1/api")
    (tmp_path / ".metaloom").mkdir()
    with kept_login(tmp_path) as path:
        other = path.read_text().replace(os.environ[URL], "http://127.0.0.1:2/api")
        path.write_text(other)
    assert path.read_text() == other
