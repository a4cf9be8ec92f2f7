"""The protocol's binary tensor data: raw tensors behind the JSON of a body, both ways."""

from __future__ import annotations

from collections.abc import Mapping

from modelyard.serve.doors import Malformed
from modelyard.serve.request import JSON

HEADER = b"inference-header-content-length"
BINARY = b"application/octet-stream"
SIZE, WANTED, ALL_WANTED = "binary_data_size", "binary_data", "binary_data_output"

Scalar = str | int | float | bool | None


class Tail:
    """The raw tensors behind a request's JSON, in the order of its inputs."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes | memoryview) -> None:
        self._data, self._at = memoryview(data), 0

    def take(self, name: str, size: object) -> memoryview:
        """Return the next tensor; raises Malformed."""
        if type(size) is not int or size < 0:
            raise Malformed(f"Input `{name[:100]}` has a `{SIZE}` that is no number of bytes.")
        if size > len(self._data) - self._at:
            raise Malformed(
                f"Input `{name[:100]}` has a `{SIZE}` beyond the {len(self._data) - self._at} bytes that are left."
            )
        piece = self._data[self._at : self._at + size]
        self._at += size
        return piece

    def end(self) -> None:
        """Raise Malformed where bytes are left that no input named."""
        left = len(self._data) - self._at
        if left:
            raise Malformed(f"{left} bytes follow the tensors that the inputs name by `{SIZE}`.")


def split(body: bytes, header: bytes | None) -> tuple[bytes, Tail]:
    """Return a body's JSON and what follows it; without the header all of it is JSON. Raises Malformed."""
    if header is None:
        return body, Tail(b"")
    if not header.isdigit() or len(header) > 18 or int(header) > len(body):
        raise Malformed("`Inference-Header-Content-Length` must be the size of the JSON, at most that of the body.")
    size = int(header)
    return body[:size], Tail(memoryview(body)[size:])


def is_wanted(parameters: Mapping[str, Scalar] | None, name: str, *, otherwise: bool = False) -> bool:
    """Return a parameter that is true or false; raises Malformed."""
    value = None if parameters is None else parameters.get(name)
    if value is None:
        return otherwise
    if not isinstance(value, bool):
        raise Malformed(f"The parameter `{name}` must be true or false.")
    return value


def with_tail(head: bytes, pieces: list[bytes]) -> tuple[bytes, bytes, bytes]:
    """Return body, content type and header lines of an answer with raw tensors behind its JSON."""
    if not pieces:
        return head, JSON, b""
    return b"".join((head, *pieces)), BINARY, b"Inference-Header-Content-Length: %d\r\n" % len(head)
