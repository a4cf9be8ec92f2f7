"""The header blocks of one HTTP/2 connection: put together, read, and remembered."""

from __future__ import annotations

from typing import Any

from modelyard.serve.http2.frames import (
    COMPRESSION_ERROR,
    END_HEADERS,
    ENHANCE_YOUR_CALM,
    FRAME_SIZE_ERROR,
    HAS_PRIORITY,
    MOST_STREAM_ID,
    PROTOCOL_ERROR,
    WORD,
    ConnectionFault,
    StreamFault,
    unpadded,
)
from modelyard.serve.http2.hpack import Decoder, Field, FieldsTooLarge, HpackFault

MOST_FIELD_BYTES = 16 * 1024  # of a request's fields, as HPACK counts them
MOST_BLOCK_BYTES = 32 * 1024  # of a header block as it comes in
MOST_CONTINUED = 8  # frames that a header block may be cut into, beyond its first
MOST_HEADS = 64  # header blocks that are remembered
_PRIORITY_BYTES = 5


class Blocks:
    """Reads header blocks; `make` turns fields into what is remembered of them, and may raise StreamFault."""

    __slots__ = ("_continued", "_decoder", "_heads", "_make", "part")

    def __init__(self, make: Any) -> None:
        self.part: tuple[int, bool, bytearray] | None = None  # stream, whether it ends, and the block so far
        self._continued = 0
        self._make = make
        self._decoder = Decoder(most_bytes=MOST_FIELD_BYTES)
        self._heads: dict[bytes, Any] = {}

    def begin(self, data: bytes, start: int, stop: int, flags: int, id: int, ended: bool) -> bytes | None:
        """Take the payload of HEADERS; return the block if it is whole. Raises ConnectionFault."""
        start, stop = unpadded(data, start, stop, flags)
        if flags & HAS_PRIORITY:
            if stop - start < _PRIORITY_BYTES:
                raise ConnectionFault(FRAME_SIZE_ERROR, "HEADERS end within their priority")
            if WORD.unpack_from(data, start)[0] & MOST_STREAM_ID == id:
                raise ConnectionFault(PROTOCOL_ERROR, "a stream depends on itself")
            start += _PRIORITY_BYTES
        if flags & END_HEADERS:
            return data[start:stop]
        self.part, self._continued = (id, ended, bytearray(data[start:stop])), 0
        return None

    def go_on(self, payload: bytes, flags: int, id: int) -> tuple[bytes, bool] | None:
        """Take the payload of CONTINUATION; return the block and whether its stream ends, if it is whole."""
        if self.part is None or self.part[0] != id:
            raise ConnectionFault(PROTOCOL_ERROR, "CONTINUATION came behind no header block")
        _, ended, block = self.part
        block += payload
        self._continued += 1
        if self._continued > MOST_CONTINUED or len(block) > MOST_BLOCK_BYTES:
            raise ConnectionFault(ENHANCE_YOUR_CALM, "a header block does not end")
        if not flags & END_HEADERS:
            return None
        self.part = None
        return bytes(block), ended

    def head(self, block: bytes) -> Any:
        """Return what was made of a block, or the StreamFault that it has.

        A block that changes nothing in the connection's table says the same again until the table changes; that is
        what most clients send with every call.
        """
        head = self._heads.get(block)
        if head is not None:
            return head
        before = self._decoder.changes
        fields = self.fields(block)
        try:
            head = self._make(fields)
        except StreamFault as fault:
            head = fault
        if before == self._decoder.changes:
            if len(self._heads) >= MOST_HEADS:
                self._heads.clear()
            self._heads[block] = head
        return head

    def fields(self, block: bytes) -> list[Field]:
        """Return a block's fields; raises ConnectionFault."""
        before = self._decoder.changes
        try:
            return self._decoder.decode(block)
        except FieldsTooLarge as fault:
            raise ConnectionFault(ENHANCE_YOUR_CALM, str(fault)) from fault
        except HpackFault as fault:
            raise ConnectionFault(COMPRESSION_ERROR, str(fault)) from fault
        finally:
            if before != self._decoder.changes:
                self._heads.clear()
