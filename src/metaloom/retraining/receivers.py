"""Where messages go: a webhook, a notification block of Prefect's server, or a mailbox."""

from __future__ import annotations

import json
import os
import urllib.request
from http.client import HTTPException
from typing import Any

from metaloom.config.retraining import MAIL, WEB, check_receiver
from metaloom.errors import MetaloomError

TIMEOUT = 20  # seconds


def send(notify: str | None, title: str, message: dict[str, Any]) -> None:
    """Send a message, where there is somebody to send it to.

    Args:
        notify: the setting.
        title: a line, the subject of a mail.
        message: its line as `text`, and beside it what a program wants to know.

    Raises:
        MetaloomError: it has not arrived, or the setting cannot be read.
    """
    receiver = address(notify)
    if receiver.startswith(WEB):
        _post(receiver, message)
    elif receiver.startswith(MAIL):
        _mail(receiver, title, message["text"])
    elif receiver:
        _by_block(receiver, title, message["text"])


def address(notify: str | None) -> str:
    """The receiver's URL or the block's name; "" where there is none.

    Raises:
        MetaloomError: it is neither, or its variable is not set.
    """
    receiver = notify or ""
    if receiver.startswith("$"):
        receiver = os.environ.get(receiver[1:], "")
        if not receiver:
            raise MetaloomError(f"retrain.notify is {notify}, and the environment has no variable {str(notify)[1:]}")
    try:
        return check_receiver(receiver) if receiver else ""
    except ValueError as error:
        raise MetaloomError(f"retrain.notify {error}") from None


def _post(url: str, message: dict[str, Any]) -> None:
    request = urllib.request.Request(  # noqa: S310 (the scheme is looked at)
        url, json.dumps(message).encode(), {"Content-Type": "application/json"}
    )
    try:
        urllib.request.urlopen(request, timeout=TIMEOUT).close()  # noqa: S310
    except OSError as error:
        raise MetaloomError(f"the webhook of retrain.notify does not take it ({error})") from None
    except (ValueError, HTTPException) as error:  # of an address that is none, or of what does not speak HTTP
        raise MetaloomError(f"the webhook of retrain.notify does not take it ({_kind(error)})") from None


def _mail(url: str, title: str, text: str) -> None:
    from apprise import Apprise, NotifyFormat

    post = Apprise()
    if not post.add(url):
        raise MetaloomError(
            "retrain.notify is no mail address that Apprise can read: write "
            "mailtos://USER:PASSWORD@SERVER?from=ADDRESS&to=ADDRESS"
        )
    if not post.notify(title=title, body=text, body_format=NotifyFormat.TEXT):  # or it is HTML to whom mail is HTML
        raise MetaloomError("the mail server of retrain.notify does not take it")


def _by_block(name: str, title: str, text: str) -> None:
    from prefect.blocks.abstract import NotificationBlock
    from prefect.blocks.core import Block
    from prefect.plugins import load_prefect_collections
    from prefect.settings import PREFECT_API_URL

    if not PREFECT_API_URL.value():
        raise MetaloomError(f"retrain.notify is {name}, a block of Prefect's server, and PREFECT_API_URL names none")
    load_prefect_collections()  # packages that bring blocks of their own
    import prefect.blocks.notifications  # noqa: F401 (or its blocks are not known)

    try:
        block = Block.load(name, _sync=True)  # pyright: ignore[reportCallIssue] (of Prefect's wrapper)
    except Exception as error:  # a block is somebody else's code: no night ends for a message
        raise MetaloomError(f"Prefect's server gives no block {name} ({_kind(error)})") from None
    if not isinstance(block, NotificationBlock):
        raise MetaloomError(f"retrain.notify is {name}, and that is no block that notifies")
    try:
        with block.raise_on_failure():
            block.notify(text, title, _sync=True)  # pyright: ignore[reportCallIssue]
    except Exception as error:  # likewise, and what it sends with has roots of its own
        raise MetaloomError(f"the block {name} of retrain.notify cannot send it ({_kind(error)})") from None


def _kind(error: Exception) -> str:
    """What it is, without its words: they may hold an address, which is a secret."""
    response = getattr(error, "response", None)
    return f"status {response.status_code}" if response is not None else type(error).__name__
