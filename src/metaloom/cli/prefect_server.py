"""Prefect's server: the configured one, or a temporary one for as long as we run.

Prefect starts a temporary server too, but in our process group: Ctrl-C would end it before the run could
report to it, and after a SIGKILL it would stay. It would also do what any user of this machine asks: ours
wants a password, which a random one keeps from all other users.
"""

from __future__ import annotations

import atexit
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from filelock import FileLock, Timeout

from metaloom.cli.guard import start_guard
from metaloom.errors import FAILED, MetaloomError
from metaloom.system import lifeline
from metaloom.system.ending import end_children
from metaloom.system.lock import STATE, BusyError
from metaloom.system.terminal import complain

START = """\
import socket, sys
from metaloom.system.lifeline import end_with_parent
end_with_parent()
import uvicorn
app = "prefect.server.api.server:create_app"  # as Prefect starts its own
server = uvicorn.Server(uvicorn.Config(app, factory=True, lifespan="on", log_level="error"))
server.run(sockets=[socket.socket(fileno=int(sys.argv[1]))])
sys.exit(not server.started)
"""
LOGIN_FILE = "prefect.env"
URL, LOGIN = "PREFECT_API_URL", "PREFECT_API_AUTH_STRING"  # what a client of the server has in its environment
STARTUP_SECONDS = 300  # the first start on a machine is slow, and so is any on a busy one

ENVIRONMENT = {  # what we want of Prefect, unless the environment says otherwise
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLIENT_MAX_RETRIES": "8",  # the server may be away for some minutes: what has happened is told later
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # a run's logs are with the run; we say the rest
    "PREFECT_INTERNAL_LOGGING_LEVEL": "CRITICAL",  # of its threads, for example that the server is away
}


@dataclass(frozen=True)
class Server:
    """Whether it ends with us, and a function that waits for it; do something useful before calling that.

    The function raises MetaloomError when the server does not answer.
    """

    temporary: bool
    wait: Callable[[], None]


def prefect_server(root: Path, served: bool = False) -> Server:
    """The server of PREFECT_API_URL or of the Prefect profile, else one that ends with this process.

    Args:
        root: the project's root.
        served: this process takes runs of the deployment from it.
    """
    url = own_server(root)
    if not url:
        if served:
            _serve_alone(root)
        return _temporary(root)
    start_guard(root, served)
    return Server(False, lambda: _check(url))


def _serve_alone(root: Path) -> None:
    """Hold off a second `metaloom serve` with a temporary server: it would take the first one's login away.

    Raises:
        BusyError: there is one.
    """
    (root / STATE).mkdir(exist_ok=True)
    lock = FileLock(root / STATE / "serve.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BusyError(
            f"another `metaloom serve` is at work in this project, and {STATE}/{LOGIN_FILE} is of its server: end it "
            "first"
        ) from None
    atexit.register(lock.release)  # which also keeps it until then


def own_server(root: Path) -> str | None:
    """The address of a server of one's own, by PREFECT_API_URL or the Prefect profile; imports Prefect, as we want it.

    Args:
        root: the project's root.

    Raises:
        MetaloomError: Prefect's settings, which it reads when it is imported, are none.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if not os.access(Path.home(), os.W_OK):
        os.environ.setdefault("PREFECT_HOME", str(root / STATE / "prefect"))
    from pydantic import ValidationError

    from metaloom.config import first_problem

    with redirect_stderr(StringIO()) as said:  # Prefect has a page to say of what it then refuses
        try:
            from prefect.settings import PREFECT_API_URL

            url = PREFECT_API_URL.value()
        except ValidationError as error:
            raise MetaloomError(
                f"Prefect refuses its settings ({error.title}, {first_problem(error)}): look at the environment's "
                "PREFECT_… and at ~/.prefect/profiles.toml"
            ) from None
    sys.stderr.write(said.getvalue())
    return url


def _temporary(root: Path) -> Server:
    from prefect.context import refresh_global_settings_context

    listener = _listener()
    url, login = f"http://127.0.0.1:{listener.getsockname()[1]}/api", f"metaloom:{secrets.token_urlsafe(32)}"
    log = root / STATE / "prefect-server.log"
    log.parent.mkdir(exist_ok=True)
    with Path(log).open("w", encoding="utf-8") as sink:
        command, port = ["-c", START, str(listener.fileno())], [listener.fileno()]
        process = lifeline.start(command, cwd=root, env=_environment(login), out=sink, err=sink, pass_fds=port)
    ours = threading.Event()
    atexit.register(listener.close)
    threading.Thread(target=_refuse_after, args=(process, listener), daemon=True).start()
    atexit.register(lifeline.stop, process)  # after Prefect's own threads have reported what they have
    atexit.register(ours.set)
    os.environ |= {URL: url, LOGIN: login}
    refresh_global_settings_context()

    def wait() -> None:
        deadline = time.monotonic() + STARTUP_SECONDS
        while not _answers(url):
            if process.poll() is not None:
                raise MetaloomError(f"Prefect's temporary server did not start: {log} says why")
            if time.monotonic() > deadline:
                raise MetaloomError(
                    f"Prefect's temporary server did not answer within {STARTUP_SECONDS} s: start again when the "
                    "machine is less busy"
                )
            time.sleep(0.05)
        threading.Thread(target=_end_without, args=(process, root, log, ours), daemon=True).start()

    return Server(True, wait)


def _end_without(process: subprocess.Popen[str], root: Path, log: Path, ours: threading.Event) -> None:
    """End with the server: without it no run is started, and none can say what became of it.

    Args:
        process: the server's.
        root: the project's root.
        log: of the server.
        ours: is set when it is us who end it.
    """
    process.wait()
    if ours.is_set():
        return
    _forget_login(root)
    complain(f"error: Prefect's temporary server has ended ({log} says why): start again; what was finished is kept")
    end_children()
    os._exit(FAILED)


def _listener() -> socket.socket:
    """A port of this machine that stays ours until we end: nobody can answer in the place of a server that died."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()
    listener = socket.socket()
    listener.bind(port)  # asked for by number, or Linux gives it away when the socket no longer listens
    return listener


def _refuse_after(process: subprocess.Popen[str], listener: socket.socket) -> None:
    """When the server has died, its clients are refused at once: they would wait for an answer otherwise."""
    process.wait()
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)


def _environment(login: str) -> dict[str, str]:
    as_prefect_does = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    return {**os.environ, **as_prefect_does, "PREFECT_SERVER_API_AUTH_STRING": login}


@contextmanager
def kept_login(root: Path) -> Iterator[Path]:
    """A file that only this user can read: address and password of the temporary server, as `prefect` takes them."""
    path = root / STATE / LOGIN_FILE
    path.unlink(missing_ok=True)  # of one that was killed
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "w", encoding="utf-8") as opened:
        opened.write("".join(f"{name}={os.environ[name]}\n" for name in (URL, LOGIN)))
    try:
        yield path
    finally:
        _forget_login(root)


def _forget_login(root: Path) -> None:
    """Where its server is gone, the file would send a user's commands to nobody; that of another server stays."""
    path = root / STATE / LOGIN_FILE
    with suppress(OSError):
        if f"{URL}={os.environ[URL]}\n" in path.read_text(encoding="utf-8"):
            path.unlink()


def _check(url: str) -> None:
    if not _answers(url, patience=10):
        raise MetaloomError(
            f"the Prefect server at {url} does not answer: start it with `prefect server start`, "
            "or unset PREFECT_API_URL to use a temporary one"
        )


def _answers(url: str, patience: float = 1.0) -> bool:
    """Whether the API is there; one that wants a login is, too."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=patience):  # noqa: S310 (the user's own setting)
            return True
    except urllib.error.HTTPError as error:
        return error.code in (401, 403)
    except OSError:
        return False
