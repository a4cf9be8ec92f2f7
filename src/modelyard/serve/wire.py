"""The messages between front and worker: one frame a batch over a Unix socket.

A frame is its length (4 bytes, little-endian) and a msgpack array. Rows travel packed, as `bundle.intake` has them;
the numbers and tensors of large batches lie in memory that both share (`serve.arena`). A front that connects begins
with an empty frame, which carries the descriptor of that memory.
Moments are `time.monotonic()`, which all processes of a machine share.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from modelyard.bundle.intake import Packed
from modelyard.bundle.open import Answers
from modelyard.errors import EngineFailed
from modelyard.serve.told.trace import WorkerSpan

LENGTH = struct.Struct("<I")
MOST_FRAME_BYTES = 512 * 1024 * 1024
LATE = "late"  # the reason of an answer to rows whose callers no longer wait


class BatchFrame(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Rows to answer."""

    id: int
    rows: int
    packed: Packed
    deadline: float = 0.0  # when the last of the callers stops waiting; 0: it does not matter
    traces: list[str] = []  # `traceparent` of the requests that are traced
    lent: list[int] = []  # bytes of the numbers and of each tensor in shared memory, where they lie there


class AnswerFrame(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
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
    spans: list[WorkerSpan] = []
    unread: list[int] = []  # of the bad rows those whose text is not what it must be; the front knows what to say
    not_finite: int = 0  # of the bad rows, how many the model answered with NaN or an infinity


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


def to_answers(frame: AnswerFrame, classes: Sequence[str]) -> Answers:
    """Turn an answer into arrays as `Bundle.answer` gives them; raises EngineFailed where it is misshapen."""
    try:
        if not classes:
            return Answers(values=np.frombuffer(frame.values, dtype=np.float64).reshape(frame.rows))
        places = np.frombuffer(frame.labels, dtype=np.uint32).reshape(frame.rows)  # one below 0 is beyond all classes
        labels = np.array(classes, dtype=object)[places]
        table = np.frombuffer(frame.probabilities, dtype=np.float32).reshape(frame.rows, len(classes))
    except (ValueError, IndexError) as fault:
        raise EngineFailed(f"The worker's answer does not fit {frame.rows} rows: {fault}.") from fault
    return Answers(labels=labels, probabilities=table)


def offer(sock: socket.socket, fd: int) -> None:
    """Send the empty frame with the descriptor of shared memory; raises OSError."""
    socket.send_fds(sock, [LENGTH.pack(0)], [fd])


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
