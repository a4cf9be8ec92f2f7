"""Which keys were met already: what tells a caller who comes again from a new one, for all fronts together."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
from pathlib import Path

import msgspec

from modelyard.core.release import Traffic
from modelyard.serve.routing import point

POINTS = 2**22  # a key is known by one of these; two in four million share one, whichever release they meet
ENDING = ".keys"

_PERSON = b"unit"


class Units:
    """Points of keys, a byte each in memory that all fronts share: a byte is set in one store, so that none is lost."""

    def __init__(self, path: Path | None = None) -> None:
        """Go on with the keys at `path`; where there is no room on the disk, with those of this process alone."""
        self._met = _mapped(path)

    def meet(self, key: str) -> bool:
        """Say whether a key is met for the first time; from now on it is known."""
        place = int(point(key, person=_PERSON) * POINTS)
        if self._met[place]:
            return False
        self._met[place] = 1
        return True


def units_file(traffic: Traffic) -> str:
    """Return the name of the file with the keys met while a traffic is split as it is.

    When the shares change the count begins anew: of the keys met from then on, those shares say how many meet which.
    """
    split = msgspec.json.encode([sorted(traffic.shares.items()), traffic.key_header])
    return hashlib.blake2b(split, digest_size=8).hexdigest() + ENDING


def forget(folder: Path, *, but: str = "") -> None:
    """Take the files of keys away that are of another split; who still has one open goes on in it unharmed."""
    for path in folder.glob("*" + ENDING):
        if path.name != but:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _mapped(path: Path | None) -> mmap.mmap:
    if path is None:
        return mmap.mmap(-1, POINTS)
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(file, 0, POINTS)  # a page without room on the disk would end the process
            return mmap.mmap(file, POINTS)
        finally:
            os.close(file)
    except OSError:
        return mmap.mmap(-1, POINTS)
