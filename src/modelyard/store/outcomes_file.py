"""Outcomes in a file: JSON lines or CSV, read line by line, whatever its size."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from modelyard.bundle.answers import Feedback, Unread, read_feedback
from modelyard.errors import EmptyData, MissingColumn, WrongFormat

MOST_LINE_BYTES = 16 * 1024
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv")

_COLUMNS = ("request", "label")
_MORE = ("row", "at")


def is_csv(path: Path) -> bool:
    """Say whether a file is CSV, by its name; else it is JSON lines. Raises WrongFormat where it is neither."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise WrongFormat(f"`{path}` ends in `{suffix}`; wanted one of: {', '.join(SUFFIXES)} (JSON lines, or CSV).")
    return suffix == ".csv"


def json_outcomes(file: BinaryIO) -> Iterator[Feedback | Unread]:
    """Yield the outcomes of JSON lines; blank ones are passed over."""
    for where, line in _lines(file):
        if line is None:
            yield _too_long(where)
        elif line.strip():
            yield read_feedback(line, where)


def csv_outcomes(file: BinaryIO, name: str, columns: Sequence[str] = ()) -> Iterator[Feedback | Unread]:
    """Yield the outcomes of CSV with a head: `request`, `label`, and `row` and `at` where there are any.

    `columns` are those that are told with the outcomes; an empty field tells nothing. Others are passed over.

    Raises: EmptyData, MissingColumn, WrongFormat for a head that cannot be used.
    """
    lines = _lines(file)
    head = _cells(next(lines, ("", b""))[1] or b"")
    if not head:
        raise EmptyData(f"`{name}` has no head; wanted a line such as `request,label`.")
    if isinstance(head, str):
        raise WrongFormat(f"`{name}`: the head cannot be read: {head}. Wanted a line such as `request,label`.")
    head[0] = head[0].removeprefix("\ufeff")
    missing = [one for one in (*_COLUMNS, *columns) if one not in head]
    if missing:
        raise MissingColumn(f"`{name}`", missing, head)
    for where, line in lines:
        if line is None:
            yield _too_long(where)
        elif line.strip():
            yield _read(where, head, _cells(line), columns)


def _read(where: str, head: list[str], cells: list[str] | str, columns: Sequence[str]) -> Feedback | Unread:
    if isinstance(cells, str):
        return Unread(why=f"{where}: {cells}")
    if len(cells) != len(head):
        return Unread(why=f"{where}: it has {len(cells)} fields, the head {len(head)}")
    named = dict(zip(head, cells, strict=True))
    if not named["label"]:
        return Unread(why=f"{where}: the label is empty")
    texts = {key: named[key] for key in _COLUMNS} | {key: named[key] for key in _MORE if named.get(key)}
    told = {key: named[key] for key in columns if named[key]}
    try:
        return msgspec.structs.replace(msgspec.convert(texts, Feedback, strict=False), columns=told)
    except (msgspec.ValidationError, ValueError) as fault:
        return Unread(why=f"{where}: {fault}")


def _cells(line: bytes) -> list[str] | str:
    """Return the fields of a line, or why it cannot be read; a field with a line break in it cannot."""
    try:
        return next(csv.reader([line.decode().rstrip("\r\n")], strict=True), [])
    except (csv.Error, UnicodeDecodeError) as fault:
        return str(fault)


def _lines(file: BinaryIO) -> Iterator[tuple[str, bytes | None]]:
    """Yield where each line stands, and the line, None for one that is too long."""
    number = 0
    while line := file.readline(MOST_LINE_BYTES + 1):
        number += 1
        is_long = len(line) > MOST_LINE_BYTES
        while is_long and line and not line.endswith(b"\n"):
            line = file.readline(MOST_LINE_BYTES)  # the rest of it
        yield f"line {number}", None if is_long else line


def _too_long(where: str) -> Unread:
    return Unread(why=f"{where}: it is longer than {MOST_LINE_BYTES} bytes")
