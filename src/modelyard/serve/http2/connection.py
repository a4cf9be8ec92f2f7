"""HTTP/2 on the event loop, as much of it as gRPC needs: frames in, streams between, frames out.

Everything that a client can make us hold or do is bounded: streams at once, header blocks and what they say, bytes
that come in, frames that carry nothing, streams given up, and the time that any of it may take.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

from modelyard.serve.http2.blocks import MOST_FIELD_BYTES, Blocks
from modelyard.serve.http2.control import DRAIN_PING, control
from modelyard.serve.http2.frames import (
    ACK,
    CANCEL,
    CONTINUATION,
    DATA,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FIRST_WINDOW,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    HEAD,
    HEAD_SIZE,
    HEADERS,
    LEAST_FRAME,
    MOST_STREAM_ID,
    NO_ERROR,
    PADDED,
    PING,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    SET_FIELDS,
    SET_STREAMS,
    SET_WINDOW,
    SETTINGS,
    STREAM_CLOSED,
    ConnectionFault,
    StreamFault,
    credit,
    frame,
    going,
    reset,
    settings,
    unpadded,
)
from modelyard.serve.http2.hpack import Field
from modelyard.serve.http2.line import Line, Owner
from modelyard.serve.http2.stream import STREAM_WINDOW, Stream

MOST_STREAMS = 256  # of a connection at once
CONNECTION_WINDOW = 4 * 1024 * 1024  # bytes that a client may send on all its streams beyond what was taken up
MOST_CUT = 256  # streams that ended on our side first, that are remembered

# Patience is spent on frames that ask for no answer and on streams given up; time and answers bring it back.
MOST_PATIENCE = 2_000
PATIENCE_PER_S = 400
PATIENCE_PER_ANSWER = 4

GREETING_TIMEOUT_S = 10.0  # for a client to say that it speaks HTTP/2
FRAME_TIMEOUT_S = 30.0  # for a frame or a header block to come in whole, and for a client to open its window
ANSWER_TIMEOUT_S = 5.0  # for a client to show that it heard of the connection's end
IDLE_TIMEOUT_S = 300.0  # for a connection without a stream

_GREETING = settings({SET_STREAMS: MOST_STREAMS, SET_WINDOW: STREAM_WINDOW, SET_FIELDS: MOST_FIELD_BYTES}) + credit(
    0, CONNECTION_WINDOW - FIRST_WINDOW
)


class Host(Owner, Protocol):
    """Whose connections these are."""

    draining: bool

    def head(self, fields: list[Field]) -> Any:
        """Return what is to be remembered of a request's fields; raises StreamFault."""
        ...

    def open(self, connection: Connection, id: int, head: Any) -> Stream:
        """Return the stream of a new request."""
        ...


class Connection(Line):
    """One client's connection."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.host = host
        self.streams: dict[int, Stream] = {}
        self.window = FIRST_WINDOW  # bytes that the client still takes on all streams
        self.stream_window = FIRST_WINDOW  # and, at first, on each
        self.leaving = 0  # 1: we said that the connection will end; 2: and which stream is the last
        self._announced = 0.0
        self._greeted = self._settled = False
        self._blocks = Blocks(host.head)
        self._credit = CONNECTION_WINDOW  # bytes that the client may still send
        self._owed = 0  # bytes taken up for which it has no new credit
        self._newest = 0  # stream
        self._last = MOST_STREAM_ID  # stream that is answered
        self._cut: deque[int] = deque(maxlen=MOST_CUT)
        self._blocked: dict[int, Stream] = {}
        self.patience = MOST_PATIENCE

    def opened(self) -> None:
        self.write(_GREETING)
        if self.host.draining:
            self.announce()

    def lost(self) -> None:
        streams, self.streams = list(self.streams.values()), {}
        self._blocked.clear()
        for stream in streams:
            stream.left()

    def newest(self) -> int:
        return self._newest

    # what the streams call

    def done(self, stream: Stream) -> None:
        """A stream was answered."""
        self.streams.pop(stream.id, None)
        self.earn(PATIENCE_PER_ANSWER)
        if not stream.remote_done:
            self._cut.append(stream.id)
            self.write(reset(stream.id, NO_ERROR))
        self._close_if_over()

    def give_up(self, stream: Stream, number: int) -> None:
        """End a stream without more of an answer."""
        self.streams.pop(stream.id, None)
        self.unblock(stream)
        self._cut.append(stream.id)
        self.write(reset(stream.id, number))
        stream.left()
        self._close_if_over()

    def block(self, stream: Stream) -> None:
        """A stream waits for a window to open; it stands behind all others."""
        if self._blocked.pop(stream.id, None) is None:
            stream.blocked_since = self.loop.time()
        self._blocked[stream.id] = stream

    def unblock(self, stream: Stream) -> None:
        """A stream has nothing that waits for a window."""
        if self._blocked:
            self._blocked.pop(stream.id, None)

    def pump(self) -> None:
        """Send what waits for a window, as far as the connection's reaches."""
        for stream in list(self._blocked.values()):
            if self.window <= 0:
                return
            stream.pump()

    def spend(self, cost: int) -> None:
        """Bear with a frame that asks for nothing; raises ConnectionFault where there were too many."""
        self.patience -= cost
        if self.patience < 0:
            raise ConnectionFault(ENHANCE_YOUR_CALM, "too many frames that ask for nothing")

    def earn(self, gain: int) -> None:
        """Have more patience with a client that we answer."""
        if self.patience < MOST_PATIENCE:
            self.patience += gain

    def not_there(self, id: int, *, cost: int = 1) -> None:
        """Pass over a frame of a stream that is over; raises ConnectionFault for one that never was."""
        if id == 0 or id > self._newest or not id & 1:
            raise ConnectionFault(PROTOCOL_ERROR, "a frame names a stream that is not open")
        self.spend(cost)

    def forget(self, stream: Stream) -> None:
        """Drop a stream that the client gave up."""
        self.streams.pop(stream.id, None)
        self.unblock(stream)
        self._close_if_over()

    def last_call(self) -> None:
        """Say which stream is the last that is answered; the connection ends behind it."""
        self.leaving, self._last = 2, self._newest
        self.write(going(self._last, NO_ERROR, "draining"))
        self._close_if_over()

    # what the host calls

    def announce(self) -> None:
        """Say that the connection will end; calls that are on their way to us are still answered."""
        if self.leaving or self.is_closing:
            return
        self.leaving, self._announced = 1, self.loop.time()
        self.write(going(MOST_STREAM_ID, NO_ERROR, "draining") + frame(PING, 0, 0, DRAIN_PING))

    def sweep(self, now: float) -> None:
        """End what takes too long; to be called every second or so."""
        self.patience = min(self.patience + PATIENCE_PER_S, MOST_PATIENCE)
        if not self.look(now):
            return
        if not self._greeted and now - self.made > GREETING_TIMEOUT_S:
            self.fail(ConnectionFault(PROTOCOL_ERROR, "no HTTP/2 came"))
        elif (self._rest or self._blocks.part) and now - self.touched > FRAME_TIMEOUT_S:
            self.fail(ConnectionFault(ENHANCE_YOUR_CALM, "a frame came too slowly"))
        elif self.leaving == 1 and now - self._announced > ANSWER_TIMEOUT_S:
            self.last_call()
        elif self.streams:
            for stream in list(self.streams.values()):
                if stream.queue and now - stream.blocked_since > FRAME_TIMEOUT_S:
                    self.give_up(stream, CANCEL)
                else:
                    stream.late(now)
        elif now - self.touched > IDLE_TIMEOUT_S:
            self.announce()

    def settle(self, now: float, quiet_s: float) -> None:
        """Bring a connection that was announced to end towards it, as far as it is quiet."""
        if self.leaving == 1 and now - self._announced > quiet_s:
            self.last_call()
        if self.leaving == 2:
            for stream in list(self.streams.values()):
                stream.settle(now, quiet_s)

    def _close_if_over(self) -> None:
        if self.leaving == 2 and not self.streams:
            self.close()

    # frames

    def read(self, data: bytes) -> bytes:
        at, end = 0, len(data)
        if not self._greeted:
            if not data.startswith(PREFACE[:end]):
                raise ConnectionFault(PROTOCOL_ERROR, "this is not HTTP/2 with prior knowledge")
            if end < len(PREFACE):
                return data
            self._greeted, at = True, len(PREFACE)
        while end - at >= HEAD_SIZE:
            high, low, kind, flags, id = HEAD.unpack_from(data, at)
            if high or low > LEAST_FRAME:
                raise ConnectionFault(FRAME_SIZE_ERROR, f"a frame is larger than {LEAST_FRAME} bytes")
            start = at + HEAD_SIZE
            stop = start + low
            if stop > end:
                break
            at = stop
            id &= MOST_STREAM_ID
            if kind == DATA and self._blocks.part is None and self._settled:
                self._on_data(data, start, stop, flags, id)
            elif kind == HEADERS and self._blocks.part is None and self._settled:
                self._on_headers(data, start, stop, flags, id)
            else:
                self._on_other(kind, data[start:stop], flags, id)
            if self.is_closing:
                return b""
        return data[at:] if at < end else b""

    def _on_data(self, data: bytes, start: int, stop: int, flags: int, id: int) -> None:
        size = stop - start
        self._credit -= size
        self._owed += size
        if self._credit < 0:
            raise ConnectionFault(FLOW_CONTROL_ERROR, "more came than the connection's window")
        if self._owed >= CONNECTION_WINDOW // 2:
            self.write(credit(0, self._owed))
            self._credit += self._owed
            self._owed = 0
        stream = self.streams.get(id)
        if stream is None:
            self.not_there(id)
            return
        if stream.remote_done:
            raise ConnectionFault(STREAM_CLOSED, "DATA came behind the end of their stream")
        stream.credit -= size
        if stream.credit < 0:
            raise ConnectionFault(FLOW_CONTROL_ERROR, "more came than the stream's window")
        if flags & PADDED:
            start, stop = unpadded(data, start, stop, flags)
            stream.take(size - (stop - start))
        if start == stop and not flags & END_STREAM:
            self.spend(1)
        elif flags & END_STREAM:
            stream.remote_done = True
            stream.came(data[start:stop], True)
        else:
            stream.came(data[start:stop], False)

    def _on_headers(self, data: bytes, start: int, stop: int, flags: int, id: int) -> None:
        if not id & 1:
            raise ConnectionFault(PROTOCOL_ERROR, "HEADERS name a stream that no client opens")
        ended = bool(flags & END_STREAM)
        block = self._blocks.begin(data, start, stop, flags, id, ended)
        if block is not None:
            self._on_block(id, block, ended)

    def _on_block(self, id: int, block: bytes, ended: bool) -> None:
        if id <= self._newest:
            self._on_trailers(id, block, ended)
            return
        head = self._blocks.head(block)
        self._newest = id
        if id > self._last:
            self._cut.append(id)
            return  # the client knows from our GOAWAY that this was not looked at
        if isinstance(head, StreamFault):
            self._refuse(id, head.number)
        elif len(self.streams) >= MOST_STREAMS:
            self._refuse(id, REFUSED_STREAM)
        else:
            stream = self.streams[id] = self.host.open(self, id, head)
            stream.opened()
            if ended and id in self.streams:
                stream.remote_done = True
                stream.came(b"", True)

    def _on_trailers(self, id: int, block: bytes, ended: bool) -> None:
        stream = self.streams.get(id)
        names = self._blocks.fields(block)
        if stream is None:
            if id not in self._cut:
                raise ConnectionFault(STREAM_CLOSED, "HEADERS came for a stream that is over")
            self.spend(1)
        elif stream.remote_done:
            raise ConnectionFault(STREAM_CLOSED, "HEADERS came behind the end of their stream")
        elif not ended or any(name.startswith(b":") for name, _ in names):
            self.give_up(stream, PROTOCOL_ERROR)
        else:
            stream.remote_done = True
            stream.came(b"", True)

    def _on_other(self, kind: int, payload: bytes, flags: int, id: int) -> None:
        """Take a frame that carries nothing of a call."""
        if not self._settled:
            if kind != SETTINGS or flags & ACK:
                raise ConnectionFault(PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self._settled = True
        if kind == CONTINUATION:
            whole = self._blocks.go_on(payload, flags, id)
            if whole is not None:
                self._on_block(id, *whole)
            return
        if self._blocks.part is not None:
            raise ConnectionFault(PROTOCOL_ERROR, "a header block is not continued")
        self.spend(1)
        control(self, kind, payload, flags, id)

    def _refuse(self, id: int, number: int) -> None:
        """Turn a stream down before anything is done for it."""
        self.spend(1)
        self._cut.append(id)
        self.write(reset(id, number))
