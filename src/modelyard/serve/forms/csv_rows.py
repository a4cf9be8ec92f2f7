"""Rows of CSV with a header, as the values that JSON would have."""

from __future__ import annotations

import csv
import io
from typing import Any

from modelyard.core.contract import Contract, Kind
from modelyard.serve.doors import Malformed, TooLarge

_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


def rows_of_csv(data: bytes, contract: Contract, *, most: int) -> list[dict[str, Any]]:
    """Return rows by the names of the header; raises Malformed, TooLarge.

    What is no number in a column of numbers stays text, for the contract's check to name.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise Malformed("The CSV is not UTF-8.") from fault
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[dict[str, Any]] = []
    empty = 0
    try:
        names = next(lines, [])
        if not names:
            raise Malformed("The CSV is empty, wanted a header with the columns' names and at least one row.")
        if len(set(names)) < len(names):
            raise Malformed("The CSV's header names a column twice.")
        kinds = _kinds(contract)
        for line in lines:
            if not line:  # an empty line, such as at the end
                empty += 1
                if empty > most:  # a body of nothing else would hold up everyone for seconds
                    raise Malformed(f"Line {lines.line_num} is empty, and so are {most} before it.")
                continue
            if len(line) != len(names):
                raise Malformed(f"Line {lines.line_num} has {len(line)} fields, and the header {len(names)}.")
            if len(rows) == most:
                raise TooLarge(f"More than {most} rows came, which is what is taken at once.")
            rows.append(
                {name: value_of(kinds.get(name), field, contract) for name, field in zip(names, line, strict=True)}
            )
    except csv.Error as fault:
        raise Malformed(f"Line {lines.line_num} is no CSV: {fault}.") from fault
    return rows


def value_of(kind: Kind | None, text: str, contract: Contract) -> Any:
    """Return the value that a field of a column of this kind means."""
    if not text or text in contract.missing_texts:
        return None
    if kind is Kind.BOOLEAN:
        return _BOOLEANS.get(text.strip().lower(), text)
    if kind is None or not kind.is_numeric or not text.isascii() or "_" in text:  # Python would read 1_000
        return text
    for read in (int, float) if kind is Kind.INTEGER else (float,):
        try:
            return read(text)
        except ValueError:
            continue
    return text


def _kinds(contract: Contract) -> dict[str, Kind]:
    kinds = {column.name: column.kind for column in contract.columns}
    if Kind.TENSOR in (column.kind for column in contract.features):
        raise Malformed("The model takes tensors, which CSV cannot hold; send JSON.")
    return kinds
