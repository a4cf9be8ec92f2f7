"""gRPC over a connection without a socket: calls, streams and their ends."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.serve.grpc.call import GrpcRequest
from modelyard.serve.grpc.head import read_head
from modelyard.serve.grpc.service import STREAM
from modelyard.serve.grpc.status import (
    MOST_LINES,
    MOST_MESSAGE,
    STATUS_OF,
    Status,
    escaped,
    fault_text,
    lines,
    trailers,
)
from modelyard.serve.grpc.stream import MOST_PENDING, InferStream
from modelyard.serve.request import Code
from tests.serve.http2_kit import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    MOST_BYTES,
    RST,
    WINDOW,
    Talk,
    bodies,
    call,
    ends,
    fields,
    frame,
    head,
    literal,
    message,
    of_stream,
    reset,
    status,
    window,
)

OK, INVALID, UNAVAILABLE, UNIMPLEMENTED = b"0", b"3", b"14", b"12"


def quiet(request: GrpcRequest) -> None:
    """Answer later, or never."""


def test_an_answer_says_who_gave_it() -> None:
    def answer(request: GrpcRequest) -> None:
        request.trace = b"00-a-b-01"
        request.answer(b"x", served_by=b"income@1 fallback:constant", degraded=b"deadline", extra=b"X-Note: so\r\n")

    talk = Talk(answer=answer).greet()
    talk.send(call(1, b"", head(x_request_id=b"mine")))
    frames = talk.frames()
    assert fields(frames[0]) == {
        b":status": b"200",
        b"content-type": b"application/grpc",
        b"x-request-id": b"mine",
        b"x-served-by": b"income@1 fallback:constant",
        b"x-degraded": b"deadline",
        b"traceparent": b"00-a-b-01",
        b"x-note": b"so",
    }
    assert status(frames) == OK


def test_a_refusal_says_why_and_when_to_come_back() -> None:
    def refuse(request: GrpcRequest) -> None:
        request.refuse(Code.NOT_NOW, "Nöt now: 100 %\n", faults=["row 0, column `a`: is missing"], retry_after_s=7)

    talk = Talk(answer=refuse).greet()
    talk.send(call(1, b""))
    (one,) = talk.frames()
    assert one.flags == END_HEADERS | END_STREAM
    said_so = fields(one)
    assert said_so[b"grpc-status"] == UNAVAILABLE
    assert said_so[b"grpc-message"] == b"N%C3%B6t now: 100 %25%0A row 0, column `a`: is missing"
    assert (said_so[b"retry-after"], said_so[b"grpc-retry-pushback-ms"]) == (b"7", b"7000")
    assert said_so[b"x-request-id"] == b"t-1"


def test_a_request_is_answered_once() -> None:
    def twice(request: GrpcRequest) -> None:
        request.answer(b"first")
        request.answer(b"second")
        request.refuse(Code.FAILED, "third")

    talk = Talk(answer=twice).greet()
    talk.send(call(1, b""))
    frames = talk.frames()
    assert bodies(frames) == {1: b"first"} and ends(frames) == [1]


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"", INVALID),
        (message(b"abc")[:-1], INVALID),
        (message(b"abc") + b"\0", INVALID),
        (message(b"a") + message(b"b"), INVALID),
        (message(b"a", flag=1), UNIMPLEMENTED),
        (message(b"a", flag=2), UNIMPLEMENTED),
    ],
)
def test_a_call_that_is_not_one_whole_message_is_refused(data: bytes, wanted: bytes) -> None:
    for cut in range(len(data) + 1):
        talk = Talk().greet()
        talk.send(frame(HEADERS, END_HEADERS, 1, head()), frame(DATA, 0, 1, data[:cut]))
        if 1 in talk.connection.streams:
            talk.send(frame(DATA, END_STREAM, 1, data[cut:]))
        frames = talk.frames()
        assert status(frames) == wanted
        assert ends(frames) == [1]
        assert not talk.asked and not talk.connection.streams and talk.listener.held_bytes == 0


@pytest.mark.parametrize(("name", "bits"), [(b"gzip", 31), (b"deflate", 15)])
def test_compressed_messages_are_taken_within_the_bound(name: bytes, bits: int) -> None:
    def packed(body: bytes) -> bytes:
        packer = zlib.compressobj(wbits=bits)
        return packer.compress(body) + packer.flush()

    for body, wanted in (
        (packed(bytes(100_000)), OK),
        (packed(bytes(MOST_BYTES + 1)), b"8"),
        (packed(b"abc")[:-1], INVALID),
        (b"nothing", INVALID),
    ):
        talk = Talk(answer=lambda request: request.answer(b"%d" % len(request.body))).greet()
        talk.send(
            frame(HEADERS, END_HEADERS, 1, head(grpc_encoding=name)),
            frame(DATA, END_STREAM, 1, message(body, flag=1)),
        )
        frames = talk.frames()
        assert status(frames) == wanted
        assert bodies(frames) == ({1: b"100000"} if wanted == OK else {})


@pytest.mark.parametrize(
    ("block", "wanted"),
    [
        (head().replace(literal(b":method", b"POST"), literal(b":method", b"GET")), b"405"),
        (head().replace(b"application/grpc", b"application/json"), b"415"),
    ],
)
def test_what_is_not_grpc_is_told_so_in_http(block: bytes, wanted: bytes) -> None:
    talk = Talk().greet()
    talk.send(frame(HEADERS, END_HEADERS, 1, block), frame(DATA, END_STREAM, 1, b"{}"), call(3, b"fine"))
    frames = talk.frames()
    assert fields(frames[0])[b":status"] == wanted
    assert bodies(frames) == {3: b"fine"}


@pytest.mark.parametrize(
    ("timeout", "given", "wanted"),
    [
        (b"5S", None, b"5000.000000"),
        (b"250m", None, b"250.000000"),
        (b"1500u", None, b"1.500000"),
        (b"99999999n", None, b"99.999999"),
        (b"0n", None, b"0.001000"),
        (b"2M", None, b"120000.000000"),
        (b"1H", b"80", b"80.000000"),
        (b"10m", b"80", b"10.000000"),
        (b"10m", b"never", b"never"),
        (b"soon", None, b"nothing"),
        (b"123456789S", None, b"nothing"),
    ],
)
def test_deadlines_become_those_of_all_doors(timeout: bytes, given: bytes | None, wanted: bytes) -> None:
    asked = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/x"), (b"content-type", b"application/grpc")]
    asked.append((b"grpc-timeout", timeout))
    if given is not None:
        asked.append((b"x-deadline-ms", given))
    assert read_head(asked, {}, InferStream).headers[b"x-deadline-ms"] == wanted


def test_metadata_that_comes_twice_is_joined_and_ids_are_looked_at() -> None:
    asked = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/x"), (b"a", b"1"), (b"a", b"2")]
    made = read_head([*asked, (b"x-request-id", b"no spaces")], {}, InferStream)
    assert made.headers[b"a"] == b"1,2"
    assert made.request_id is None


@settings(deadline=None)
@given(st.text(max_size=3_000))
def test_any_message_can_be_said(text: str) -> None:
    data = escaped(text)
    assert len(data) <= MOST_MESSAGE
    assert all(0x20 <= byte < 0x7F for byte in data)


def test_what_ends_a_call_stays_within_what_clients_take() -> None:
    assert len(lines(b"x-a: b\r\n" * 10_000)) <= 2 * MOST_LINES
    text = fault_text("Broken.", [f"row {row}, column `c`: is missing" for row in range(1_000)])
    assert len(trailers(Status.INVALID_ARGUMENT, text)) < 2_000
    assert set(STATUS_OF) == set(Code)


def test_a_stream_answers_in_order_whichever_is_ready_first() -> None:
    talk = Talk(answer=quiet, kinds={STREAM: InferStream}).greet()
    talk.send(frame(HEADERS, END_HEADERS, 1, head(STREAM)))
    talk.send(frame(DATA, 0, 1, message(b"a") + message(b"b")), frame(DATA, END_STREAM, 1, message(b"c")))
    first, second, third = talk.asked
    third.answer(b"")
    second.refuse(Code.BROKEN_CONTRACT, "why")
    assert talk.frames() == []
    first.answer(b"")
    frames = talk.frames()
    told = of_stream(frames)
    assert [one[:1] for one in told] == [b"\x12", b"\x0a", b"\x12"]
    assert told[1][2:5] == b"why"
    assert status(frames) == OK and ends(frames) == [1]


def test_a_stream_that_is_full_takes_no_more_until_it_was_answered() -> None:
    talk = Talk(answer=quiet, kinds={STREAM: InferStream}).greet()
    talk.send(frame(HEADERS, END_HEADERS, 1, head(STREAM)))
    body = bytes(30_000)
    data = message(body) * (MOST_PENDING + 10)
    for at in range(0, len(data), 16_384):
        if talk.connection.streams[1].credit < 16_384:
            break
        talk.send(frame(DATA, 0, 1, data[at : at + 16_384]))
    assert len(talk.asked) == MOST_PENDING
    credits = [one for one in talk.frames() if one.kind == WINDOW and one.stream == 1]
    for request in list(talk.asked):
        request.answer(b"")
    assert len(talk.asked) > MOST_PENDING
    assert len([one for one in talk.frames() if one.kind == WINDOW and one.stream == 1]) >= len(credits) > 0


def test_a_stream_whose_answers_are_not_read_takes_no_more() -> None:
    talk = Talk(kinds={STREAM: InferStream}).greet(window=0)
    talk.send(frame(HEADERS, END_HEADERS, 1, head(STREAM)))
    talk.send(frame(DATA, 0, 1, message(b"x") * 200))
    assert len(talk.asked) <= MOST_PENDING + 1
    for _ in range(50):
        talk.send(window(1, 1_000))
    assert len(talk.asked) == 200
    talk.send(frame(DATA, END_STREAM, 1, b""))
    assert ends(talk.frames()) == [1]


def test_a_stream_that_ends_within_a_message_answers_those_before_and_says_so() -> None:
    talk = Talk(answer=quiet, kinds={STREAM: InferStream}).greet()
    talk.send(frame(HEADERS, END_HEADERS, 1, head(STREAM)), frame(DATA, END_STREAM, 1, message(b"a") + b"\0\0"))
    assert talk.frames() == []
    talk.asked[0].answer(b"")
    frames = talk.frames()
    assert len(of_stream(frames)) == 1 and status(frames) == INVALID
    assert talk.listener.held_bytes == 0


def test_many_small_messages_at_once_are_all_answered() -> None:
    talk = Talk(kinds={STREAM: InferStream}).greet(window=2**20)
    talk.send(frame(HEADERS, END_HEADERS, 1, head(STREAM)))
    talk.send(frame(DATA, END_STREAM, 1, message(b"") * 3_000), window(0, 2**20))
    assert len(of_stream(talk.frames())) == 3_000


def test_a_key_that_is_not_known_ends_the_whole_stream() -> None:
    talk = Talk(answer=lambda request: request.refuse(Code.NO_KEY, "key"), kinds={STREAM: InferStream}).greet()
    talk.send(frame(HEADERS, END_HEADERS, 1, head(STREAM)), frame(DATA, 0, 1, message(b"a") * 3))
    frames = talk.frames()
    assert status(frames) == b"16" and len(talk.asked) == 1


def test_a_stream_that_is_given_up_leaves_nothing_behind() -> None:
    talk = Talk(answer=quiet, kinds={STREAM: InferStream}).greet()
    talk.send(frame(HEADERS, END_HEADERS, 1, head(STREAM)), frame(DATA, 0, 1, message(b"a") * 3 + b"\0\0"))
    talk.send(reset(1))
    assert [request.gone for request in talk.asked] == [True] * 3
    assert talk.listener.held_bytes == 0
    talk.asked[0].answer(b"late")
    assert talk.frames() == []


def test_a_call_for_which_there_is_no_stream_is_reset() -> None:
    talk = Talk().greet()
    talk.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, head() + literal(b"te", b"gzip")))
    assert [one.kind for one in talk.frames()] == [RST]
