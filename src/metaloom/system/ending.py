"""The end of a process that something waits in, and of what it has started."""

from __future__ import annotations

import os
import signal
import socket
import threading
from contextlib import suppress

from metaloom.errors import TERMINATED

UNWINDING = 45.0  # seconds from SIGTERM until we end in any case
ENDING = 5.0  # and then, for our children


def end_after(seconds: float = UNWINDING) -> None:
    """End this process and its children in so many seconds, if it has not ended by itself: whoever it waits for, a
    server that is away for example, may never answer."""

    def end() -> None:
        end_children()
        os._exit(TERMINATED)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def end_children() -> None:
    """SIGTERM to every process that this one has started, and to theirs.

    Those of our own group that it does not end are killed: a flow would go on waiting for a server that is away. The
    others end with us by themselves (`lifeline`).
    """
    import psutil

    ours: list[psutil.Process] = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(child.pid) == os.getpgrp():
                ours.append(child)
            child.terminate()
    for child in psutil.wait_procs(ours, timeout=ENDING)[1]:
        with suppress(psutil.NoSuchProcess):
            child.kill()


def end_after_sigterm() -> None:
    """SIGTERM ends this process after a while whatever its handler does: Prefect's tells the server, which may be away.

    The handler stays as it is: Prefect's runner lets a run say by itself that it was cancelled only where that is its
    own. Where signals are not ours to handle, nothing.
    """
    if threading.current_thread() is not threading.main_thread() or not callable(signal.getsignal(signal.SIGTERM)):
        return
    told, tells = socket.socketpair()
    tells.setblocking(False)
    before = signal.set_wakeup_fd(tells.fileno(), warn_on_full_buffer=False)  # gets the number of each signal
    if before != -1:  # somebody else's, or ours
        signal.set_wakeup_fd(before)
        return

    def watch(_kept_open: socket.socket) -> None:
        while signal.SIGTERM not in told.recv(1):
            pass
        end_after()
        while told.recv(1):  # of further signals, whose numbers would go into whatever file had the descriptor after us
            pass

    threading.Thread(target=watch, args=(tells,), daemon=True).start()
