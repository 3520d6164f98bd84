"""Another user of the machine at the doors of `metaloom serve`: nothing answers, nothing runs."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import stat
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from socket import socket
from typing import Any

import psutil
import pytest
from standins import Standin
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from metaloom.cli.prefect_server import LOGIN, URL, kept_login

NOBODY = 65534
OPEN = {"/health", "/ready"}  # without a password: they say that the server is up
PWNED = "stages:\n  prepare:\n    cmd: touch pwned\n    outs: [pwned]\n"

root_alone = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def as_nobody(ask: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives in a process of another user, by way of JSON."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(writing, json.dumps(ask(*arguments)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return json.loads(text)


def why_not_read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError as error:
        return type(error).__name__


def status(url: str, method: str, body: Any = None, login: str = "") -> int:
    request = urllib.request.Request(url, json.dumps(body or {}).encode(), method=method)
    request.add_header("Content-Type", "application/json")
    if login:
        request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def statuses(asked: list[list[Any]]) -> list[int]:
    return [status(*each) for each in asked]


def heard(url: str) -> str:
    """What a websocket says to a wrong password."""
    try:
        with connect(f"{url.replace('http', 'ws')}/events/in", subprotocols=["prefect"]) as asked:
            asked.send(json.dumps({"type": "auth", "token": "metaloom:guess"}))
            return str(asked.recv(timeout=10))
    except WebSocketException as error:
        return type(error).__name__


def why_not_bound(port: int) -> str:
    try:
        with socket() as taken:
            taken.bind(("127.0.0.1", port))
        return "bound"
    except OSError as error:
        return type(error).__name__


def get(url: str, login: str) -> Any:
    request = urllib.request.Request(url)
    request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())


@pytest.fixture
def readable(standin_template: Path) -> Iterator[Path]:
    """A folder that every user of the machine may enter, as a home often is."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@root_alone
def test_the_login_is_this_users_alone_and_goes_with_the_server(readable: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(URL, "http://127.0.0.1:1/api")
    monkeypatch.setenv(LOGIN, "metaloom:secret")
    (readable / ".metaloom").mkdir()
    (readable / ".metaloom/prefect.env").symlink_to(readable / "elsewhere")  # is not followed
    with kept_login(readable) as path:
        assert "metaloom:secret" in path.read_text() and stat.S_IMODE(path.stat().st_mode) == 0o600
        assert as_nobody(why_not_read, str(path)) == "PermissionError"
    assert not path.exists() and not (readable / "elsewhere").exists()


@pytest.fixture
def served_alone(standin_template: Path, readable: Path) -> Iterator[tuple[Standin, int, dict[str, str]]]:
    """`metaloom serve` and its temporary server where others can read: the project, its process, the login."""
    root = readable / "project"
    shutil.copytree(standin_template, root, symlinks=True)
    standin = Standin(root, {"PREFECT_HOME": str(root / ".metaloom/prefect")})
    process, kept = standin.start("serve", "--interval", "86400"), root / ".metaloom/prefect.env"
    deadline = time.monotonic() + 120
    while not kept.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    yield standin, process.pid, dict(line.split("=", 1) for line in kept.read_text().splitlines())
    process.kill()  # its children end with it
    process.communicate(timeout=60)


def deployment_id(login: dict[str, str]) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            return get(f"{login[URL]}/deployments/name/retrain/retrain", login[LOGIN])["id"]
        except urllib.error.HTTPError:
            time.sleep(0.2)
    raise TimeoutError


@root_alone
@pytest.mark.slow
def test_no_door_of_a_temporary_server_opens(served_alone, readable: Path):
    standin, process, login = served_alone
    url = login[URL]
    deployment = deployment_id(login)

    evil = readable / "evil"
    evil.mkdir()
    (evil / "dvc.yaml").write_text(PWNED)
    shutil.copy(standin.root / "params.yaml", evil)
    evil.chmod(0o777)
    runs = f"{url}/deployments/{deployment}/create_flow_run"
    asked = [
        [runs, "POST", {"parameters": {"root": str(evil)}}, *with_login] for with_login in ([], ["metaloom:guess"])
    ]
    doors = get(f"{url}/openapi.json", login[LOGIN])["paths"]
    asked += [
        [url + path.removeprefix("/api").replace("{id}", deployment), method.upper()]
        for path, methods in doors.items()
        for method in methods
        if path.removeprefix("/api") not in OPEN
    ]
    assert len(asked) > 100
    assert set(as_nobody(statuses, asked)) == {401}
    assert as_nobody(heard, url) == "ConnectionClosedError"

    theirs = [process, *(child.pid for child in psutil.Process(process).children(recursive=True))]
    secrets = [*(f"/proc/{pid}/environ" for pid in theirs), str(standin.root / ".metaloom/prefect.env")]
    assert {as_nobody(why_not_read, path) for path in secrets} == {"PermissionError"}
    log = (standin.root / ".metaloom/prefect-server.log").read_text()
    assert login[LOGIN] not in log + "".join(" ".join(psutil.Process(pid).cmdline()) for pid in theirs)

    assert status(runs, "POST", {"parameters": {"wait": "forever"}}, login[LOGIN]) == 409  # the owner gets in
    assert standin.steps() == [] and not (evil / "pwned").exists()

    (server,) = (pid for pid in theirs if "create_app" in " ".join(psutil.Process(pid).cmdline()))
    os.kill(server, signal.SIGKILL)
    assert standin.ended(server)
    assert as_nobody(why_not_bound, int(url.removesuffix("/api").rpartition(":")[2])) == "OSError"
