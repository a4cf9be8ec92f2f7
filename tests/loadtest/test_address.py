"""Where requests go, and their bytes."""

from __future__ import annotations

from pathlib import Path

import httptools
import pytest

from modelyard.errors import UsageError
from modelyard.loadtest.address import parse_address, parse_headers, request_bytes


class Seen:
    """What an independent parser makes of a request."""

    def __init__(self) -> None:
        self.url, self.body, self.whole = b"", b"", False
        self.headers: dict[bytes, bytes] = {}

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        assert name not in self.headers
        self.headers[name] = value

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.whole = True


def test_a_request_is_what_an_independent_parser_reads() -> None:
    address = parse_address("http://127.0.0.1:8080/v2/models/income/infer?x=1")
    seen = Seen()
    parser = httptools.HttpRequestParser(seen)
    parser.feed_data(request_bytes(address, b'{"rows":[]}', {"X-Deadline-Ms": "200", "Content-Type": "text/x"}))
    assert seen.whole and parser.get_method() == b"POST" and parser.should_keep_alive()
    assert (seen.url, seen.body) == (b"/v2/models/income/infer?x=1", b'{"rows":[]}')
    assert seen.headers == {
        b"host": b"127.0.0.1:8080", b"content-length": b"11", b"content-type": b"text/x", b"x-deadline-ms": b"200",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("url", "host", "port", "authority"),
    [
        ("http://127.0.0.1", "127.0.0.1", 80, "127.0.0.1:80"),
        ("https://example.org/x", "example.org", 443, "example.org:443"),
        ("http://[::1]:9000/", "::1", 9000, "[::1]:9000"),
    ],
)
def test_an_address_has_its_parts(url: str, host: str, port: int, authority: str) -> None:
    address = parse_address(url)
    assert (address.host, address.port, address.authority) == (host, port, authority)
    assert (address.tls is not None) == url.startswith("https")


@pytest.mark.parametrize(
    "url", ["", "income@2", "ftp://x/", "http://", "http://x:99999/", "http://x/a b", "http://u:p@x/", "http://x/é"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        parse_address(url)


def test_certificates_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read as certificates"):
        parse_address("https://x/", ca=tmp_path / "none.pem")


@pytest.mark.parametrize(
    "line", ["", "no colon", "Bad Name: x", "X: a\r\nY: b", "Host: x", "Content-Length: 3", "X: é"]
)
def test_a_header_that_cannot_be_sent_is_refused(line: str) -> None:
    with pytest.raises(UsageError):
        parse_headers([line])
