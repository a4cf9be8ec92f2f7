"""One way to turn records into bytes and back, and to name bytes by their hash."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_ENCODER = msgspec.json.Encoder(order="deterministic")


def encode(record: Any) -> bytes:
    """Return canonical JSON: keys sorted, no spaces, the same bytes for equal records.

    >>> encode({"b": 1, "a": None})
    b'{"a":null,"b":1}'
    """
    return _ENCODER.encode(record)


def encode_pretty(record: Any) -> bytes:
    """Return the canonical JSON indented for people, ending in a newline."""
    return msgspec.json.format(encode(record), indent=2) + b"\n"


def decode(data: bytes, kind: type[T]) -> T:
    """Return the record in `data`; raises msgspec.ValidationError where it does not fit `kind`."""
    return msgspec.json.decode(data, type=kind)


def digest(data: bytes) -> str:
    """Return the SHA-256 of bytes as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def digest_record(record: Any) -> str:
    """Return the SHA-256 of a record's canonical JSON."""
    return digest(encode(record))


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file so that a reader sees the old bytes or the new, never a part.

    A temporary file in the same folder, fsync, rename, fsync of the folder.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make a folder's entries durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
