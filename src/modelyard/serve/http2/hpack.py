"""Header blocks of HTTP/2 (RFC 7541): read with a connection's table, written without one.

What we write uses no table: a block of ours is the same bytes on every connection and is made once.
"""

from __future__ import annotations

from modelyard.serve.http2.huffman import HuffmanFault, decode

Field = tuple[bytes, bytes]

TABLE_BYTES = 4096  # of the connection's table, which is what a client may assume
FIELD_BYTES = 32  # that a field counts beyond its text
_MOST_SHIFT = 28  # of a number's last part: numbers stay below 2**35

_STATIC_TEXT = """\
:authority|:method GET|:method POST|:path /|:path /index.html|:scheme http|:scheme https|:status 200|:status 204|\
:status 206|:status 304|:status 400|:status 404|:status 500|accept-charset|accept-encoding gzip, deflate|\
accept-language|accept-ranges|accept|access-control-allow-origin|age|allow|authorization|cache-control|\
content-disposition|content-encoding|content-language|content-length|content-location|content-range|content-type|\
cookie|date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|\
last-modified|link|location|max-forwards|proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|\
server|set-cookie|strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate"""


def _static() -> list[Field]:
    pairs = [entry.partition(b" ") for entry in _STATIC_TEXT.encode().split(b"|")]
    return [(b"", b""), *((name, value) for name, _, value in pairs)]


STATIC = _static()  # from 1 on
_FIRST_OWN = len(STATIC)


class HpackFault(Exception):
    """A header block that cannot be read; the connection's table is lost with it."""


class FieldsTooLarge(HpackFault):
    """A header block that says more than is taken."""


class Decoder:
    """Reads the header blocks of one connection, in their order."""

    __slots__ = ("_most_bytes", "_own", "_room", "_size", "changes")

    def __init__(self, *, most_bytes: int) -> None:
        self.changes = 0  # made to the table so far; a block that makes none says the same again until the next
        self._most_bytes = most_bytes
        self._own: list[Field] = []  # the newest last
        self._size = 0
        self._room = TABLE_BYTES

    def decode(self, block: bytes) -> list[Field]:
        """Return the fields of a block; raises HpackFault."""
        try:
            return self._fields(block)
        except IndexError as fault:
            raise HpackFault("the block ends within a field, or names one that is not there") from fault
        except HuffmanFault as fault:
            raise HpackFault(str(fault)) from fault

    def _fields(self, block: bytes) -> list[Field]:
        fields: list[Field] = []
        at, end, said = 0, len(block), 0
        while at < end:
            byte = block[at]
            if byte >= 0x80:  # a field of a table
                index, at = (byte & 0x7F, at + 1) if byte < 0xFF else _number(block, at, 0x7F)
                field = self._field(index)
            elif byte >= 0x40:  # a new field, which enters the table
                field, at = self._literal(block, at, 0x3F)
                self._enter(field)
            elif byte >= 0x20:
                if fields:
                    raise HpackFault("the table's size changes behind a field")
                room, at = _number(block, at, 0x1F)
                self._resize(room)
                continue
            else:
                field, at = self._literal(block, at, 0x0F)
            said += len(field[0]) + len(field[1]) + FIELD_BYTES
            if said > self._most_bytes:
                raise FieldsTooLarge(f"the fields are more than {self._most_bytes} bytes")
            fields.append(field)
        return fields

    def _field(self, index: int) -> Field:
        if 0 < index < _FIRST_OWN:
            return STATIC[index]
        place = len(self._own) - (index - _FIRST_OWN) - 1
        if index == 0 or place < 0:
            raise HpackFault("a field is named that is in no table")
        return self._own[place]

    def _literal(self, block: bytes, at: int, mask: int) -> tuple[Field, int]:
        index, at = _number(block, at, mask)
        if index:
            name = self._field(index)[0]
        else:
            name, at = _string(block, at)
        value, at = _string(block, at)
        return (name, value), at

    def _enter(self, field: Field) -> None:
        self.changes += 1
        self._own.append(field)
        self._size += len(field[0]) + len(field[1]) + FIELD_BYTES
        self._evict()

    def _resize(self, room: int) -> None:
        if room > TABLE_BYTES:
            raise HpackFault(f"a table of {room} bytes is asked for, at most {TABLE_BYTES} were offered")
        self.changes += 1
        self._room = room
        self._evict()

    def _evict(self) -> None:
        """Drop the oldest fields until the rest has room; a field beyond the room empties the table."""
        dropped = 0
        while self._size > self._room:
            name, value = self._own[dropped]
            self._size -= len(name) + len(value) + FIELD_BYTES
            dropped += 1
        if dropped:
            del self._own[:dropped]


def _number(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """Return the number that begins in the low bits of a byte, and where it ends."""
    number = block[at] & mask
    at += 1
    if number < mask:
        return number, at
    shift = 0
    while True:
        byte = block[at]
        at += 1
        number += (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
        if shift > _MOST_SHIFT:
            raise HpackFault("a number is too long")


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    coded = block[at] & 0x80
    size, at = _number(block, at, 0x7F)
    end = at + size
    if end > len(block):
        raise HpackFault("the block ends within a string")
    text = block[at:end]
    return (decode(text) if coded else text), end


def encode(name: bytes, value: bytes) -> bytes:
    """Return a field as it may stand in any block of any connection, plain and outside the table.

    >>> encode(b"a", b"b")
    b'\\x00\\x01a\\x01b'
    """
    if len(name) < 0x7F and len(value) < 0x7F:
        return b"\x00%c%b%c%b" % (len(name), name, len(value), value)
    return b"\x00" + _size(len(name)) + name + _size(len(value)) + value


def _size(number: int) -> bytes:
    if number < 0x7F:
        return bytes((number,))
    parts = bytearray((0x7F,))
    number -= 0x7F
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)
