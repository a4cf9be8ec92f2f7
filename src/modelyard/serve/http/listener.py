"""The connections accepted from one listening socket: taken, swept, drained."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

from modelyard.serve.http.connection import Connection
from modelyard.serve.keep.processes import hold_callers
from modelyard.serve.request import Code, Request
from modelyard.serve.room import MOST_CONNECTIONS

IDLE_TIMEOUT_S = 75.0  # for a connection without a request
ACCEPT_S = 0.1  # while draining, for the loop to accept what the kernel had already taken
HANDSHAKE_S = 10.0  # for TLS to begin; until then a connection is not among those that are counted
LAST_S = 0.01  # after that, for what was accepted last to become a connection of ours
SETTLE_S = 0.5  # while draining, a connection that was quiet for this long is closed


class Listener:
    """The connections accepted from one listening socket."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        handle: Callable[[Request], None],
        most_body_bytes: int,
        prefix: str,
        on_refusal: Callable[[Code], None] = lambda code: None,
        tls: ssl.SSLContext | None = None,
        most_connections: int = MOST_CONNECTIONS,
    ) -> None:
        self.loop, self.handle, self.most_body_bytes, self.on_refusal = loop, handle, most_body_bytes, on_refusal
        self.most_connections = most_connections
        self.connections: set[Connection] = set()
        self.draining = False
        self.held_bytes = 0  # of bodies that are still coming in, over all connections
        self._tls = tls
        self.prefix, self.count = prefix, 0
        self.clock = loop.time()  # as of the last sweep: near enough for idle connections
        self._server: asyncio.Server | None = None
        self._sock: socket.socket | None = None

    @property
    def open_connections(self) -> int:
        return len(self.connections)

    def next_id(self) -> str:
        """Return an id for a request that brought none."""
        self.count += 1
        return f"{self.prefix}-{self.count:x}"

    async def start(self, sock: socket.socket) -> None:
        """Accept connections from a listening socket."""
        self._sock = sock
        handshake_s = None if self._tls is None else HANDSHAKE_S
        self._server = await self.loop.create_server(
            lambda: Connection(self), sock=sock, backlog=1024, ssl=self._tls, ssl_handshake_timeout=handshake_s
        )

    def sweep(self) -> None:
        """Close what is idle or too slow; to be called every second or so."""
        now = self.clock = self.loop.time()
        for connection in list(self.connections):
            connection.close_if_quiet(now, idle_s=IDLE_TIMEOUT_S)

    async def drain(self, grace_s: float, *, is_last: bool = True) -> int:
        """Stop accepting, let requests in flight finish, close; return how many connections had to be cut.

        Connections that already wait to be accepted are taken and answered: closing a listening socket would reset
        them. Every reply announces the close, and a connection that stays quiet is closed after `SETTLE_S`.
        Where this front is not the last on its socket, those that connect from now on are left to the next.
        """
        self.draining = True
        self.clock = self.loop.time()
        for connection in self.connections:
            connection.announce()
            connection.touched = self.clock  # it may just be sending: it is given `SETTLE_S` from here
        if self._sock is not None and is_last:
            hold_callers(self._sock)
        await asyncio.sleep(ACCEPT_S)
        if self._server is not None:
            self._server.close()
        await asyncio.sleep(LAST_S)
        end = self.loop.time() + grace_s
        while self.connections and self.loop.time() < end:
            now = self.clock = self.loop.time()
            for connection in list(self.connections):
                connection.close_if_quiet(now, idle_s=SETTLE_S)
            await asyncio.sleep(0.01)
        cut = [connection for connection in self.connections if connection.busy]
        for connection in list(self.connections):
            connection.abort()
        return len(cut)
