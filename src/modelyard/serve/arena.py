"""Memory that a front and a worker share: rows too large to be copied through a socket lie here.

A front has one arena a worker, and one batch out at a time, so that whoever is to read it is known: the worker from
the frame to its answer, nobody else. The file has no name, grows and never shrinks (the kernel sees to it, so that no
reader loses the ground under its feet); pages that one large batch needed are given back.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Sequence

LEAST_BYTES = 64 * 1024  # of a batch; below this a copy through the socket costs less
MEGABYTE = 1024 * 1024
KEPT_BYTES = 16 * MEGABYTE  # that stay for the next batch
ALIGNED = 64  # where each piece begins, for whoever computes on it in place


class Arena:
    """The front's side: written before a batch leaves, given back when it was answered."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("modelyard-rows", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        self._map: mmap.mmap | None = None
        self._used = 0

    def lend(self, columns: Sequence[Sequence[bytes | memoryview]]) -> list[int]:
        """Write the parts of each column behind each other; return the bytes of each column. Raises OSError."""
        sizes = [sum(len(part) for part in parts) for parts in columns]
        self._used = sum(_aligned(size) for size in sizes)
        if self._map is None or len(self._map) < self._used:
            os.ftruncate(self.fd, _grown(self._used))
            self._map = mmap.mmap(self.fd, _grown(self._used))
        start = 0
        for parts, size in zip(columns, sizes, strict=True):
            at = start
            for part in parts:
                self._map[at : at + len(part)] = part
                at += len(part)
            start += _aligned(size)
        return sizes

    def give_back(self) -> None:
        """Let the kernel have what a batch larger than most took."""
        if self._map is not None and self._used > KEPT_BYTES:
            self._map.madvise(mmap.MADV_REMOVE, KEPT_BYTES, len(self._map) - KEPT_BYTES)
        self._used = 0

    def close(self) -> None:
        """Let go of it; the memory is free once the worker did so too."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self._map = None


class Lent:
    """The worker's side, read only."""

    def __init__(self, fd: int) -> None:
        """Take over the descriptor that came."""
        self._fd = fd
        self._map: mmap.mmap | None = None

    def columns(self, sizes: Sequence[int]) -> list[memoryview]:
        """Return what lies there, by the bytes of each column; raises OSError, ValueError where there is less."""
        if any(size < 0 for size in sizes):
            raise ValueError("a column has less than no bytes")
        needed = sum(_aligned(size) for size in sizes)
        if self._map is None or len(self._map) < needed:
            self._map = mmap.mmap(self._fd, os.fstat(self._fd).st_size, prot=mmap.PROT_READ)
        if len(self._map) < needed:
            raise ValueError(f"{needed} bytes were to be shared, {len(self._map)} are")
        whole, start, found = memoryview(self._map), 0, []
        for size in sizes:
            found.append(whole[start : start + size])
            start += _aligned(size)
        return found

    def close(self) -> None:
        """Let go of the descriptor; what is still being read stays mapped until it no longer is."""
        os.close(self._fd)
        self._map = None


def _aligned(size: int) -> int:
    return -(-size // ALIGNED) * ALIGNED


def _grown(size: int) -> int:
    """Return a size in whole megabytes, with room to grow, so that the file is seldom made larger."""
    return (size * 5 // 4 // MEGABYTE + 1) * MEGABYTE
