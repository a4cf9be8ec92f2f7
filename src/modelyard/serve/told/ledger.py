"""The answers that a front keeps until their outcomes come, written down without ever holding up a request.

A killed front loses what it answered in the last moments. What finds no room is dropped and counted.
"""

from __future__ import annotations

import errno
import math
import os
import secrets
import struct
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from modelyard.bundle.answers import (
    ENDING,
    FOLDER,
    MAGIC,
    MOST_ENTRY_BYTES,
    NAME_BYTES,
    Answerer,
    Kept,
    digest_of_id,
    entry,
)
from modelyard.serve.told.sampling import Sampling

FLUSH_S = 0.05
ROWS_PER_S = 2000.0  # of one front; of more so many are kept, each with its true probability
SEGMENT_BYTES = 8 * 1024 * 1024
SEGMENTS = 16  # of one front; the oldest goes
MOST_WAITING = 500_000  # numbers not yet written, of all rows together; beyond it rows are dropped and counted

_AT_ONCE = 500  # rows of one write
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC


class Rows(NamedTuple):
    """The rows of a request among those of an answered batch."""

    request: str
    start: int  # in the batch
    rows: int
    first: int = 0  # of the request, where these are a piece of it


class _Batch(NamedTuple):
    """Rows to be written. `kept` has request, row, probability and the place in the lists."""

    release: str
    classes: Sequence[str]
    at: float
    kept: list[tuple[str, int, float, int]]
    labels: Sequence[str] | None
    probabilities: Sequence[Sequence[float]] | None
    values: Sequence[float] | None
    columns: Mapping[str, Sequence[str | None]]
    size: int  # numbers, about


class Ledger:
    """Takes answers from the event loop's thread; a thread of its own writes them."""

    def __init__(
        self,
        folder: Path,
        front: str,
        *,
        rows_per_s: float = ROWS_PER_S,
        segment_bytes: int = SEGMENT_BYTES,
        segments: int = SEGMENTS,
        chance: Callable[[], float] | None = None,
    ) -> None:
        """Keep answers of the front of that name in the run folder; `chance` draws evenly from [0, 1)."""
        self._segments = _Segments(folder / FOLDER, front, most_bytes=segment_bytes, most=segments)
        self._sampling = Sampling(rows_per_s * FLUSH_S, chance=chance)
        self._batches: deque[_Batch] = deque()
        self._numbers: dict[tuple[str, tuple[str, ...], tuple[str, ...]], int] = {}
        self._came_size = self._refused = 0  # counted by who answers
        self._taken_size = self._lost = 0  # counted by the thread
        self._came, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Return how many rows should have been kept and were lost so far."""
        return self._refused + self._lost

    def answered(
        self,
        release: str,
        requests: Sequence[Rows],
        *,
        at: float,
        classes: Sequence[str] = (),
        labels: Sequence[str] | None = None,
        probabilities: Sequence[Sequence[float]] | None = None,
        values: Sequence[float] | None = None,
        columns: Mapping[str, Sequence[str | None]] | None = None,
    ) -> None:
        """Take the answers to requests of one batch; nothing is raised, and nothing waits.

        Args:
            requests: those whose answers left, each with its rows in the lists that follow.
            at: seconds since 1970.
            classes: of the release, in the order of `probabilities`; none for a regression.
            labels, probabilities, values: of the whole batch, by row, not to be changed any more.
            columns: of the whole batch, by row: values as text that verdicts need, None where missing.
        """
        wants = self._sampling.wants
        kept = [
            (name, first + row, p, start + row)
            for name, start, rows, first in requests
            for row in range(rows)
            if (p := wants())
        ]
        size = sum([one.rows for one in requests]) * (1 + len(classes))
        if self._came_size - self._taken_size + size > MOST_WAITING:
            self._refused += len(kept)
        elif kept:
            self._came_size += size
            batch = _Batch(release, classes, at, kept, labels, probabilities, values, columns or {}, size)
            self._batches.append(batch)
            self._came.set()

    def close(self) -> None:
        """Write what waits; twice is harmless."""
        self._ended.set()
        self._came.set()
        self._thread.join(timeout=5.0)

    def _run(self) -> None:
        while not self._ended.is_set():
            self._came.wait()
            self._came.clear()
            self._ended.wait(FLUSH_S)  # what comes meanwhile is written together
            self._sampling.adapt()
            self._flush()
        self._flush()
        self._segments.close()

    def _flush(self) -> None:
        entries: dict[Answerer, list[bytes]] = {}
        for _ in range(len(self._batches)):
            batch = self._batches.popleft()
            who = self._answerer(batch)
            encoded = [data for one in batch.kept if (data := _encoded(one, batch, who))]
            entries.setdefault(who, []).extend(encoded)
            self._lost += len(batch.kept) - len(encoded)
            self._taken_size += batch.size
        for who, chunk in entries.items():
            for start in range(0, len(chunk), _AT_ONCE):
                part = chunk[start : start + _AT_ONCE]
                try:
                    self._segments.append(b"".join(part), who)
                except OSError:  # a full disk must not stop the service
                    self._lost += len(part)

    def _answerer(self, batch: _Batch) -> Answerer:
        key = (batch.release, tuple(batch.classes), tuple(batch.columns))
        number = self._numbers.setdefault(key, len(self._numbers))
        return Answerer(number, *key)


def _encoded(one: tuple[str, int, float, int], batch: _Batch, who: Answerer) -> bytes:
    """Return a row's entry; nothing where there is no answer that could be read again."""
    request, row, p, place = one
    label, stated, value = None, b"", None
    try:
        if batch.values is not None:
            value = float(batch.values[place])
            if not math.isfinite(value):
                return b""
        else:
            assert batch.labels is not None and batch.probabilities is not None
            shares = batch.probabilities[place]
            label, stated = who.classes.index(batch.labels[place]), struct.pack(f"<{len(shares)}f", *shares)
        columns = tuple([column[place] for column in batch.columns.values()])
        data = entry(Kept(digest_of_id(request), row, who.number, batch.at, p, label, stated, value, columns))
    except (ArithmeticError, LookupError, TypeError, ValueError, struct.error):
        return b""
    return data if len(data) <= MOST_ENTRY_BYTES else b""


class _Segments:
    """The files of one front. A process writes to those that it made itself, and to no other's."""

    def __init__(self, folder: Path, front: str, *, most_bytes: int, most: int) -> None:
        self._folder, self._front = folder, front
        self._most_bytes, self._most = most_bytes, most
        self._file, self._size = -1, 0
        self._said: set[int] = set()  # numbers that the current segment explains

    def append(self, data: bytes, who: Answerer) -> None:
        """Write entries of an answerer; all or nothing. Raises OSError."""
        if not data:
            return
        about = b"" if who.number in self._said else entry(who)
        if self._file >= 0 and self._size + len(about) + len(data) > self._most_bytes:
            self.close()
        if self._file < 0:
            self._begin()
        about = b"" if who.number in self._said else entry(who)
        head = MAGIC + secrets.token_bytes(NAME_BYTES) if not self._size else b""
        self._put(head + about + data)
        self._said.add(who.number)

    def close(self) -> None:
        """End the current segment."""
        if self._file >= 0:
            os.close(self._file)
        self._file, self._size, self._said = -1, 0, set()

    def _put(self, data: bytes) -> None:
        try:
            written = os.write(self._file, data)
            if written < len(data):
                raise OSError(errno.ENOSPC, "Only a part of the answers found room.", str(self._folder))
        except OSError:
            try:
                os.ftruncate(self._file, self._size)  # what follows must stand behind whole entries
            except OSError:
                self.close()
            raise
        self._size += len(data)

    def _begin(self) -> None:
        """Begin a segment, and take the oldest away where there are too many."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        while True:
            known = self._known()
            number = known[-1] + 1 if known else 0
            try:
                self._file = os.open(self._path(number), _NEW, 0o600)
                break
            except FileExistsError:  # another process of that name was first
                continue
        for old in known[: len(known) + 1 - self._most]:
            self._path(old).unlink(missing_ok=True)

    def _known(self) -> list[int]:
        middle = (path.name.removeprefix(f"{self._front}.").removesuffix(ENDING) for path in self._paths())
        return sorted(int(number) for number in middle if number.isascii() and number.isdigit())

    def _paths(self) -> list[Path]:
        return [path for path in self._folder.iterdir() if path.name.startswith(f"{self._front}.")]

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._front}.{number}{ENDING}"
