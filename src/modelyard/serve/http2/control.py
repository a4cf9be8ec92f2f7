"""The frames of HTTP/2 that carry nothing of a call: settings, windows, pings, and streams or connections given up."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from modelyard.serve.http2.frames import (
    ACK,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    GOING,
    HIGHEST_FRAME,
    LEAST_FRAME,
    MOST_STREAM_ID,
    MOST_WINDOW,
    PING,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SET_FRAME,
    SET_PUSH,
    SET_WINDOW,
    SETTING,
    SETTINGS,
    WINDOW_UPDATE,
    WORD,
    ConnectionFault,
    frame,
)

if TYPE_CHECKING:
    from modelyard.serve.http2.connection import Connection

RESET_COST = 1  # of patience, beyond that of every frame of this kind
DRAIN_PING = b"draining"


def control(connection: Connection, kind: int, payload: bytes, flags: int, id: int) -> None:
    """Take a frame; one of a kind not known is passed over. Raises ConnectionFault."""
    handler = _HANDLERS.get(kind)
    if handler is not None:
        handler(connection, payload, flags, id)


def _priority(connection: Connection, payload: bytes, flags: int, id: int) -> None:
    _of_stream(id, "PRIORITY")
    _sized(payload, 5, "PRIORITY")
    if WORD.unpack_from(payload)[0] & MOST_STREAM_ID == id:
        raise ConnectionFault(PROTOCOL_ERROR, "a stream depends on itself")


def _reset(connection: Connection, payload: bytes, flags: int, id: int) -> None:
    _of_stream(id, "RST_STREAM")
    _sized(payload, WORD.size, "RST_STREAM")
    stream = connection.streams.get(id)
    if stream is None:
        connection.not_there(id)
        return
    connection.spend(RESET_COST)
    connection.forget(stream)
    stream.left()


def _settings(connection: Connection, payload: bytes, flags: int, id: int) -> None:
    _of_connection(id, "SETTINGS")
    if len(payload) % SETTING.size or (flags & ACK and payload):
        raise ConnectionFault(FRAME_SIZE_ERROR, "SETTINGS of a wrong size")
    if flags & ACK:
        return
    said: dict[int, int] = dict(SETTING.iter_unpack(payload))  # of what is said twice, the last counts
    if said.get(SET_PUSH, 0) > 1:
        raise ConnectionFault(PROTOCOL_ERROR, "SETTINGS with a push that is neither on nor off")
    if not LEAST_FRAME <= said.get(SET_FRAME, LEAST_FRAME) <= HIGHEST_FRAME:
        raise ConnectionFault(PROTOCOL_ERROR, "SETTINGS with a frame size that is not allowed")
    window = said.get(SET_WINDOW, connection.stream_window)
    if window > MOST_WINDOW:
        raise ConnectionFault(FLOW_CONTROL_ERROR, "SETTINGS with a window that is too large")
    connection.write(frame(SETTINGS, ACK, 0))
    change, connection.stream_window = window - connection.stream_window, window
    if change:
        for stream in list(connection.streams.values()):
            stream.window += change
            if stream.window > MOST_WINDOW:
                raise ConnectionFault(FLOW_CONTROL_ERROR, "a window is too large")
            if stream.queue:
                stream.pump()


def _push(connection: Connection, payload: bytes, flags: int, id: int) -> None:
    raise ConnectionFault(PROTOCOL_ERROR, "a client does not push")


def _ping(connection: Connection, payload: bytes, flags: int, id: int) -> None:
    _of_connection(id, "PING")
    _sized(payload, 8, "PING")
    if not flags & ACK:
        connection.write(frame(PING, ACK, 0, payload))
    elif payload == DRAIN_PING and connection.leaving == 1:
        connection.last_call()  # all that the client sent before it heard of the end is here


def _going(connection: Connection, payload: bytes, flags: int, id: int) -> None:
    _of_connection(id, "GOAWAY")
    if len(payload) < GOING.size:
        raise ConnectionFault(FRAME_SIZE_ERROR, "GOAWAY of a wrong size")


def _window(connection: Connection, payload: bytes, flags: int, id: int) -> None:
    _sized(payload, WORD.size, "WINDOW_UPDATE")
    more = WORD.unpack(payload)[0] & MOST_WINDOW
    if more == 0:
        raise ConnectionFault(PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
    if id == 0:
        connection.window += more
        if connection.window > MOST_WINDOW:
            raise ConnectionFault(FLOW_CONTROL_ERROR, "a window is too large")
        connection.pump()
        return
    stream = connection.streams.get(id)
    if stream is None:
        connection.not_there(id, cost=0)
        return
    stream.window += more
    if stream.window > MOST_WINDOW:
        raise ConnectionFault(FLOW_CONTROL_ERROR, "a window is too large")
    if stream.queue:
        stream.pump()


def _of_stream(id: int, name: str) -> None:
    if id == 0:
        raise ConnectionFault(PROTOCOL_ERROR, f"{name} names no stream")


def _of_connection(id: int, name: str) -> None:
    if id != 0:
        raise ConnectionFault(PROTOCOL_ERROR, f"{name} names a stream")


def _sized(payload: bytes, size: int, name: str) -> None:
    if len(payload) != size:
        raise ConnectionFault(FRAME_SIZE_ERROR, f"{name} of a wrong size")


_HANDLERS: dict[int, Callable[[Connection, bytes, int, int], None]] = {
    PRIORITY: _priority,
    RST_STREAM: _reset,
    SETTINGS: _settings,
    PUSH_PROMISE: _push,
    PING: _ping,
    GOAWAY: _going,
    WINDOW_UPDATE: _window,
}
