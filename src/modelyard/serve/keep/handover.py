"""How a listening socket outlives its supervisor: fronts that were left hand it to the next one.

Callers that connect in between wait in the kernel's queue instead of being refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

from modelyard.serve.wire import connect_to, listen_at

PATIENCE_S = 1.0  # with a front that does not answer: it may be stopped


def _file(front: str) -> str:
    return f"{front}.hand"


class Offer:
    """Hands a front's listening socket to whoever connects to a Unix socket of this user. Of the loop's thread."""

    def __init__(self, folder: Path, front: str, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self.taken = False  # someone else listens on it by now, whatever becomes of this front
        self._path, self._sock, self._loop = folder / _file(front), sock, loop
        self._server = listen_at(folder, _file(front))
        self._server.setblocking(False)
        loop.add_reader(self._server.fileno(), self._hand)

    def close(self) -> None:
        """Offer it no more."""
        self._loop.remove_reader(self._server.fileno())
        self._server.close()
        self._path.unlink(missing_ok=True)

    def _hand(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._server.accept()
            with connection:
                socket.send_fds(connection, [b"\0"], [self._sock.fileno()])
                self.taken = True


def take(folder: Path, front: str) -> socket.socket | None:
    """Return the socket that a front listens on; None where it does not answer."""
    try:
        with connect_to(folder, _file(front), timeout_s=PATIENCE_S) as connection:
            _, handles, _, _ = socket.recv_fds(connection, 1, 1)
    except OSError:
        return None
    return socket.socket(fileno=handles[0]) if handles else None
