"""A TCP port in front of another, which passes everything and can be told to cut, to slow down, to hang, to be away."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

BLOCK = 1 << 16  # bytes


class Proxy:
    """In front of a port of this machine; everything that it can be told holds for connections that are open, too.

    Attributes:
        cuts: so many connections are cut after `after` bytes in one direction.
        cut: connections that were.
        hangs: nothing passes any more, and nobody hears of it, after `after` bytes in one direction.
        pause: seconds to wait before each block.
        away: new connections are closed at once, and open ones with their next byte.
    """

    def __init__(self, port: int) -> None:
        self.behind, self.cuts, self.cut, self.after = port, 0, 0, 0
        self.hangs, self.away, self.pause = False, False, 0.0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self.listener.accept()
                if self.away:
                    here.close()
                    continue
                there = socket.create_connection(("127.0.0.1", self.behind))
            except OSError:
                return
            for pair in ((here, there), (there, here)):
                threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        passed = 0
        with suppress(OSError):
            while (block := source.recv(BLOCK)) and not self.away:
                passed += len(block)
                if self.cuts and passed > self.after:
                    self.cuts, self.cut = self.cuts - 1, self.cut + 1
                    break
                while self.hangs and passed > self.after:
                    time.sleep(0.05)
                time.sleep(self.pause)
                sink.sendall(block)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.hangs = False
        self.listener.close()
