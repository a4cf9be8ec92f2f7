"""The file of a board: how it is laid out, who may write to it, and how any process reads it.

A board is a head, then records that name series, then cells (float64). Records are only appended, and count from the
moment the head's length covers them, so that a reader never sees a torn name; a cell is written by one aligned store.
"""

from __future__ import annotations

import fcntl
import itertools
import mmap
import os
import struct
from collections.abc import Iterable
from pathlib import Path

import msgspec

from modelyard.serve.keep.processes import is_same

ENDING = ".board"
NAMES_BYTES = 512 * 1024
MOST_CELLS = 64 * 1024  # room on the disk; memory is taken only for the pages in use

MAGIC = b"board-01"
HEAD_BYTES = 4096
PID, TICKS, NAMED = 1, 2, 3  # places of 8 bytes in the head, after the magic
CELLS_AT = HEAD_BYTES + NAMES_BYTES
SIZE = CELLS_AT + MOST_CELLS * 8
LENGTH = struct.Struct("<H")  # of a record, before it
_MOST_SUCCESSORS = 8

Labels = tuple[str, ...]


class Record(msgspec.Struct, frozen=True, array_like=True):
    """The name of a series; its cells follow those of the record before."""

    family: str
    kind: str
    width: int
    labels: Labels


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What a board held at some instant."""

    name: str
    pid: int
    alive: bool  # its process still is there
    series: list[tuple[Record, list[float]]]


_DECODER = msgspec.msgpack.Decoder(Record)


def read_all(folder: Path) -> list[Reading]:
    """Return what the boards of a folder hold now, those of dead processes too; safe from any process or thread."""
    readings = [read_board(path) for path in sorted(folder.glob("*" + ENDING))]
    return [reading for reading in readings if reading is not None]


def read_board(path: Path) -> Reading | None:
    """Return what the board at `path` holds now; None where there is none yet."""
    view = viewed(path)
    if view is None:
        return None
    pid, alive = writer(view)
    return Reading(name=path.name.removesuffix(ENDING), pid=pid, alive=alive, series=list(records(view)))


def viewed(path: Path) -> memoryview[int] | None:
    """Return the memory of the board at `path`, to be read only; None where there is none yet."""
    try:
        with path.open("rb") as file:
            view = memoryview(mmap.mmap(file.fileno(), SIZE, access=mmap.ACCESS_READ))
    except (OSError, ValueError):  # not there, or not whole yet
        return None
    return view if bytes(view[:8]) == MAGIC else None


def writer(view: memoryview[int]) -> tuple[int, bool]:
    """Return the process that a board is or was of, and whether it is still there."""
    head = view[:HEAD_BYTES].cast("Q")
    return head[PID], is_same(head[PID], head[TICKS])


def clear(folder: Path) -> None:
    """Take the boards away whose processes are gone: a service that starts anew counts from 0."""
    for path in folder.glob("*" + ENDING):
        reading = read_board(path)
        if reading is None or not reading.alive:
            path.unlink(missing_ok=True)


def records(view: memoryview[int]) -> Iterable[tuple[Record, list[float]]]:
    """Return the published series with their values, up to the first that makes no sense."""
    cells = view[CELLS_AT:].cast("d")
    for record, first in places(view):
        yield record, list(cells[first : first + record.width])


def places(view: memoryview[int]) -> Iterable[tuple[Record, int]]:
    """Return the published series with the place of their first cell, up to the first that makes no sense."""
    at, end, first = HEAD_BYTES, HEAD_BYTES + view[:HEAD_BYTES].cast("Q")[NAMED], 0
    while at < end <= CELLS_AT:
        (length,) = LENGTH.unpack_from(view, at)
        try:
            record = _DECODER.decode(view[at + LENGTH.size : at + LENGTH.size + length])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return
        if not 0 < record.width <= MOST_CELLS - first:
            return
        yield record, first
        at += LENGTH.size + length
        first += record.width


def taken(path: Path) -> tuple[Path, int]:
    """Return a path of that name, or of a further one, that no other process writes to, and its locked file."""
    for number in itertools.count():
        place = path if number == 0 else path.with_name(f"{path.name.removesuffix(ENDING)}+{number}{ENDING}")
        try:
            return place, locked(place)
        except BlockingIOError:
            if number == _MOST_SUCCESSORS:
                raise
    raise AssertionError("unreachable")


def locked(path: Path) -> int:
    """Return the file at `path`, made where there is none, that this process alone may write to."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file).st_ino == path.stat().st_ino:  # else another took its place meanwhile
                return file
        except FileNotFoundError:
            pass
        except OSError:
            os.close(file)
            raise
        os.close(file)


def mapped(file: int) -> mmap.mmap:
    """Return the whole file as memory; its room on the disk is taken first, as a page without any ends a process."""
    os.posix_fallocate(file, 0, SIZE)
    return mmap.mmap(file, SIZE)
