"""ModelStreamInfer: a call of many messages, each answered, in their order.

Requests of a stream run side by side, and their answers wait for each other. A stream that is full of them takes no
more, and gives its client no more credit, until some are answered and read.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from modelyard.serve.grpc import wire
from modelyard.serve.grpc.call import MESSAGE_TIMEOUT_S, NOT_WHOLE, GrpcCall, GrpcRequest, leave
from modelyard.serve.grpc.infer import InferMessage
from modelyard.serve.grpc.status import HEAD, OK_TRAILERS, Status, trailers
from modelyard.serve.http2.hpack import encode

if TYPE_CHECKING:
    from modelyard.serve.grpc.head import Head
    from modelyard.serve.grpc.listener import GrpcListener
    from modelyard.serve.http2.connection import Connection

MOST_PENDING = 32  # requests of a stream that are not answered, and answers that are not read

_OF_CALL = frozenset({Status.UNAUTHENTICATED, Status.PERMISSION_DENIED})  # true of every message, as of the first
_FINAL = wire.entry(4, "triton_final_response", b"\x08\x01")  # what clients for streams look for: no more comes


class InferStream(GrpcCall):
    """A call of many messages."""

    __slots__ = ("_pending", "_touched")

    def __init__(self, connection: Connection, id: int, head: Head, listener: GrpcListener) -> None:
        super().__init__(connection, id, head, listener)
        self._pending: deque[GrpcRequest] = deque()
        self._touched = connection.touched  # when a message last came or an answer left

    @property
    def is_full(self) -> bool:
        return len(self._pending) >= MOST_PENDING or (self.queue is not None and len(self.queue) >= MOST_PENDING)

    def message(self, body: bytes) -> None:
        self._touched = self.connection.touched
        request = self.ask(body)
        self._pending.append(request)
        self.listener.handle(request)

    def half_closed(self) -> None:
        if not self._pending:
            self.finish(NOT_WHOLE if self._held else OK_TRAILERS)

    def deliver(self, request: GrpcRequest, fields: bytes, body: bytes) -> None:
        request.said = wire.blob(2, body + _FINAL)
        self._flush()

    def reject(self, request: GrpcRequest, status: Status, block: bytes, message: str) -> None:
        if status in _OF_CALL and not self.over:
            for other in self._pending:
                leave(other)
            self._pending.clear()
            self.finish(block)
            return
        asked = request.message.id if isinstance(request.message, InferMessage) else ""
        request.said = wire.text(1, message) + wire.blob(2, wire.text(3, asked) + _FINAL)
        self._flush()

    def left(self) -> None:
        super().left()
        for request in self._pending:
            leave(request)
        self._pending.clear()

    def late(self, now: float) -> None:
        if self._held and not self.is_stalled and now - self.started > MESSAGE_TIMEOUT_S:
            self.finish(trailers(Status.DEADLINE_EXCEEDED, "The message came too slowly."))

    def settle(self, now: float, quiet_s: float) -> None:
        if not self._pending and not self.over and now - self._touched > quiet_s:
            self.finish(trailers(Status.UNAVAILABLE, "The service ends this stream; open another.", retry_after_s=0))

    def drained(self) -> None:
        if self.is_stalled and not self.is_full:
            self.is_stalled = False
            self.go_on()

    def _flush(self) -> None:
        """Send all answers that no other has to come before."""
        pending = self._pending
        while pending and not self.over and pending[0].said is not None:
            said = pending.popleft().said
            assert said is not None
            if not self.is_headed:
                self.is_headed = True
                self.send_head(
                    HEAD + encode(b"x-request-id", (self.head.request_id or self.listener.next_id()).encode())
                )
            self._touched = self.connection.loop.time()
            self.send(said)
        self.drained()
        if self.remote_done and not self.over and self._held < self._need:
            self.half_closed()
