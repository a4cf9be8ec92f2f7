"""What the doors share: reading a body within its bounds, and the shapes of refusals."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
import numpy as np

from modelyard.bundle.intake import Packed
from modelyard.core.contract import Kind
from modelyard.serve.batching import Said, Settled
from modelyard.serve.messages import Limits
from modelyard.serve.model import Model
from modelyard.serve.request import Request


class Malformed(Exception):
    """The body is not what the door reads; the text is for the caller."""


class TooLarge(Exception):
    """The body has more rows than a request may have; the text is for the caller."""


class Wish(Protocol):
    """What the body of a request may ask for."""

    @property
    def timeout_s(self) -> float | None: ...

    @property
    def priority(self) -> int | None: ...


class Asked(Protocol):
    """A request as its door read it."""

    @property
    def rows(self) -> int: ...

    @property
    def packed(self) -> Packed: ...

    @property
    def wishes(self) -> Wish | None:
        """What it wants of its deadline and its class, beside its headers; None where it says nothing."""
        ...

    def answer_row(self, settled: Settled, place: int) -> bytes | None:
        """Return the usual answer to a request of one row, in JSON, from its place in a batch; None: ask `answer`."""
        ...

    def answer(self, settled: Settled, model: Model, said: Said) -> tuple[bytes, bytes, bytes]:
        """Return body, content type and further header lines; `settled` has the rows of this request only."""
        ...


class Unread(Asked, Protocol):
    """A request that was read only so far that its worker can read the rest."""

    def whole(self, request: Request) -> Asked:
        """Read it whole; raises Malformed, TooLarge, ContractBroken."""
        ...


class Door(Protocol):
    """Reads and writes one form of request."""

    @property
    def name(self) -> str: ...

    def read(self, request: Request, model: Model) -> Asked:
        """Read a request; raises Malformed, TooLarge, ContractBroken."""
        ...


__all__ = [
    "Asked",
    "Door",
    "Malformed",
    "Said",
    "TooLarge",
    "Unread",
    "check_pieces",
    "depth",
    "fault_records",
    "pieces",
    "refusal",
    "why_malformed",
]

QUICK_BYTES = 262_144  # a body up to this is read in little time, whatever is in it
MOST_LOOKED_AT = 16_384  # bytes of a body that could not be read; this runs on the event loop
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_BRACKET = re.compile(rb"[\[\]{}]")
_FAULT = re.compile(r"^(?:row (\d+))?(?:, )?(?:column `(.*?)`)?(?:: )?(.*)$", re.DOTALL)
_UNKNOWN = re.compile(r"^unknown column `(.*?)`", re.DOTALL)


def depth(data: bytes) -> int:
    """Return how deep arrays and objects are nested in JSON text.

    >>> depth(b'{"a": [1, "]]]"]}')
    2
    """
    deepest = level = 0
    for bracket in _BRACKET.finditer(_STRING.sub(b"", data)):
        level += 1 if bracket[0] in b"[{" else -1
        deepest = max(deepest, level)
    return deepest


def pieces(data: bytes) -> int:
    """Return how many lists, objects and commas JSON text has outside of its strings, without reading it.

    >>> pieces(b'{"a": [1, "],[", 2, "\\\\\\",["]}')
    5
    """
    codes = np.frombuffer(data.replace(b"\\\\", b"").replace(b'\\"', b""), dtype=np.uint8)
    inside = np.logical_xor.accumulate(codes == ord('"'))
    marks = (codes == ord("[")) | (codes == ord("{")) | (codes == ord(","))
    return int(np.count_nonzero(marks & ~inside))


def check_pieces(data: bytes, model: Model) -> None:
    """Raise TooLarge where a long body has more values than the most rows that are taken at once have.

    Reading makes an object of each, which takes seconds where millions of them fill a body; here none is made. A model
    that takes tensors takes as many as come.
    """
    if len(data) <= QUICK_BYTES or any(column.kind is Kind.TENSOR for column in model.contract.features):
        return
    rows, columns = model.limits.rows_at_once, len(model.contract.columns)
    most = 2 * rows * (columns + 2) + 64  # each value may be a list of one, and a row has an index
    if sum(data.count(mark) for mark in (b"[", b"{", b",")) > most and pieces(data) > most:
        raise TooLarge(f"The body has more values than {rows} rows of {columns} columns, the most taken at once.")


def why_malformed(data: bytes, fault: Exception, limits: Limits) -> str:
    """Say in the caller's words why a body could not be read; of a long body only the beginning is looked at."""
    if isinstance(fault, RecursionError) or depth(data[:MOST_LOOKED_AT]) > limits.most_depth:
        return f"The JSON is nested deeper than {limits.most_depth}."
    return f"The body cannot be read: {str(fault)[:300]}."


def fault_records(faults: Sequence[str]) -> list[dict[str, Any]]:
    """Split contract faults in words into row, column and reason.

    >>> fault_records(["row 3, column `age`: saw 'x', wanted a number"])
    [{'row': 3, 'column': 'age', 'reason': "saw 'x', wanted a number"}]
    """
    records = []
    for fault in faults:
        match = _FAULT.match(fault)
        row, column, reason = match.groups() if match is not None else (None, None, fault)
        if column is None and (unknown := _UNKNOWN.match(reason)) is not None:
            column = unknown[1]
        records.append({"row": int(row) if row is not None else None, "column": column, "reason": reason})
    return records


_ENCODER = msgspec.json.Encoder()


def refusal(message: str, request_id: str, faults: Sequence[str] = ()) -> bytes:
    """Return the body of a reply that is no answer: the protocol's `error`, and what broke the contract."""
    record: dict[str, Any] = {"error": message, "request_id": request_id}
    if faults:
        record["faults"] = fault_records(faults)
    return _ENCODER.encode(record)
