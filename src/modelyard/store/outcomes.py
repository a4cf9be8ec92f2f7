"""Outcomes that arrive late: answers as fronts kept them, joined with what came true by the request's id.

Several processes may use the file at once: a front's entry is taken in once, a label is joined once.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy.engine import Connection

from modelyard.bundle.answers import (
    MOST_COLUMNS,
    MOST_ID,
    MOST_LABEL,
    MOST_ROW,
    MOST_TEXT,
    MOST_VALUE,
    Feedback,
    FeedbackCounts,
    Joined,
    Label,
    Unread,
    column_text,
    digest_of_id,
    label_text,
)
from modelyard.core.clock import Clock, SystemClock
from modelyard.store.database import Database, sqlite_url
from modelyard.store.lock import locked
from modelyard.store.outcomes_intake import take_in
from modelyard.store.outcomes_join import (
    DUPLICATE,
    FAULTY,
    JOINED,
    LATE,
    UNMATCHED,
    Fate,
    Labelled,
    bump,
    counters,
    join_answers,
    join_labels,
    prepare,
)

FILE = "outcomes.db"
MOST_ROWS = 2_000_000  # answers kept; the oldest go
MOST_WAITING = 200_000  # labels kept whose answer has not come
MOST_AGE_S = 7 * 86_400.0
LATE_AFTER_S = 86_400.0
AT_ONCE = 2_000  # of one transaction

_FATES = (JOINED, UNMATCHED, DUPLICATE, LATE, FAULTY)
_PAGE = """
SELECT a.place, a.release, a.label, a.at, a.p, a.late, w.classes, a.answered, a.probabilities, a.value, w.columns,
a.columns, a.told FROM answers a JOIN answerers w ON w.id = a.answerer WHERE a.place > ? ORDER BY a.place LIMIT ?
"""
_TEXTS = msgspec.json.Decoder(tuple[str | None, ...])
_CLASSES = msgspec.json.Decoder(tuple[str, ...])
_TOLD = msgspec.json.Decoder(dict[str, str])


class Outcomes:
    """The outcomes of one service. Safe to share between threads and processes."""

    def __init__(
        self,
        folder: Path,
        *,
        clock: Clock | None = None,
        late_after_s: float = LATE_AFTER_S,
        most_rows: int = MOST_ROWS,
        most_waiting: int = MOST_WAITING,
        most_age_s: float = MOST_AGE_S,
    ) -> None:
        """Open the outcomes in a service's run folder; raises StoreError where the file cannot be used."""
        self.folder, self._clock = folder, clock or SystemClock()
        self._late_after_s, self._most_age_s = late_after_s, most_age_s
        self._most_rows, self._most_waiting = most_rows, most_waiting
        self._database = Database(sqlite_url(folder / FILE))
        with locked(folder / f".{FILE}.lock"):
            self._database.use_write_ahead_log()
            with self._database.write() as connection:
                prepare(connection)

    def ingest(self) -> int:
        """Take in what fronts wrote since the last time; return how many answers were new."""
        total = 0
        while True:
            with self._database.write() as connection:
                last = connection.exec_driver_sql("SELECT COALESCE(MAX(id), 0) FROM answers").scalar_one()
                new, is_done = take_in(connection, self.folder)
                if new:
                    join_answers(connection, last, late_after_s=self._late_after_s)
                self._trim(connection, self._now())
            total += new
            if is_done:
                return total

    def feedback(self, rows: Iterable[Feedback | Unread]) -> FeedbackCounts:
        """Join labels with the answers that they are of; what fronts wrote meanwhile is taken in first.

        The rows are taken in as they come, some at a time: where one raises, those before it stand.
        Returns: what became of these rows.
        """
        self.ingest()
        tally = dict.fromkeys(_FATES, 0)
        first: str | None = None
        remaining = iter(rows)
        while chunk := list(islice(remaining, AT_ONCE)):
            for fate in self._join(chunk):
                tally[fate.what] += 1
                first = first or fate.why or None
        tally[JOINED] += tally[LATE]
        return msgspec.convert({**tally, "first_fault": first}, FeedbackCounts)

    def counts(self) -> FeedbackCounts:
        """Return what became of all feedback so far; labels that were given up are among the unmatched."""
        with self._database.read() as connection:
            found = counters(connection)
        return msgspec.convert({name: found.get(name, 0) for name in _FATES}, FeedbackCounts)

    def last_place(self) -> int:
        """Return the place of what was joined last, 0 where nothing was: what a step joins comes behind it."""
        with self._database.read() as connection:
            return counters(connection).get("place", 0)

    def joined_since(self, place: int, releases: Collection[str] | None = None) -> Iterator[Joined]:
        """Yield what was joined after that place, in the order in which it was; of all releases where none is named."""
        while True:
            with self._database.read() as connection:
                page = connection.exec_driver_sql(_PAGE, (place, AT_ONCE)).fetchall()
            for row in page:
                if releases is None or row[1] in releases:
                    yield _joined(row)
            if len(page) < AT_ONCE:
                return
            place = page[-1][0]

    def close(self) -> None:
        """Twice is harmless."""
        self._database.close()

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _join(self, chunk: Sequence[Feedback | Unread]) -> list[Fate]:
        now = self._now()
        faults = {place: why for place, one in enumerate(chunk) if (why := _fault(one))}
        labels = [
            Labelled(digest_of_id(one.request), one.row, label_text(one.label), min(one.at or now, now), _told(one))
            for place, one in enumerate(chunk)
            if isinstance(one, Feedback) and place not in faults
        ]
        with self._database.write() as connection:
            fates = iter(join_labels(connection, labels, now=now, late_after_s=self._late_after_s))
            bump(connection, {FAULTY: len(faults)})
            self._trim(connection, now)
        return [Fate(FAULTY, faults[place]) if place in faults else next(fates) for place in range(len(chunk))]

    def _trim(self, connection: Connection, now: float) -> None:
        """Let go of the oldest answers, and of labels that waited too long."""
        for table, time, most in (("answers", "at", self._most_rows), ("waiting", "came", self._most_waiting)):
            connection.exec_driver_sql(f"DELETE FROM {table} WHERE {time} < ?", (now - self._most_age_s,))
            span = (
                connection.exec_driver_sql(
                    f"SELECT (SELECT MAX(id) FROM {table}) - (SELECT MIN(id) FROM {table}) + 1"
                ).scalar_one()
                or 0
            )
            if span > most:  # only then they are counted
                over = connection.exec_driver_sql(f"SELECT COUNT(*) FROM {table}").scalar_one() - most
                oldest = f"SELECT id FROM {table} ORDER BY {time}, id LIMIT ?"
                connection.exec_driver_sql(f"DELETE FROM {table} WHERE id IN ({oldest})", (max(over, 0),))


def _fault(one: Feedback | Unread) -> str:
    """Say why it is no feedback; empty where it is."""
    if isinstance(one, Unread):
        return one.why
    if not 1 <= len(one.request) <= MOST_ID:
        return f"a request's id has {len(one.request)} characters; wanted 1 to {MOST_ID}"
    if not 0 <= one.row <= MOST_ROW:
        return f"row {one.row} of a request; wanted 0 to {MOST_ROW}"
    if isinstance(one.label, str) and len(one.label) > MOST_LABEL:
        return f"a label has {len(one.label)} characters; wanted at most {MOST_LABEL}"
    if not isinstance(one.label, str) and not abs(one.label) <= MOST_VALUE:  # NaN is not either
        return f"a label is not finite, or beyond {MOST_VALUE:g}"
    if one.at is not None and not math.isfinite(one.at):
        return f"`at` is {one.at}; wanted seconds since 1970"
    return _fault_of_columns(one.columns)


def _fault_of_columns(columns: Mapping[str, Label]) -> str:
    if len(columns) > MOST_COLUMNS:
        return f"{len(columns)} columns are told; wanted at most {MOST_COLUMNS}, those by which groups are compared"
    for name, value in columns.items():
        if not 1 <= len(name) <= MOST_TEXT or (isinstance(value, str) and len(value) > MOST_TEXT):
            return f"column `{name[:60]}`: a name or a text has more than {MOST_TEXT} characters, or a name has none"
        if not isinstance(value, str) and not abs(value) <= MOST_VALUE:
            return f"column `{name[:60]}` is not finite, or beyond {MOST_VALUE:g}"
    return ""


def _told(one: Feedback) -> str:
    """Return what is told of columns, as the tables have it."""
    texts = {name: column_text(value) for name, value in one.columns.items()}
    return msgspec.json.encode(texts).decode() if texts else ""


def _joined(row: Any) -> Joined:
    place, release, label, at, p, late, classes, answered, stated, value, names, texts, told = row
    known = _CLASSES.decode(classes)
    columns = dict(zip(_CLASSES.decode(names), _TEXTS.decode(texts), strict=True))
    for name, text in (_TOLD.decode(told) if told else {}).items():
        if columns.get(name) is None:
            columns[name] = text
    return Joined(
        place=place,
        release=release,
        label=label,
        at=at,
        p=p,
        late=bool(late),
        classes=known,
        answered=None if answered is None else known[answered],
        probabilities=struct.unpack(f"<{len(stated) // 4}f", stated),
        value=value,
        columns=columns,
    )
