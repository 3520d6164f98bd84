"""How long a remote of DVC may say nothing: the client libraries wait for minutes, an SSH connection for ever."""

from __future__ import annotations

import math
import os
import socket
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from metaloom.config import PARAMS, read_params, value_at

SETTING = "limits.remote_seconds"
OPTIONS = {  # of DVC's remotes: to connect, and between two pieces of an answer
    "s3": ("connect_timeout", "read_timeout"),
    "http": ("connect_timeout", "read_timeout"),
    "https": ("connect_timeout", "read_timeout"),
    "azure": ("connection_timeout", "read_timeout"),
    "ssh": ("timeout",),
}
AIOHTTP = ("s3", "gs", "azure", "http", "https")  # whose clients are built on it
BEATS = 3  # that an SSH server may leave unanswered


def limit_silence(repo: Any) -> None:
    """Give each remote of DVC's Repo the limit of params.yaml, but where its own options say otherwise."""
    remotes = repo.config["remote"].values()
    seconds = value_at(read_params(Path(repo.root_dir, PARAMS)), SETTING) if remotes else 0
    if not isinstance(seconds, int | float) or not 0 < seconds < math.inf:  # what is no number is refused by a run
        return
    for remote in remotes:
        scheme = urlsplit(remote["url"]).scheme
        for option in OPTIONS.get(scheme, ()):
            remote.setdefault(option, max(1, round(seconds)))
        if scheme == "ssh":
            _keep_asking(seconds / BEATS)
        if scheme in AIOHTTP:
            _limit_sending(seconds)
        if scheme == "s3":
            os.environ.setdefault("AWS_MAX_ATTEMPTS", "2")  # s3fs tries five times, and its client each time as often


def _limit_sending(seconds: float) -> None:
    """aiohttp has a limit for an answer alone; Linux has one for what is sent and not acknowledged."""
    from aiohttp import TCPConnector

    plain: Any = getattr(TCPConnector.__init__, "__wrapped__", TCPConnector.__init__)

    def opened(address: tuple[Any, ...]) -> socket.socket:
        made = socket.socket(*address[:3])
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * seconds))
        return made

    @wraps(plain)
    def limited(self: Any, *arguments: Any, **options: Any) -> None:
        plain(self, *arguments, **{"socket_factory": opened, **options})

    TCPConnector.__init__ = limited


def _keep_asking(seconds: float) -> None:
    """An SSH server is asked every so many seconds whether it is there; its connection breaks where it does not say."""
    try:
        from dvc_ssh import client
    except ImportError:  # which is said when the remote is used
        return
    plain = getattr(client.InteractiveSSHClient, "plain", client.InteractiveSSHClient)

    class Asking(plain):
        def connection_made(self, conn: Any) -> None:
            super().connection_made(conn)
            conn.set_keepalive(seconds, BEATS)

    Asking.plain = plain
    client.InteractiveSSHClient = Asking
