"""Answers that fronts wrote down, read into the outcomes: each entry once, however many processes read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy.engine import Connection

from modelyard.bundle.answers import ENDING, FOLDER, HEAD_BYTES, MAGIC, Answerer, Kept, entries
from modelyard.store.outcomes_join import bump

AT_ONCE_BYTES = 1024 * 1024  # read in one transaction

_CLASSES = msgspec.json.Decoder(tuple[str, ...])
_Meanings = dict[int, tuple[int, str, int, int]]  # by number: answerer's id, release, how many classes and columns


def take_in(connection: Connection, folder: Path) -> tuple[int, bool]:
    """Read the next entries; return how many answers are new, and whether there is nothing more to read.

    How far each segment was read is written in the same transaction.
    """
    segments = _segments(folder / FOLDER)
    read = {name: at for name, at in connection.exec_driver_sql("SELECT name, read FROM segments")}  # noqa: C416
    gone = [(name,) for name in read.keys() - segments.keys()]
    if gone:
        connection.exec_driver_sql("DELETE FROM segments WHERE name = ?", gone)
        connection.exec_driver_sql("DELETE FROM meanings WHERE segment = ?", gone)
    for name, path in segments.items():
        at = read.get(name, HEAD_BYTES)
        data = _more(path, at)
        if data and (done := _read(connection, name, data)) is not None:
            new, end = done
            connection.exec_driver_sql(
                "INSERT INTO segments VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET read = excluded.read",
                (name, at + end),
            )
            return new, False
    return 0, True


def _segments(folder: Path) -> dict[bytes, Path]:
    """Return the segments with a whole head by their names, those of a front in the order they were begun."""
    found = {}
    for path in sorted(folder.glob(f"*{ENDING}"), key=lambda path: (len(path.name), path.name)):
        try:
            with path.open("rb") as file:
                head = file.read(HEAD_BYTES)
        except FileNotFoundError:  # the oldest go
            continue
        if len(head) == HEAD_BYTES and head.startswith(MAGIC):
            found[head] = path
    return found


def _more(path: Path, at: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(at)
            return file.read(AT_ONCE_BYTES)
    except FileNotFoundError:
        return b""


def _read(connection: Connection, segment: bytes, data: bytes) -> tuple[int, int] | None:
    """Take in the whole entries; return how many answers are new and where the entries end, None without any."""
    meanings = _meanings(connection, segment)
    rows: list[tuple[Any, ...]] = []
    end = strange = 0
    for record, end in entries(data):  # noqa: B007 - where the last one ends is what is wanted
        if isinstance(record, Answerer):
            meanings[record.number] = _meaning(connection, segment, record)
        elif (row := _row(record, meanings)) is not None:
            rows.append(row)
        else:
            strange += 1
    if not end:
        return None
    before = connection.exec_driver_sql("SELECT COALESCE(MAX(id), 0) FROM answers").scalar_one()
    if rows:
        connection.exec_driver_sql(
            "INSERT OR IGNORE INTO answers (request, row, release, answerer, at, p, answered, probabilities, value, "
            "columns) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
    new = connection.exec_driver_sql("SELECT COUNT(*) FROM answers WHERE id > ?", (before,)).scalar_one()
    bump(connection, {"answers": new, "repeated": len(rows) - new, "strange": strange})
    return int(new), end


def _meanings(connection: Connection, segment: bytes) -> _Meanings:
    found = connection.exec_driver_sql(
        "SELECT m.number, w.id, w.release, w.classes, w.columns FROM meanings m JOIN answerers w ON w.id = m.answerer "
        "WHERE m.segment = ?",
        (segment,),
    )
    return {
        number: (id, release, len(_CLASSES.decode(classes)), len(_CLASSES.decode(columns)))
        for number, id, release, classes, columns in found
    }


def _meaning(connection: Connection, segment: bytes, who: Answerer) -> tuple[int, str, int, int]:
    key = (who.release, *(msgspec.json.encode(names).decode() for names in (who.classes, who.columns)))
    connection.exec_driver_sql("INSERT OR IGNORE INTO answerers (release, classes, columns) VALUES (?, ?, ?)", key)
    id = connection.exec_driver_sql(
        "SELECT id FROM answerers WHERE release = ? AND classes = ? AND columns = ?", key
    ).scalar_one()
    connection.exec_driver_sql("INSERT OR REPLACE INTO meanings VALUES (?, ?, ?)", (segment, who.number, id))
    return int(id), who.release, len(who.classes), len(who.columns)


def _row(kept: Kept, meanings: _Meanings) -> tuple[Any, ...] | None:
    """Return the answer as it stands in the table; None where it makes no sense."""
    who = meanings.get(kept.number)
    if who is None:
        return None
    id, release, classes, columns = who
    label = -1 if kept.label is None else kept.label
    is_whole = 0 <= label < classes and len(kept.probabilities) == 4 * classes if classes else kept.value is not None
    if not is_whole or len(kept.columns) != columns or kept.row < 0:
        return None
    texts = msgspec.json.encode(kept.columns).decode()
    return (
        kept.request, kept.row, release, id, kept.at, kept.p, kept.label, kept.probabilities, kept.value, texts
    )  # fmt: skip
