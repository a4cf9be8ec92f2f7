"""Locks between processes: `flock` on a file or folder, freed by the kernel when the holder dies."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modelyard.errors import StoreError

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.0005, 0.02


def open_lock_file(path: Path) -> int:
    """Return a handle of the lock file, made private if it is not there yet."""
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def open_folder(path: Path) -> int:
    """Return a handle of a folder, for locking the folder itself."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)


def try_lock(handle: int, *, shared: bool = False) -> bool:
    """Lock an open file or folder without waiting; say whether it worked."""
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as fault:
        if fault.errno in (errno.EWOULDBLOCK, errno.EINTR):
            return False
        raise
    return True


@contextmanager
def locked(path: Path, *, shared: bool = False, patience_s: float = 30.0) -> Iterator[None]:
    """Hold the lock file `path` for the block; raises StoreError once `patience_s` is used up.

    Each holder opens the file anew, so threads of one process exclude each other as well. The wait
    is polled because a blocking `flock` cannot be given a limit without signals.
    """
    handle = open_lock_file(path)
    try:
        waited, pause = 0.0, _FIRST_PAUSE_S
        while not try_lock(handle, shared=shared):
            if waited >= patience_s:
                raise StoreError(
                    f"`{path}` is locked by another process and was not freed within {patience_s:g} s. "
                    f"Find the holder with `fuser {path}`; the lock goes when it ends."
                )
            time.sleep(pause)
            waited, pause = waited + pause, min(pause * 2, _LONGEST_PAUSE_S)
        yield
    finally:
        os.close(handle)
