"""The messages between front and worker: one frame a batch over a Unix socket.

A frame is its length (4 bytes, little-endian) and a msgpack array. Columns travel in the order of the contract's
features: numbers as raw float64, moments as raw int64 microseconds, strings as a list with nil where missing.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from modelyard.bundle.open import Answers
from modelyard.core.arrays import Array, Columns
from modelyard.core.contract import Column
from modelyard.errors import EngineFailed

LENGTH = struct.Struct("<I")
MOST_FRAME_BYTES = 512 * 1024 * 1024

Part = bytes | list[str | None]


class BatchFrame(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Rows to answer."""

    id: int
    rows: int
    columns: list[Part]


class AnswerFrame(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Answers to a batch, or why there are none.

    `bad` names rows that the model cannot answer; their places in the arrays hold no meaning. `labels` are places
    in the manifest's classes, int32; `probabilities` (rows, classes) float32; `values` float64.
    """

    id: int
    rows: int
    bad: list[int] = []
    reason: str = ""
    labels: bytes = b""
    probabilities: bytes = b""
    values: bytes = b""
    infer_us: float = 0.0


_ENCODER = msgspec.msgpack.Encoder()
_BATCHES = msgspec.msgpack.Decoder(BatchFrame)
_ANSWERS = msgspec.msgpack.Decoder(AnswerFrame)


def pack(frame: BatchFrame | AnswerFrame) -> bytes:
    """Return the frame with its length before it."""
    body = _ENCODER.encode(frame)
    return LENGTH.pack(len(body)) + body


def unpack_batch(body: bytes | memoryview) -> BatchFrame:
    """Read a batch, without its length; raises msgspec.MsgspecError."""
    return _BATCHES.decode(body)


def unpack_answer(body: bytes | memoryview) -> AnswerFrame:
    """Read an answer, without its length; raises msgspec.MsgspecError."""
    return _ANSWERS.decode(body)


def to_parts(features: Sequence[Column], columns: Columns) -> list[Part]:
    """Turn checked columns into what a frame carries, in the order of `features`."""
    parts: list[Part] = []
    for column in features:
        values = columns.values[column.name]
        if values.dtype == object:
            parts.append(values.tolist())
        else:
            parts.append(values.tobytes())
    return parts


def join(many: Sequence[list[Part]]) -> list[Part]:
    """Put the parts of several requests behind each other, in order."""
    if len(many) == 1:
        return many[0]
    joined: list[Part] = []
    for column in zip(*many, strict=True):
        if isinstance(column[0], bytes):
            joined.append(b"".join(column))
        else:
            joined.append([value for part in column for value in part])
    return joined


def cut(parts: list[Part], start: int, stop: int) -> list[Part]:
    """Return the rows from `start` to `stop` of a request's parts."""
    return [part[start * 8 : stop * 8] if isinstance(part, bytes) else part[start:stop] for part in parts]


def to_columns(features: Sequence[Column], frame: BatchFrame) -> Columns:
    """Turn a batch back into columns; raises EngineFailed where it does not fit the contract."""
    if len(frame.columns) != len(features):
        raise EngineFailed(f"A batch of {len(frame.columns)} columns came, wanted {len(features)}.")
    values: dict[str, Array] = {}
    for column, part in zip(features, frame.columns, strict=True):
        if isinstance(part, bytes) == column.kind.is_string:
            raise EngineFailed(f"Column `{column.name}` came in the form of another kind than `{column.kind}`.")
        if len(part) != frame.rows * (8 if isinstance(part, bytes) else 1):
            raise EngineFailed(f"Column `{column.name}` came with a length that is not {frame.rows} rows.")
        if isinstance(part, bytes):
            values[column.name] = np.frombuffer(part, dtype="datetime64[us]" if column.kind.is_time else np.float64)
        else:
            array = np.empty(len(part), dtype=object)
            array[:] = part
            values[column.name] = array
    return Columns(values)


def to_answers(frame: AnswerFrame, classes: Sequence[str]) -> Answers:
    """Turn an answer into arrays as `Bundle.answer` gives them; raises EngineFailed where it is misshapen."""
    try:
        if not classes:
            return Answers(values=np.frombuffer(frame.values, dtype=np.float64).reshape(frame.rows))
        places = np.frombuffer(frame.labels, dtype=np.int32).reshape(frame.rows)
        labels = np.array(classes, dtype=object)[places]
        table = np.frombuffer(frame.probabilities, dtype=np.float32).reshape(frame.rows, len(classes))
    except (ValueError, IndexError) as fault:
        raise EngineFailed(f"The worker's answer does not fit {frame.rows} rows: {fault}.") from fault
    return Answers(labels=labels, probabilities=table)


def listen_at(folder: Path, name: str) -> socket.socket:
    """Return a Unix socket listening at `folder/name`, only for this user, in place of what was there."""
    (folder / name).unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # the file is 0600 from its first moment
    try:
        _with_short_path(folder, name, server.bind)
    finally:
        os.umask(before)
    server.listen(64)
    return server


def connect_to(folder: Path, name: str, *, timeout_s: float = 5.0) -> socket.socket:
    """Return a connection to the Unix socket at `folder/name`; raises OSError."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(timeout_s)
    try:
        _with_short_path(folder, name, client.connect)
    except OSError:
        client.close()
        raise
    return client


def _with_short_path(folder: Path, name: str, act: object) -> None:
    """Call `act` with a path of at most 107 bytes, which is all that a Unix socket's address holds."""
    assert callable(act)
    path = os.fspath(folder / name)
    if len(os.fsencode(path)) < 108:
        act(path)
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        act(f"/proc/self/fd/{handle}/{name}")
    finally:
        os.close(handle)
