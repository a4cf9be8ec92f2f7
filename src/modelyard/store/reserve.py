"""The reserve of the audit log: room kept for lines that must not wait."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from modelyard.errors import StoreError
from modelyard.store.lock import locked

RESERVE_BYTES = 256 * 1024
_PATIENCE_S = 0.1  # another line that must not wait is done sooner


class Reserve:
    """A file whose blocks exist beforehand, so that a full disk cannot stop a line.

    Lines stand one after the other from the start; the first zero byte ends them.
    """

    def __init__(self, path: Path, *, size_bytes: int = RESERVE_BYTES) -> None:
        self._path, self._lock, self._size = path, path.with_name(f"{path.name}.lock"), size_bytes
        try:
            self._allocate()
        except OSError:
            return  # an unwritable disk: `append` says so, and the line goes on to standard error

    def append(self, line: bytes) -> bool:
        """Add a line (without newline) durably, waiting a tenth of a second at most; say whether it is there."""
        try:
            with locked(self._lock, patience_s=_PATIENCE_S):
                return self._write(line + b"\n")
        except (OSError, StoreError):
            return False

    def is_empty(self) -> bool:
        try:
            with self._path.open("rb") as file:
                return file.read(1) in (b"", b"\0")
        except OSError:
            return True

    def drain(self, take: Callable[[bytes], None]) -> None:
        """Hand over what is there, then empty the reserve; if `take` raises, all of it stays."""
        with locked(self._lock, patience_s=1.0):
            data = self._path.read_bytes().partition(b"\0")[0]
            take(data)
            handle = os.open(self._path, os.O_RDWR)
            try:
                os.pwrite(handle, b"\0" * len(data), 0)  # the blocks stay, so the room stays
                os.fsync(handle)
            finally:
                os.close(handle)

    def _write(self, line: bytes) -> bool:
        used = len(self._path.read_bytes().partition(b"\0")[0])
        if used + len(line) >= self._size:
            return False
        handle = os.open(self._path, os.O_RDWR)
        try:
            written = os.pwrite(handle, line, used)
            os.fdatasync(handle)
        finally:
            os.close(handle)
        return written == len(line)

    def _allocate(self) -> None:
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(handle).st_size < self._size:
                os.posix_fallocate(handle, 0, self._size)
                os.fsync(handle)
        finally:
            os.close(handle)
