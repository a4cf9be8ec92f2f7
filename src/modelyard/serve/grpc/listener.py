"""The gRPC connections accepted from one listening socket."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import cast

from modelyard.serve.grpc.call import GrpcCall, GrpcRequest
from modelyard.serve.grpc.head import Head, Kind, read_head
from modelyard.serve.http2.connection import GREETING_TIMEOUT_S, Connection
from modelyard.serve.http2.frames import ENHANCE_YOUR_CALM
from modelyard.serve.http2.hpack import Field
from modelyard.serve.http2.line import Line
from modelyard.serve.keep.processes import hold_callers
from modelyard.serve.request import Code

MESSAGES_AT_ONCE = 8  # of the largest size, that may be coming in at once over all connections
MOST_CONNECTIONS = 4_096
ACCEPT_S = 0.1  # while draining, for the loop to accept what the kernel had already taken
LAST_S = 0.01  # after that, for what was accepted last to become a connection of ours
SETTLE_S = 0.5  # while draining, for a client to hear of it, and for a call that is quiet to be ended


class GrpcListener:
    """Hands each call's message to `handle`; `kinds` are the calls of several messages, by path."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        handle: Callable[[GrpcRequest], None],
        most_message_bytes: int,
        prefix: str,
        kinds: dict[bytes, Kind],
        on_refusal: Callable[[Code], None] = lambda code: None,
        tls: ssl.SSLContext | None = None,
        most_connections: int = MOST_CONNECTIONS,
    ) -> None:
        self.loop, self.handle, self.kinds, self.on_refusal = loop, handle, kinds, on_refusal
        self.most_message_bytes, self.most_connections = most_message_bytes, most_connections
        self.most_held_bytes = MESSAGES_AT_ONCE * most_message_bytes
        self.held_bytes = 0  # of messages that are still coming in, over all connections
        self.connections: set[Connection] = set()
        self.draining = False
        self._tls = tls
        if tls is not None:
            tls.set_alpn_protocols(["h2"])
        self._prefix, self._count = prefix, 0
        self._server: asyncio.Server | None = None
        self._sock: socket.socket | None = None

    @property
    def open_connections(self) -> int:
        return len(self.connections)

    # what connections call

    def came(self, line: Line) -> bool:
        if len(self.connections) >= self.most_connections:
            return False
        self.connections.add(cast(Connection, line))  # it makes no others
        return True

    def gone(self, line: Line) -> None:
        self.connections.discard(cast(Connection, line))

    def faulted(self, number: int, why: str) -> None:
        self.on_refusal(Code.TOO_MANY if number == ENHANCE_YOUR_CALM else Code.MALFORMED)

    def head(self, fields: list[Field]) -> Head:
        return read_head(fields, self.kinds, GrpcCall)

    def open(self, connection: Connection, id: int, head: Head) -> GrpcCall:
        return head.kind(connection, id, head, self)

    def refused(self, code: Code) -> None:
        """Count a call that never became a request."""
        self.on_refusal(code)

    def next_id(self) -> str:
        """Return an id for a request that brought none."""
        self._count += 1
        return f"{self._prefix}-{self._count:x}"

    # what the front calls

    async def start(self, sock: socket.socket) -> None:
        """Accept connections from a listening socket."""
        self._sock = sock
        handshake_s = None if self._tls is None else GREETING_TIMEOUT_S
        self._server = await self.loop.create_server(
            lambda: Connection(self), sock=sock, backlog=1024, ssl=self._tls, ssl_handshake_timeout=handshake_s
        )

    def sweep(self) -> None:
        """End what is idle or too slow; to be called every second or so."""
        now = self.loop.time()
        for connection in list(self.connections):
            connection.sweep(now)

    async def drain(self, grace_s: float, *, is_last: bool = True) -> int:
        """Stop accepting, let calls in flight finish, close; return how many connections had to be cut.

        Connections that already wait to be accepted are taken: closing a listening socket would reset them. Every
        client is told that its connection will end, then which of its calls is the last; that one and all before it
        are answered. Where this front is not the last on its socket, those that connect from now on are left to the
        next.
        """
        self.draining = True
        for connection in list(self.connections):
            connection.announce()
        if self._sock is not None and is_last:
            hold_callers(self._sock)
        await asyncio.sleep(ACCEPT_S)
        if self._server is not None:
            self._server.close()
        await asyncio.sleep(LAST_S)
        end = self.loop.time() + grace_s
        while self.connections and self.loop.time() < end:
            now = self.loop.time()
            for connection in list(self.connections):
                connection.settle(now, SETTLE_S)
            await asyncio.sleep(0.01)
        cut = [connection for connection in self.connections if connection.streams]
        for connection in list(self.connections):
            connection.abort()
        return len(cut)
