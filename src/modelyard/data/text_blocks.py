"""Read a text file as blocks of UTF-8 bytes, whatever its encoding and whether gzipped or not."""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from modelyard.data.sources import Source
from modelyard.errors import Unreadable, WrongFormat

BLOCK_BYTES = 8 << 20
_BOM = b"\xef\xbb\xbf"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Block:
    """Some bytes of the text, cut anywhere, and how much of the file has been read."""

    data: bytes
    position: int


def text_blocks(source: Source, encoding: str, *, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """Yield the text of a file as UTF-8, without a byte order mark.

    Raises: Unreadable with byte offset and line where the bytes are not of that encoding, or where
    the compressed data is broken.
    """
    decode = _Decoder(source.name, encoding)
    file, raw = source.open()
    with raw, file:
        head: bytes | None = b""  # held back until it is long enough to show a byte order mark
        while True:
            data = _read(file, source.name, block_bytes)
            text = decode(data, final=not data)
            if head is not None:
                head += text
                text, head = (head.removeprefix(_BOM), None) if len(head) >= len(_BOM) or not data else (b"", head)
            if text:
                yield Block(data=text, position=raw.tell())
            if not data:
                return


def _read(file: IO[bytes], name: str, size: int) -> bytes:
    try:
        return file.read(size)
    except (EOFError, zlib.error, OSError) as error:
        raise Unreadable(f"`{name}` cannot be read to its end: {error}. Is the file whole?") from error


class _Decoder:
    """Checks bytes block by block and hands them on as UTF-8."""

    def __init__(self, name: str, encoding: str) -> None:
        try:
            "".encode(encoding)  # refuses codecs that are not of text, such as base64
            info = codecs.lookup(encoding)
        except LookupError as error:
            raise Unreadable(
                f"`{encoding}` is not a known encoding. Set `data.encoding` to `utf-8`, `windows-1252`, `utf-16` …"
            ) from error
        self._name, self._encoding = name, info.name
        self._is_utf8 = info.name in ("utf-8", "utf-8-sig")
        self._decoder = codecs.getincrementaldecoder("utf-8" if self._is_utf8 else encoding)()
        self._read, self._lines = 0, 0

    def __call__(self, data: bytes, *, final: bool) -> bytes:
        pending = self._decoder.getstate()[0]
        if self._is_utf8 and not pending and data.isascii():
            text = data
        else:
            self._refuse_utf16(data)
            try:
                decoded = self._decoder.decode(data, final)
            except UnicodeDecodeError as error:
                raise self._wrong(pending + data, self._read - len(pending) + error.start, error.start) from error
            text = data if self._is_utf8 else decoded.encode("utf-8")
        self._read += len(data)
        self._lines += text.count(b"\n")
        return text

    def _refuse_utf16(self, data: bytes) -> None:
        if self._read == 0 and self._is_utf8 and data.startswith(_UTF16):
            raise WrongFormat(f"`{self._name}` begins with the mark of UTF-16. Set `data.encoding: utf-16`.")

    def _wrong(self, data: bytes, offset: int, start: int) -> Unreadable:
        line = self._lines + data[:start].count(b"\n") + 1
        advice = "Set `data.encoding` to the file's encoding"
        if self._is_utf8:
            advice += f"; these bytes read as windows-1252 give `{_around(data, start)}`"
        return Unreadable(
            f"`{self._name}` is not {self._encoding}: byte 0x{data[start]:02x} at offset {offset} (line {line}). "
            f"{advice}."
        )


def _around(data: bytes, start: int) -> str:
    """Show the word around a byte, read as Windows wrote it for Western Europe."""
    piece = data[max(0, start - 12) : start + 12].decode("windows-1252", "replace")
    return " ".join(piece.split())
