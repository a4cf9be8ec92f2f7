"""The Huffman code of HPACK (RFC 7541, appendix B).

The code is canonical: codes of one length follow each other in the order of their symbols, behind all that are
shorter. So the lengths say everything. Decoding walks a table by half bytes, in which at most one symbol ends.
"""

from __future__ import annotations

from functools import cache

# length of a code -> the symbols that have one of this length; the end of a string (256, 30 bits) is the last of all
_SYMBOLS = {
    5: "303132616365696f7374",
    6: "20252d2e2f333435363738393d415f62646667686c6d6e707275",
    7: "3a42434445464748494a4b4c4d4e4f5051525354555657596a6b71767778797a",
    8: "262a2c3b585a",
    10: "212228293f",
    11: "272b7c",
    12: "233e",
    13: "0024405b5d7e",
    14: "5e7d",
    15: "3c607b",
    19: "5cc3d0",
    20: "808283a2b8c2e0e2",
    21: "99a1a7acb0b1b3d1d8d9e3e5e6",
    22: "8184858688929a9ca0a3a4a9aaadb2b5b9babbbdbec4c6e4e8e9",
    23: "0187898a8b8c8d8f93959697989b9d9ea5a6a8aeafb4b6b7bcbfc5e7ef",
    24: "098e9091949fabced7e1eced",
    25: "c7cfeaeb",
    26: "c0c1c8c9cacdd2d5dadbeef0f2f3ff",
    27: "cbccd3d4d6dddedff1f4f5f6f7f8fafbfcfdfe",
    28: "020304050607080b0c0e0f1011121314151718191a1b1c1d1e1f7fdcf9",
    30: "0a0d16",
}
_END = 256
_MOST_PADDING = 7  # bits, all ones

_NONE = -1  # no symbol ends in this half byte
_BROKEN = -1  # the next state where the string holds the end's own code


class HuffmanFault(Exception):
    """A string that no encoder writes."""


def codes() -> dict[int, tuple[int, int]]:
    """Return the code of each symbol and its length in bits.

    >>> codes()[ord("a")]
    (3, 5)
    """
    made: dict[int, tuple[int, int]] = {}
    code = before = 0
    for length, text in _SYMBOLS.items():
        for symbol in (*bytes.fromhex(text), *((_END,) if length == 30 else ())):
            code <<= length - before
            before = length
            made[symbol] = (code, length)
            code += 1
    return made


def _tree() -> list[list[int]]:
    """Return the inner nodes, the root first: for each bit the next node, or -2 - symbol at a leaf."""
    nodes = [[_BROKEN, _BROKEN]]
    for symbol, (code, length) in codes().items():
        at = 0
        for place in range(length - 1, 0, -1):
            bit = code >> place & 1
            if nodes[at][bit] == _BROKEN:
                nodes.append([_BROKEN, _BROKEN])
                nodes[at][bit] = len(nodes) - 1
            at = nodes[at][bit]
        nodes[at][code & 1] = -2 - symbol
    return nodes


def _steps(nodes: list[list[int]]) -> list[tuple[int, int]]:
    """Return, for each node and half byte, the node behind it and the symbol that ended on the way."""
    steps = []
    for start in range(len(nodes)):
        for half in range(16):
            at, ended = start, _NONE
            for place in (3, 2, 1, 0):
                at = nodes[at][half >> place & 1]
                if at <= -2:
                    ended = -2 - at
                    at = 0
                    if ended == _END:
                        at = _BROKEN
                        break
            steps.append((at, ended))
    return steps


def _endings(nodes: list[list[int]]) -> frozenset[int]:
    """Return the nodes in which a string may end: what is left over is a few ones."""
    at, found = 0, [0]
    for _ in range(_MOST_PADDING):
        at = nodes[at][1]
        found.append(at)
    return frozenset(found)


@cache
def _table() -> tuple[list[tuple[int, int]], frozenset[int]]:
    """Return what decoding needs; made when a client first sends such a string."""
    nodes = _tree()
    return _steps(nodes), _endings(nodes)


def decode(data: bytes) -> bytes:
    """Return the string; raises HuffmanFault.

    >>> decode(bytes.fromhex("a8eb10649cbf"))
    b'no-cache'
    """
    steps, endings = _table()
    at = 0
    text = bytearray()
    for byte in data:
        at, symbol = steps[at << 4 | byte >> 4]
        if symbol >= 0:
            text.append(symbol)
        at, symbol = steps[at << 4 | byte & 15] if at >= 0 else (at, _NONE)
        if at < 0:
            raise HuffmanFault("the end's own code stands in the string")
        if symbol >= 0:
            text.append(symbol)
    if at not in endings:
        raise HuffmanFault("the padding is not ones, or too long")
    return bytes(text)
