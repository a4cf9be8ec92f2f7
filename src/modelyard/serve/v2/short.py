"""The usual request in its usual words: its numbers travel as they were written, and the worker reads them.

A client writes the same text around its numbers, request after request. What stands before and behind them is learned
from a request that was read whole; a body that begins and ends alike can differ in its numbers alone, if these are so
many numbers between commas and nothing else. The worker, which has time where the front has none, reads them as
strictly as the front would; where a row is anything else, the front reads that request whole and tells its caller what
is wrong with it.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from modelyard.bundle.intake import Packed
from modelyard.core.contract import Contract
from modelyard.errors import EngineFailed
from modelyard.serve.v2.slots import Slot
from modelyard.serve.v2.tensors import UNFIT, Tensors

MOST_NUMBER_BYTES = 32  # that a number has on average; longer texts are read whole
SELDOM = 64  # requests in other words between two that are learned from, as clients may take turns

_DATA = b'"data"'
_FAULTS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, *UNFIT)


class Short:
    """What stands around the numbers of a single row of the only tensor. Of one thread."""

    __slots__ = ("_others", "after", "after_bytes", "before", "before_bytes", "most_bytes")

    def __init__(self, slot: Slot) -> None:
        self.before, self.after = b"\0", b"\0"  # no request is written so
        self.before_bytes = self.after_bytes = 1
        self.most_bytes = MOST_NUMBER_BYTES * math.prod(slot.row_shape)
        self._others = SELDOM

    def numbers(self, body: bytes) -> bytes | None:
        """Return the text between the words; None where the body is in other words."""
        if not body.startswith(self.before) or not body.endswith(self.after):
            return None
        text = body[self.before_bytes : -self.after_bytes]
        return text if 0 < len(text) <= self.most_bytes else None

    def learn(self, body: bytes) -> None:
        """Take the words of a request that was read whole and was one row of the tensor in its own datatype.

        Only its list of numbers comes behind the one place where `"data"` is written, so that this is its key.
        """
        self._others += 1
        if self._others <= SELDOM or body.count(_DATA) != 1:
            return
        self._others = 0
        start = body.index(b"[", body.index(_DATA)) + 1
        end = body.index(b"]", start)
        self.before, self.after = body[:start], body[end:]
        self.before_bytes, self.after_bytes = start, len(body) - end


class TextReader:
    """Reads the numbers of single rows of a contract's only tensor, as the front reads a request."""

    def __init__(self, contract: Contract) -> None:
        """Raise EngineFailed where the contract has no tensor that is sent so."""
        tensors = Tensors(contract)
        slot, kind = tensors.only, tensors.quick_type
        if slot is None or slot.lone_pack is None or kind is None:
            raise EngineFailed("Rows came as text, and the contract has no small tensor that could be sent so.")
        self._pack = slot.lone_pack
        self._decode: Any = msgspec.json.Decoder(kind).decode
        self._nothing = bytes(slot.lone_bytes)

    def read(self, packed: Packed) -> tuple[Packed, list[int]]:
        """Return the rows read, and the places of those that cannot be: these are zero.

        Raises: EngineFailed where fewer elements came than rows that were read before.
        """
        pieces: list[bytes | memoryview] = []
        unread: list[int] = []
        came, at, size = memoryview(b"".join(packed.tensors)), 0, len(self._nothing)
        for place, text in enumerate(packed.texts):
            if not text:
                pieces.append(came[at : at + size])
                at += size
                continue
            try:
                pieces.append(self._pack(*self._decode(b"[%b]" % text)))
            except _FAULTS:
                unread.append(place)
                pieces.append(self._nothing)
        if at != len(came):
            raise EngineFailed(f"{len(came)} bytes came of rows that take {at}.")
        return Packed(tensors=[b"".join(pieces)]), unread
