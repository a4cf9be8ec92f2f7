"""Numbers of a process that outlive it, and that any other process reads at any instant.

They lie in a memory-mapped file. When the process is killed, what it counted stays there, and its successor of the
same name goes on from it.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from weakref import WeakKeyDictionary, WeakSet

import msgspec

from modelyard.serve.keep.processes import start_ticks
from modelyard.serve.told.board_file import (
    CELLS_AT,
    ENDING,
    HEAD_BYTES,
    LENGTH,
    MAGIC,
    MOST_CELLS,
    NAMED,
    NAMES_BYTES,
    PID,
    SIZE,
    TICKS,
    Labels,
    Reading,
    Record,
    locked,
    mapped,
    records,
    taken,
)

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
MOST_FAMILY_CELLS = 4096  # of one family; series beyond it are counted together
MOST_LABEL = 200  # characters of a label's value
OTHER = "(other)"  # the labels of the series beyond the bound

_SPARE_CELLS, _SPARE_BYTES = 4096, 32 * 1024  # kept for the series that stand for all others

Key = tuple[str, Labels]
Rename = Callable[[str, Labels], Labels | None]

_ENCODER = msgspec.msgpack.Encoder()


class Series:
    """The cells of one series, `cells[first]` to `cells[last]`; the board moves them when it is folded."""

    __slots__ = ("__weakref__", "cells", "first", "kind", "last")

    def __init__(self, cells: memoryview[float], first: int, kind: str, width: int) -> None:
        self.cells, self.first, self.kind = cells, first, kind
        self.last = first + width - 1

    def add(self, by: float = 1.0) -> None:
        """Count, where it has one cell."""
        self.cells[self.first] += by

    def put(self, value: float) -> None:
        """Say what a gauge is at."""
        self.cells[self.first] = value

    def follow(self, other: Series) -> None:
        """Be where another series is."""
        self.cells, self.first, self.last = other.cells, other.first, other.last

    @property
    def width(self) -> int:
        return self.last - self.first + 1

    @property
    def value(self) -> float:
        return self.cells[self.first]

    @property
    def values(self) -> list[float]:
        return list(self.cells[self.first : self.last + 1])


class Board:
    """The numbers of one process. Written by one thread a series; series are made by one thread."""

    def __init__(self, path: Path | None = None) -> None:
        """Open the board at `path`, and go on counting in it; without a path it is of this process alone.

        Where another process still writes there, a board with a further name beside it is taken.
        Raises: OSError where the file cannot be made.
        """
        self.path: Path | None = None
        self.bound: WeakSet[Bound] = WeakSet()  # told when cells moved
        self._aliases: WeakKeyDictionary[Series, Series] = WeakKeyDictionary()  # folded into others
        self._file = -1
        if path is None:
            self._map(mmap.mmap(-1, SIZE))
        else:
            self.path, self._file = taken(path)
            try:
                self._map(mapped(self._file))
            except OSError:
                os.close(self._file)
                raise
        self._series: dict[Key, Series] = {}
        self._family_cells: dict[str, int] = {}
        self._open()

    def series(self, family: str, kind: str, labels: Labels, width: int = 1) -> Series:
        """Return the cells of a series, made where they are not there yet; beyond the bounds those of `(other)`."""
        known = self._series.get((family, labels))
        if known is not None and known.width == width:
            return known
        labels = tuple(_clean(label) for label in labels)
        other = (OTHER,) * len(labels)
        known = self._series.get((family, labels))
        if known is not None and known.width == width:
            return known
        record = Record(family, kind, width, labels)
        if labels != other and not self._has_room(record):
            return self.series(family, kind, other, width)
        return self._append(record)

    def all(self) -> Iterable[tuple[str, Labels, Series]]:
        """Return every series of this board, in the order they came."""
        return [(family, labels, series) for (family, labels), series in self._series.items()]

    def read(self) -> Reading:
        """Return what this board holds now."""
        name = "" if self.path is None else self.path.name.removesuffix(ENDING)
        return Reading(name=name, pid=os.getpid(), alive=True, series=list(records(self._all)))

    def fold(self, rename: Rename) -> None:
        """Rename series, where `rename` gives None to drop one; those that get the same labels are added up.

        Gauges that are renamed are dropped. The new board takes the old one's place in one step, so that a reader
        sees either; a process killed in between leaves the old one. Who holds a series that was renamed goes on
        counting in the one that took it.
        Raises: OSError where the disk has no room; then nothing is changed.
        """
        old, before, file = self._series, self._all, self._file
        fresh = None if self.path is None else self.path.with_suffix(".new")
        self._file, memory = (-1, mmap.mmap(-1, SIZE)) if fresh is None else _made(fresh)
        self._map(memory)
        self._series, self._family_cells = {}, {}
        targets = {key: self._moved(key, series, rename) for key, series in old.items()}
        self._head[PID], self._head[TICKS] = before[:HEAD_BYTES].cast("Q")[PID : TICKS + 1]
        self._publish_head()
        self._point(old, targets)
        for bound in list(self.bound):
            bound.rebind()
        if fresh is not None and self.path is not None:
            os.close(file)
            fresh.replace(self.path)

    def close(self) -> None:
        """Let a successor have the board; twice is harmless. What is bound may still be written."""
        if self._file >= 0:
            fcntl.flock(self._file, fcntl.LOCK_UN)  # said, as the mapping keeps the file open
            os.close(self._file)
            self._file = -1

    def _map(self, memory: mmap.mmap) -> None:
        self._all = memoryview(memory)
        self._head = self._all[:HEAD_BYTES].cast("Q")
        self._cells = self._all[CELLS_AT:].cast("d")
        self._named, self._used = 0, 0

    def _open(self) -> None:
        """Go on where the process before stopped."""
        if bytes(self._all[:8]) == MAGIC:
            for record, _ in records(self._all):
                self._know(record)
        else:
            self._head[NAMED] = 0
        for series in self._series.values():
            if series.kind == GAUGE:
                series.cells[series.first] = math.nan  # not known until it is put
        self._head[PID], self._head[TICKS] = os.getpid(), start_ticks(os.getpid()) or 0
        self._publish_head()

    def _publish_head(self) -> None:
        self._head[NAMED] = self._named
        self._all[:8] = MAGIC

    def _moved(self, key: Key, series: Series, rename: Rename) -> Series:
        """Count what a series of the board before has in this one; return where."""
        family, labels = key
        renamed = rename(family, labels)
        if renamed is None or (series.kind == GAUGE and renamed != labels):
            return _scratch(series.kind, series.width)
        target = self.series(family, series.kind, renamed, series.width)
        for place, value in enumerate(series.values):
            target.cells[target.first + place] += value
        return target

    def _point(self, old: dict[Key, Series], targets: dict[Key, Series]) -> None:
        """Let all series that were given out, now or before an earlier fold, be where their counts went."""
        keys = {id(series): key for key, series in self._series.items()}
        for key, target in targets.items():
            old[key].follow(target)
        for key, series in old.items():
            if key in self._series:
                self._series[key] = series
        for key, target in targets.items():
            place = keys.get(id(target), key)
            if place != key:
                self._aliases[old[key]] = self._series[place]
        for alias, target in list(self._aliases.items()):
            while target in self._aliases:
                target = self._aliases[target]
            self._aliases[alias] = target
            alias.follow(target)

    def _has_room(self, record: Record) -> bool:
        return (
            self._family_cells.get(record.family, 0) + record.width <= MOST_FAMILY_CELLS
            and self._used + record.width <= MOST_CELLS - _SPARE_CELLS
            and self._named + 4 * MOST_LABEL * (len(record.labels) + 1) <= NAMES_BYTES - _SPARE_BYTES
        )

    def _append(self, record: Record) -> Series:
        data = _ENCODER.encode(record)
        data = LENGTH.pack(len(data)) + data
        at = HEAD_BYTES + self._named
        if at + len(data) > CELLS_AT or self._used + record.width > MOST_CELLS:
            return _scratch(record.kind, record.width)  # more families than any service has
        self._all[at : at + len(data)] = data
        first = self._used
        self._cells[first : first + record.width] = memoryview(bytes(8 * record.width)).cast("d")
        series = self._know(record)
        self._head[NAMED] = self._named  # from here on it counts
        return series

    def _know(self, record: Record) -> Series:
        series = Series(self._cells, self._used, record.kind, record.width)
        self._series[record.family, record.labels] = series
        self._family_cells[record.family] = self._family_cells.get(record.family, 0) + record.width
        self._used += record.width
        self._named += LENGTH.size + len(_ENCODER.encode(record))
        return series


class Bound:
    """Something that keeps places of cells for speed; it is told when they moved."""

    __slots__ = ("__weakref__",)

    def rebind(self) -> None:
        """Look the places up again."""
        raise NotImplementedError


def open_board(path: Path) -> Board:
    """Return the board at `path`, or one of this process alone where the disk has no room for it."""
    try:
        return Board(path)
    except OSError:
        return Board()


def _scratch(kind: str, width: int) -> Series:
    """Return cells that nobody reads."""
    return Series(memoryview(bytearray(8 * width)).cast("d"), 0, kind, width)


def _made(path: Path) -> tuple[int, mmap.mmap]:
    """Return an empty board's file, locked, with its memory."""
    path.unlink(missing_ok=True)
    file = locked(path)
    try:
        return file, mapped(file)
    except OSError:
        os.close(file)
        path.unlink(missing_ok=True)
        raise


def _clean(label: str) -> str:
    """Return a label's value of bounded length that can be written as UTF-8."""
    return label[:MOST_LABEL].encode(errors="replace").decode()
