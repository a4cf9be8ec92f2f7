"""A file of lines that begins anew when it is full: the current one and those before it, each of bounded size."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

KEPT = 3  # files: the current one and those before it


class Rolling:
    """Appends whole lines. Several processes may append to the same file; of one thread in each."""

    def __init__(self, path: Path, *, most_bytes: int) -> None:
        self.path, self.most_bytes = path, most_bytes
        self._torn = False  # the last line was not written whole

    def append(self, lines: bytes) -> None:
        """Write lines; raises OSError where that cannot be."""
        if self._full():
            self._turn_over()
        data = b"\n" + lines if self._torn else lines
        with open(self.path, "ab", buffering=0, opener=_private) as file:
            written = file.write(data)  # one call, so that no other process's lines part these
        self._torn = written < len(data)
        if self._torn:
            raise OSError(errno.ENOSPC, "Only a part of the lines found room.", str(self.path))

    def _full(self) -> bool:
        try:
            return self.path.stat().st_size >= self.most_bytes
        except FileNotFoundError:
            return False

    def _turn_over(self) -> None:
        """Begin a new file; the oldest goes. One process at a time does."""
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            if not self._full():  # another process just did
                return
            for number in range(KEPT - 1, 0, -1):
                older = self._numbered(number)
                newer = self.path if number == 1 else self._numbered(number - 1)
                if newer.exists():
                    newer.replace(older)
        finally:
            os.close(folder)

    def _numbered(self, number: int) -> Path:
        return self.path.with_suffix(f".{number}{self.path.suffix}")


def _private(path: str, flags: int) -> int:
    """Open a file that only its owner may read, where it is made."""
    return os.open(path, flags, 0o600)
