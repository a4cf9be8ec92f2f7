"""The tables of outcomes, and how labels and answers meet in them, whichever came first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
from sqlalchemy.engine import Connection

from modelyard.bundle.answers import fitting
from modelyard.errors import StoreFormat

VERSION = 2
JOINED, UNMATCHED, DUPLICATE, LATE, FAULTY = "joined", "unmatched", "duplicate", "late", "malformed"

_SHOWN_CLASSES = 5
_TABLES = (
    "CREATE TABLE answerers (id INTEGER PRIMARY KEY, release TEXT NOT NULL, classes TEXT NOT NULL, "
    "columns TEXT NOT NULL, UNIQUE (release, classes, columns))",
    "CREATE TABLE segments (name BLOB PRIMARY KEY, read INTEGER NOT NULL)",
    "CREATE TABLE meanings (segment BLOB NOT NULL, number INTEGER NOT NULL, answerer INTEGER NOT NULL, "
    "PRIMARY KEY (segment, number))",
    "CREATE TABLE answers (id INTEGER PRIMARY KEY, request BLOB NOT NULL, row INTEGER NOT NULL, "
    "release TEXT NOT NULL, answerer INTEGER NOT NULL, at REAL NOT NULL, p REAL NOT NULL, answered INTEGER, "
    "probabilities BLOB NOT NULL, value REAL, columns TEXT NOT NULL, label TEXT, label_at REAL, late INTEGER, "
    "place INTEGER, told TEXT NOT NULL DEFAULT '', UNIQUE (request, row, release))",
    "CREATE INDEX answers_by_time ON answers (at)",
    "CREATE UNIQUE INDEX answers_by_place ON answers (place) WHERE place IS NOT NULL",
    "CREATE TABLE waiting (id INTEGER PRIMARY KEY, request BLOB NOT NULL, row INTEGER NOT NULL, label TEXT NOT NULL, "
    "at REAL NOT NULL, came REAL NOT NULL, told TEXT NOT NULL DEFAULT '', UNIQUE (request, row))",
    "CREATE INDEX waiting_by_time ON waiting (came)",
    "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL)",
)
# `told` is what was told of a row's columns with its outcome: a JSON object of texts, or nothing.
_FROM_1 = tuple(f"ALTER TABLE {table} ADD COLUMN told TEXT NOT NULL DEFAULT ''" for table in ("answers", "waiting"))
_CLASSES = msgspec.json.Decoder(tuple[str, ...])


class Labelled(NamedTuple):
    """What came true of a row of a request, known by its digest, and when that became known."""

    request: bytes
    row: int
    label: str
    at: float
    told: str = ""  # of its columns, as the tables have it


class Fate(NamedTuple):
    """What became of a label, and why where it is malformed."""

    what: str
    why: str = ""


def prepare(connection: Connection) -> None:
    """Make the tables where there are none; raises StoreFormat where a newer version made them."""
    version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if version > VERSION:
        raise StoreFormat(
            f"The outcomes have format {version}; this version reads up to {VERSION}. They were written by a newer "
            "Modelyard: install that version."
        )
    if version < VERSION:
        for statement in _FROM_1 if version == 1 else _TABLES:
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql(f"PRAGMA user_version = {VERSION}")


def counters(connection: Connection) -> dict[str, int]:
    """Return everything counted so far."""
    return {name: int(value) for name, value in connection.exec_driver_sql("SELECT name, value FROM counters")}


def bump(connection: Connection, by: dict[str, int]) -> None:
    """Add to counters."""
    some = [(name, value) for name, value in by.items() if value]
    if some:
        connection.exec_driver_sql(
            "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value", some
        )


def join_labels(connection: Connection, labels: Sequence[Labelled], *, now: float, late_after_s: float) -> list[Fate]:
    """Give labels to the answers they are of; those without one wait. Returns: the fate of each, in order."""
    meeting = _Meeting(connection, late_after_s)
    known = _answers_of(connection, {one.request for one in labels})
    waits = _waiting_of(connection, {one.request for one in labels})
    fresh: list[tuple[Any, ...]] = []
    fates = []
    for one in labels:
        key = (one.request, one.row)
        answers = known.get(key, [])
        if key in waits or any(answer.label for answer in answers):
            fates.append(Fate(DUPLICATE))
        elif not answers:
            waits.add(key)
            fresh.append((one.request, one.row, one.label, one.at, now, one.told))
            fates.append(Fate(UNMATCHED))
        else:
            fates.append(meeting.meet(answers, one))
    if fresh:
        connection.exec_driver_sql(
            "INSERT INTO waiting (request, row, label, at, came, told) VALUES (?, ?, ?, ?, ?, ?)", fresh
        )
    meeting.write()
    _count(connection, fates)
    return fates


def join_answers(connection: Connection, after: int, *, late_after_s: float) -> None:
    """Give answers with an id above `after` the labels that came before them, of their own or of another release."""
    meeting = _Meeting(connection, late_after_s)  # the few new answers are walked, by CROSS JOIN, not what waits
    for found in connection.exec_driver_sql(
        "SELECT a.request, a.row, s.label, s.label_at, s.told FROM answers a CROSS JOIN answers s "
        "ON s.request = a.request AND s.row = a.row AND s.label IS NOT NULL "
        "WHERE a.id > ? AND a.label IS NULL GROUP BY a.id ORDER BY a.id",
        (after,),
    ).fetchall():
        label = Labelled(*found)
        others = _answers_of(connection, {label.request}).get((label.request, label.row), [])
        meeting.meet([one for one in others if not one.label], label)
    meeting.write()
    met = connection.exec_driver_sql(
        "SELECT w.id, w.request, w.row, w.label, w.at, w.told FROM answers a CROSS JOIN waiting w "
        "ON w.request = a.request AND w.row = a.row WHERE a.id > ? GROUP BY w.id ORDER BY MIN(a.id)",
        (after,),
    ).fetchall()
    if not met:
        return
    known = _answers_of(connection, {one[1] for one in met})
    fates = [meeting.meet(known[one[1], one[2]], Labelled(*one[1:])) for one in met]
    connection.exec_driver_sql("DELETE FROM waiting WHERE id = ?", [(one[0],) for one in met])
    meeting.write()
    _count(connection, fates)
    bump(connection, {UNMATCHED: -len(fates)})


def _count(connection: Connection, fates: Sequence[Fate]) -> None:
    by: dict[str, int] = {}
    for fate in fates:
        by[fate.what] = by.get(fate.what, 0) + 1
    by[JOINED] = by.get(JOINED, 0) + by.get(LATE, 0)  # the late ones are joined too
    bump(connection, by)


@dataclass(slots=True)
class _Answer:
    """An answer that a label may be of."""

    id: int
    release: str
    at: float
    label: str | None
    classes: tuple[str, ...]


@dataclass
class _Meeting:
    """Gathers which answers get a label, in their order."""

    connection: Connection
    late_after_s: float
    _met: list[tuple[Any, ...]] = field(default_factory=list)
    _done: set[int] = field(default_factory=set)

    def meet(self, answers: Sequence[_Answer], label: Labelled) -> Fate:
        """Give a label to the answers that it fits."""
        fits = [(one, fit) for one in answers if (fit := fitting(label.label, one.classes)) is not None]
        if not fits:
            return Fate(FAULTY, _unfit(label.label, answers[0]))
        is_late = False
        for one, fit in fits:
            late = label.at - one.at > self.late_after_s
            is_late = is_late or late
            one.label = fit
            if one.id not in self._done:
                self._done.add(one.id)
                self._met.append((fit, label.at, late, label.told, one.id))
        return Fate(LATE if is_late else JOINED)

    def write(self) -> None:
        """Write the labels down, with places behind those of all before."""
        if not self._met:
            return
        first = counters(self.connection).get("place", 0) + 1
        rows = [(place, *one) for place, one in enumerate(self._met, start=first)]
        self.connection.exec_driver_sql(
            "UPDATE answers SET place = ?, label = ?, label_at = ?, late = ?, told = ? WHERE id = ?", rows
        )
        bump(self.connection, {"place": len(rows)})
        self._met.clear()


def _answers_of(connection: Connection, requests: set[bytes]) -> dict[tuple[bytes, int], list[_Answer]]:
    found: dict[tuple[bytes, int], list[_Answer]] = {}
    for request, row, id, release, at, label, classes in connection.exec_driver_sql(
        "SELECT a.request, a.row, a.id, a.release, a.at, a.label, w.classes FROM answers a "
        f"JOIN answerers w ON w.id = a.answerer WHERE a.request IN ({_marks(requests)}) ORDER BY a.id",
        tuple(requests),
    ):
        found.setdefault((request, row), []).append(_Answer(id, release, at, label, _CLASSES.decode(classes)))
    return found


def _waiting_of(connection: Connection, requests: set[bytes]) -> set[tuple[bytes, int]]:
    asked = f"SELECT request, row FROM waiting WHERE request IN ({_marks(requests)})"
    return {(request, row) for request, row in connection.exec_driver_sql(asked, tuple(requests))}


def _marks(values: set[bytes]) -> str:
    return ", ".join("?" * len(values))


def _unfit(label: str, answer: _Answer) -> str:
    if not answer.classes:
        return f"the label `{label[:60]}` is no finite number, as the answers of {answer.release} are"
    shown = ", ".join(answer.classes[:_SHOWN_CLASSES]) + (", ..." if len(answer.classes) > _SHOWN_CLASSES else "")
    return f"the label `{label[:60]}` is no class of {answer.release}; wanted one of: {shown}"
