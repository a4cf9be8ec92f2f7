"""Reading answers: the same whatever the pieces in which they come, and as the standard library reads them."""

from __future__ import annotations

import http.client
import io
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.loadtest.answer import MOST_HEAD_BYTES, MOST_LINE_BYTES, Answer, Malformed

STATUS = st.sampled_from([200, 204, 304, 404, 422, 500, 503])
CASE = st.sampled_from([str.lower, str.upper, str.title])


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, int, bool, bool]:
    """An answer of HTTP/1.1 with its status, whether it is degraded, and whether it ends the connection."""
    status, case = draw(STATUS), draw(CASE)
    body = b"" if status in (204, 304) else draw(st.binary(max_size=300))
    degraded, ends = draw(st.booleans()), draw(st.booleans())
    lines = [f"HTTP/1.1 {status} Some Words", f"{case('x-request-id')}: {draw(st.integers(0, 9))}"]
    lines += [f"{case('x-degraded')}: breaker"] if degraded else []
    lines += [f"{case('connection')}: {case('close' if ends else 'keep-alive')}"] if draw(st.booleans()) or ends else []
    if body and draw(st.booleans()):
        lines.append(f"{case('transfer-encoding')}: chunked")
        whole, at = b"", 0
        while at < len(body):
            size = draw(st.integers(1, len(body) - at))
            note = draw(st.sampled_from([b"", b";name=value"]))
            whole += b"%x%s\r\n%s\r\n" % (size, note, body[at : at + size])
            at += size
        whole += b"0\r\n" + draw(st.sampled_from([b"", b"x-trailer: 1\r\n"])) + b"\r\n"
    else:
        lines.append(f"{case('content-length')}: {len(body)}")
        whole = body
    interim = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n"]))
    return interim + "\r\n".join([*lines, "", ""]).encode() + whole, status, degraded, ends


class Socket:
    """What http.client reads from."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def makefile(self, _: str) -> io.BytesIO:
        return io.BytesIO(self.data)


@given(st.lists(answers(), min_size=1, max_size=3), st.data())
def test_answers_end_where_they_end_in_whatever_pieces_they_come(
    sent: list[tuple[bytes, int, bool, bool]], data: st.DataObject
) -> None:
    answer = Answer()
    for whole, status, degraded, ends in sent:
        cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=6)))
        pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        assert [answer.feed(piece) for piece in pieces] == [False] * (len(pieces) - 1) + [True]
        assert (answer.status, answer.degraded, answer.ends) == (status, degraded, ends)


@given(answers())
def test_the_standard_library_reads_the_same(sent: tuple[bytes, int, bool, bool]) -> None:
    whole, _, _, _ = sent
    answer = Answer()
    assert answer.feed(whole)
    second = http.client.HTTPResponse(cast(Any, Socket(whole)), method="POST")
    second.begin()
    second.read()
    assert second.status == answer.status
    assert (second.headers.get("X-Degraded") is not None) == answer.degraded
    assert second.will_close == answer.ends


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    answer = Answer()
    assert not answer.feed(b"HTTP/1.0 200 OK\r\n\r\nsome")
    assert not answer.feed(b" more")
    assert answer.closed() and answer.ends


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nmore",
        b"x" * (MOST_HEAD_BYTES + 1),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"1" * (MOST_LINE_BYTES + 1),
    ],
)
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        Answer().feed(data)


@given(st.binary(max_size=400))
def test_bytes_of_any_kind_are_read_or_refused(data: bytes) -> None:
    answer = Answer()
    try:
        answer.feed(b"HTTP/1.1 " + data)
    except Malformed:
        return
