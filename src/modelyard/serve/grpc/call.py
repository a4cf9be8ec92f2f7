"""One gRPC call on its stream: messages out of bytes, requests out of messages, and their answers."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelyard.serve.grpc.details import details
from modelyard.serve.grpc.status import HEAD, OK_TRAILERS, STATUS_OF, Status, fault_text, lines, trailers
from modelyard.serve.http2.hpack import encode
from modelyard.serve.http2.stream import PREFIX_SIZE, Stream
from modelyard.serve.request import FRONT, JSON, Code, Request

if TYPE_CHECKING:
    from modelyard.serve.grpc.head import Head
    from modelyard.serve.grpc.listener import GrpcListener
    from modelyard.serve.http2.connection import Connection

MESSAGE_TIMEOUT_S = 30.0  # for a message to come in whole, once its call began
MOST_PARTS = 4_096  # that a message may come in

NOT_WHOLE = trailers(Status.INVALID_ARGUMENT, "The call ends within a message, or has none.")

_MOST_SERVED_BY = 256  # texts that are kept ready
_WINDOW_BITS = {b"gzip": 31, b"deflate": 15}
_served_by: dict[bytes, bytes] = {}


class GrpcRequest(Request):
    """A message of a call that asks for an answer."""

    __slots__ = ("call", "message", "said")

    call: GrpcCall
    message: object  # what the service read of the body
    said: bytes | None  # its answer, while others of the call come before it

    def answer(
        self,
        body: bytes,
        *,
        code: Code = Code.OK,
        kind: bytes = JSON,
        served_by: bytes = FRONT,
        degraded: bytes | None = None,
        extra: bytes = b"",
    ) -> None:
        if self.gone or self.sent:
            return
        self.sent = True
        self.on_gone = None
        if code is not Code.OK:
            status = STATUS_OF[code]
            self.call.reject(self, status, trailers(status, ""), "")
            return
        fields = _said_by(served_by)
        if degraded is not None:
            fields += encode(b"x-degraded", degraded)
        if self.trace:
            fields += encode(b"traceparent", self.trace)
        if extra:
            fields += lines(extra)
        self.call.deliver(self, fields, body)

    def refuse(
        self,
        code: Code,
        message: str,
        *,
        served_by: bytes = FRONT,
        faults: Sequence[str] = (),
        retry_after_s: int | None = None,
        extra: bytes = b"",
    ) -> None:
        if self.gone or self.sent:
            return
        self.sent = True
        self.on_gone = None
        text = fault_text(message, faults) if faults else message
        detail = _said_by(served_by) + encode(b"x-request-id", self.id.encode())
        if self.trace:
            detail += encode(b"traceparent", self.trace)
        if extra:
            detail += lines(extra)
        status = STATUS_OF[code]
        if faults:
            detail += details(status, text, faults)
        block = trailers(status, text, retry_after_s=retry_after_s, detail=detail)
        self.call.reject(self, status, block, text)


class GrpcCall(Stream):
    """A call of one message, which is answered with one."""

    __slots__ = (
        "_deferred", "_held", "_need", "_parts", "body", "head", "is_headed", "is_stalled", "listener", "over",
        "request", "started",
    )  # fmt: skip

    def __init__(self, connection: Connection, id: int, head: Head, listener: GrpcListener) -> None:
        super().__init__(connection, id)
        self.head, self.listener = head, listener
        self.body: bytes | None = None  # a whole message whose call goes on
        self.request: GrpcRequest | None = None
        self.over = False  # it was answered, or the client is gone
        self._parts: list[bytes] = []
        self._held = 0  # bytes of these
        self._deferred = 0  # bytes for which the client gets credit once the call is less full
        self._need = PREFIX_SIZE  # bytes of the next message with its prefix, as far as it is known
        self.is_headed = False  # its head was sent
        self.is_stalled = False  # it was too full to take more
        self.started = connection.touched  # when the message that is coming in began

    # what the connection calls

    def opened(self) -> None:
        if self.head.refusal is not None:
            self.over = True
            self.end(self.head.refusal)

    def came(self, data: bytes, ended: bool) -> None:
        size = len(data)
        if self.over:
            self.take(size)
        elif ended and not self._held and size >= PREFIX_SIZE and int.from_bytes(data[1:PREFIX_SIZE]) == size - 5:
            self._take_message(data[0], data[PREFIX_SIZE:])
            self._end_if(ended)
        else:
            self._deferred += size
            self._hold(data)
            self.go_on()

    def go_on(self) -> None:
        """Take what is held as far as it goes."""
        while not self.over and self._held >= self._need:
            if self.is_full:
                self.is_stalled = True
                return
            self._next()
        self.take(self._deferred)
        self._deferred = 0
        self._end_if(self.remote_done)

    def left(self) -> None:
        self._drop()
        self.over = True
        if self.request is not None:
            leave(self.request)

    def late(self, now: float) -> None:
        if self.request is None and not self.over and now - self.started > MESSAGE_TIMEOUT_S:
            self.finish(trailers(Status.DEADLINE_EXCEEDED, "The message came too slowly."))

    # what a subclass does otherwise

    @property
    def is_full(self) -> bool:
        """Say whether no more messages are taken for now."""
        return False

    def message(self, body: bytes) -> None:
        """Take a message of the call."""
        if self.body is not None:
            self.finish(trailers(Status.INVALID_ARGUMENT, "The call has more than one message."))
        self.body = body

    def half_closed(self) -> None:
        """The client has sent all that it will."""
        if self.body is None or self._held:
            self.finish(NOT_WHOLE)
            return
        self.request = self.ask(self.body)
        self.listener.handle(self.request)

    def deliver(self, request: GrpcRequest, fields: bytes, body: bytes) -> None:
        """Send the answer to a request."""
        self.over = True
        self.respond(HEAD + encode(b"x-request-id", request.id.encode()) + fields, body, OK_TRAILERS)

    def reject(self, request: GrpcRequest, status: Status, block: bytes, message: str) -> None:
        """Send why a request has no answer."""
        self.finish(block)

    # ours

    def ask(self, body: bytes) -> GrpcRequest:
        """Return a message as a request."""
        head = self.head
        request = GrpcRequest(
            method=b"POST",
            path=head.path,
            headers=head.headers,
            body=body,
            id=head.request_id or self.listener.next_id(),
            arrived=time.monotonic(),
        )
        request.call = self
        request.message = request.said = None
        return request

    def finish(self, block: bytes) -> None:
        """End a call; where nothing was sent yet, with trailers only."""
        self.over = True
        self._drop()
        self.end(block if self.is_headed else HEAD + block)

    def _hold(self, data: bytes) -> None:
        listener = self.listener
        self._parts.append(data)
        self._held += len(data)
        listener.held_bytes += len(data)
        if len(self._parts) > MOST_PARTS:
            self._parts = [b"".join(self._parts)]
        if listener.held_bytes > listener.most_held_bytes:
            self.listener.refused(Code.NOT_NOW)
            self.finish(trailers(Status.UNAVAILABLE, "Too much is coming in at once.", retry_after_s=1))

    def _end_if(self, ended: bool) -> None:
        if ended and not self.over:
            self.half_closed()

    def _next(self) -> None:
        """Take the next message, or learn how long it is."""
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        size = PREFIX_SIZE + int.from_bytes(data[1:PREFIX_SIZE])
        self._parts = [data]
        if size - PREFIX_SIZE > self.listener.most_message_bytes:
            self._too_large()
        elif len(data) < size:
            self._need = size
        else:
            self._drop()
            self._need = PREFIX_SIZE
            self.started = self.connection.touched
            if len(data) > size:
                self._parts = [data[size:]]
                self._held = len(data) - size
                self.listener.held_bytes += self._held
            self._take_message(data[0], data[PREFIX_SIZE:size])

    def _take_message(self, flag: int, body: bytes) -> None:
        if len(body) > self.listener.most_message_bytes:
            self._too_large()
            return
        if flag == 0:
            self.message(body)
            return
        bits = _WINDOW_BITS.get(self.head.encoding)
        if flag != 1 or bits is None:
            detail = encode(b"grpc-accept-encoding", b"identity,deflate,gzip")
            text = "The message is compressed in a way that is not taken here."
            self.finish(trailers(Status.UNIMPLEMENTED, text, detail=detail))
            return
        unpacker = zlib.decompressobj(wbits=bits)
        try:
            whole = unpacker.decompress(body, self.listener.most_message_bytes + 1)
        except zlib.error:
            self.finish(trailers(Status.INVALID_ARGUMENT, "The message cannot be unpacked."))
            return
        if len(whole) > self.listener.most_message_bytes:
            self._too_large()
        elif not unpacker.eof:
            self.finish(trailers(Status.INVALID_ARGUMENT, "The compressed message is not whole."))
        else:
            self.message(whole)

    def _too_large(self) -> None:
        self.listener.refused(Code.TOO_LARGE)
        most = self.listener.most_message_bytes
        self.finish(trailers(Status.RESOURCE_EXHAUSTED, f"The message is larger than {most} bytes."))

    def _drop(self) -> None:
        """Let go of what is held of a message."""
        self.listener.held_bytes -= self._held
        self._parts, self._held = [], 0


def leave(request: GrpcRequest) -> None:
    """Tell a request that its caller is gone."""
    request.gone = True
    on_gone, request.on_gone = request.on_gone, None
    if on_gone is not None:
        on_gone()


def _said_by(served_by: bytes) -> bytes:
    field = _served_by.get(served_by)
    if field is None:
        if len(_served_by) >= _MOST_SERVED_BY:
            _served_by.clear()
        field = _served_by[served_by] = encode(b"x-served-by", served_by)
    return field
