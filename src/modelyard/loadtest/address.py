"""Where requests go, and the bytes of one."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from modelyard.errors import UsageError

MOST_BODY_BYTES = 256 * 1024 * 1024
MOST_BODIES = 1024
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = ("host", "content-length", "connection", "transfer-encoding")


@dataclass(frozen=True, kw_only=True)
class Address:
    """The parts of a URL."""

    url: str
    host: str
    port: int
    path: str  # with the query
    tls: ssl.SSLContext | None

    @property
    def authority(self) -> str:
        """Return host and port as the Host header has them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(url: str, *, ca: Path | None = None) -> Address:
    """Return the parts of `http://host:port/path` or https; `ca` holds the authorities to trust.

    Raises: UsageError.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as fault:
        raise UsageError(f"`{url}` is no address: {fault}.") from fault
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"`{url}` is no address; wanted one such as http://127.0.0.1:8080/predict.")
    if parts.username is not None or parts.password is not None:
        raise UsageError(f"`{parts.hostname}` is given with a user in the address; send it as --header instead.")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not path.isascii() or any(character <= " " or character == "\x7f" for character in path):
        raise UsageError(f"`{url}` has characters that must be percent-encoded.")
    return Address(
        url=url,
        host=parts.hostname,
        port=port or (443 if parts.scheme == "https" else 80),
        path=path,
        tls=_context(ca) if parts.scheme == "https" else None,
    )


def request_bytes(address: Address, body: bytes, headers: Mapping[str, str]) -> bytes:
    """Return a POST, whole; `headers` may replace the content type."""
    named = {"content-type": "application/json", **{name.lower(): value for name, value in headers.items()}}
    lines = [f"POST {address.path} HTTP/1.1", f"host: {address.authority}", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in named.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def parse_headers(lines: Sequence[str]) -> dict[str, str]:
    """Return headers given as `Name: value`; raises UsageError.

    >>> parse_headers(["X-Deadline-Ms: 200"])
    {'X-Deadline-Ms': '200'}
    """
    found: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        value = value.strip()
        if not colon or not _NAME.fullmatch(name) or not value.isascii() or not (value.isprintable()):
            raise UsageError(f"`{line}` is no header; wanted a line such as `X-Deadline-Ms: 200`.")
        if name.lower() in _OURS:
            raise UsageError(f"`{name}` is set by the generator itself. Leave it out.")
        found[name] = value
    return found


def _context(ca: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca is None else str(ca))
    except OSError as fault:  # SSLError is one
        raise UsageError(f"`{ca}` cannot be read as certificates: {fault}.") from fault
