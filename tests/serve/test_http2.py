"""HTTP/2 frame by frame: what RFC 9113 asks for, on a connection without a socket."""

from __future__ import annotations

import struct

import h2.config
import h2.connection
import h2.events
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.serve.grpc.call import GrpcRequest
from tests.serve.http2_kit import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INFER,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH,
    RST,
    SETTINGS,
    WINDOW,
    Talk,
    bodies,
    call,
    ends,
    frame,
    head,
    literal,
    message,
    reset,
    window,
)

NO_ERROR, PROTOCOL, FLOW, CLOSED, SIZE, REFUSED, COMPRESSION, CALM = 0, 1, 3, 5, 6, 7, 9, 11


def quiet(request: GrpcRequest) -> None:
    """Answer later, or never."""


def test_a_call_is_answered_with_head_message_and_trailers() -> None:
    talk = Talk().greet()
    talk.send(call(1, b"hello"))
    frames = talk.frames()
    assert [one.kind for one in frames] == [HEADERS, DATA, HEADERS]
    assert bodies(frames) == {1: b"hello"}
    assert frames[2].flags == END_HEADERS | END_STREAM and b"grpc-status\x010" in frames[2].payload
    assert (talk.asked[0].path, talk.asked[0].body, talk.asked[0].headers) == (
        INFER,
        b"hello",
        {b"content-type": b"application/grpc"},
    )


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", PROTOCOL),
        (PREFACE + frame(PING, 0, 0, bytes(8)), PROTOCOL),
        (PREFACE + frame(SETTINGS, ACK, 0), PROTOCOL),
        (PREFACE + frame(DATA, 0, 1, b"x"), PROTOCOL),
        (PREFACE + b"\x00\x40\x01" + bytes(6), SIZE),
    ],
)
def test_a_client_that_does_not_begin_with_http2_is_told_so(data: bytes, why: int) -> None:
    talk = Talk()
    talk.send(data)
    assert talk.end() == why
    assert len(talk.refused) == 1


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (frame(DATA, 0, 0, b"x"), PROTOCOL),
        (frame(DATA, 0, 5, b"x"), PROTOCOL),
        (frame(DATA, 0, 2, b"x"), PROTOCOL),
        (frame(HEADERS, END_HEADERS, 0, head()), PROTOCOL),
        (frame(HEADERS, END_HEADERS, 2, head()), PROTOCOL),
        (frame(HEADERS, END_HEADERS, 1, b"\x80"), COMPRESSION),
        (frame(HEADERS, END_HEADERS | PADDED, 1, b""), SIZE),
        (frame(HEADERS, END_HEADERS | PADDED, 1, b"\x09" + bytes(3)), PROTOCOL),
        (frame(HEADERS, END_HEADERS | 0x20, 1, bytes(4)), SIZE),
        (frame(HEADERS, END_HEADERS | 0x20, 1, struct.pack(">LB", 1, 0) + head()), PROTOCOL),
        (frame(HEADERS, 0, 1, head()) + frame(DATA, 0, 1, b""), PROTOCOL),
        (frame(HEADERS, 0, 1, head()) + frame(CONTINUATION, END_HEADERS, 3, b""), PROTOCOL),
        (frame(HEADERS, 0, 1, head()) + frame(PING, 0, 0, bytes(8)), PROTOCOL),
        (frame(CONTINUATION, END_HEADERS, 1, b""), PROTOCOL),
        (frame(PRIORITY, 0, 0, bytes(5)), PROTOCOL),
        (frame(PRIORITY, 0, 1, bytes(4)), SIZE),
        (frame(PRIORITY, 0, 1, struct.pack(">LB", 1, 0)), PROTOCOL),
        (frame(RST, 0, 0, bytes(4)), PROTOCOL),
        (frame(RST, 0, 1, bytes(4)), PROTOCOL),
        (frame(RST, 0, 1, bytes(3)), SIZE),
        (frame(SETTINGS, 0, 1), PROTOCOL),
        (frame(SETTINGS, 0, 0, bytes(5)), SIZE),
        (frame(SETTINGS, ACK, 0, bytes(6)), SIZE),
        (frame(SETTINGS, 0, 0, struct.pack(">HL", 2, 2)), PROTOCOL),
        (frame(SETTINGS, 0, 0, struct.pack(">HL", 4, 2**31)), FLOW),
        (frame(SETTINGS, 0, 0, struct.pack(">HL", 5, 16_383)), PROTOCOL),
        (frame(SETTINGS, 0, 0, struct.pack(">HL", 5, 2**24)), PROTOCOL),
        (frame(PUSH, END_HEADERS, 1, bytes(4)), PROTOCOL),
        (frame(PING, 0, 1, bytes(8)), PROTOCOL),
        (frame(PING, 0, 0, bytes(7)), SIZE),
        (frame(GOAWAY, 0, 1, bytes(8)), PROTOCOL),
        (frame(GOAWAY, 0, 0, bytes(7)), SIZE),
        (frame(WINDOW, 0, 0, bytes(4)), PROTOCOL),
        (frame(WINDOW, 0, 0, bytes(3)), SIZE),
        (window(1, 1), PROTOCOL),
        (window(0, 2**31 - 1), FLOW),
    ],
)
def test_frames_that_the_standard_forbids_end_the_connection(data: bytes, why: int) -> None:
    talk = Talk().greet()
    talk.send(data)
    assert talk.end() == why


def test_frames_on_streams_that_are_over_are_told_from_those_in_flight() -> None:
    talk = Talk().greet()
    talk.send(call(1, b"a"))
    talk.send(window(1, 5), reset(1), frame(PRIORITY, 0, 1, bytes(5)))  # may well have been on their way
    assert not talk.pipe.is_closed
    talk.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, head()))
    assert talk.end() == CLOSED


def test_more_behind_the_end_of_a_stream_is_refused() -> None:
    for late in (frame(DATA, 0, 1, b"x"), frame(HEADERS, END_HEADERS | END_STREAM, 1, literal(b"a", b"b"))):
        talk = Talk(answer=quiet).greet()
        talk.send(call(1, b"a"), late)
        assert talk.end() == CLOSED


def test_frames_of_unknown_kinds_and_settings_are_passed_over() -> None:
    talk = Talk().greet()
    talk.send(frame(77, 255, 9, b"?"), frame(SETTINGS, 0, 0, struct.pack(">HL", 99, 1)), call(1, b"a"))
    assert bodies(talk.frames()) == {1: b"a"}


def test_pings_and_settings_are_acknowledged() -> None:
    talk = Talk().greet()
    talk.send(frame(PING, 0, 0, b"12345678"), frame(SETTINGS, 0, 0), frame(PING, ACK, 0, b"nobodyis"))
    assert [(one.kind, one.flags, one.payload) for one in talk.frames()] == [
        (PING, ACK, b"12345678"),
        (SETTINGS, ACK, b""),
    ]


def test_padding_priority_and_continuation_are_taken_off() -> None:
    talk = Talk().greet()
    block = head()
    data = message(b"hello")
    talk.send(
        frame(HEADERS, PADDED | 0x20, 1, b"\x03" + struct.pack(">LB", 0, 9) + block[:10] + bytes(3)),
        frame(CONTINUATION, 0, 1, block[10:20]),
        frame(CONTINUATION, END_HEADERS, 1, block[20:]),
        frame(DATA, PADDED, 1, b"\x02" + data[:4] + bytes(2)),
        frame(DATA, PADDED | END_STREAM, 1, b"\xff" + data[4:] + bytes(255)),
    )
    assert bodies(talk.frames()) == {1: b"hello"}


def test_trailers_of_a_client_end_its_call() -> None:
    talk = Talk().greet()
    talk.send(frame(HEADERS, END_HEADERS, 1, head()), frame(DATA, 0, 1, message(b"a")))
    assert not talk.asked
    talk.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, literal(b"checksum", b"1")))
    assert bodies(talk.frames()) == {1: b"a"}


@pytest.mark.parametrize(
    "block",
    [
        head()[: len(literal(b":method", b"POST"))],
        head() + literal(b":path", b"/again"),
        head() + literal(b":status", b"200"),
        literal(b"a", b"b") + head(),
        head() + literal(b"Upper", b"b"),
        head() + literal(b"connection", b"close"),
        head() + literal(b"te", b"gzip"),
        head() + literal(b"a", b"line\r\nbreak: 1"),
        head() + literal(b"", b"x"),
        head(path=b"*"),
    ],
)
def test_a_request_that_is_none_ends_its_stream_only(block: bytes) -> None:
    talk = Talk().greet()
    talk.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block), call(3, b"fine"))
    frames = talk.frames()
    assert (frames[0].kind, frames[0].stream, frames[0].word) == (RST, 1, PROTOCOL)
    assert bodies(frames) == {3: b"fine"}


def test_streams_beyond_those_at_once_are_turned_down_and_others_go_on() -> None:
    talk = Talk(answer=quiet).greet()
    talk.send(*(call(1 + 2 * place, b"a") for place in range(258)))
    turned_down = [(one.stream, one.word) for one in talk.frames() if one.kind == RST]
    assert turned_down == [(513, REFUSED), (515, REFUSED)]
    talk.asked[0].answer(b"done")
    talk.send(call(517, b"a"))
    assert len(talk.asked) == 257
    assert ends(talk.frames()) == [1]


def test_an_answer_waits_for_the_windows_of_stream_and_connection() -> None:
    talk = Talk().greet(window=10)
    talk.send(call(1, b"x" * 100), call(3, b"y"))
    frames = talk.frames()
    assert bodies(frames) == {1: b"x" * 5, 3: b"y"}
    assert ends(frames) == [3]
    talk.send(window(1, 20))
    assert [len(one.payload) for one in talk.frames()] == [20]
    talk.send(frame(SETTINGS, 0, 0, struct.pack(">HL", 4, 0)))  # takes back what is left, and more than that
    talk.send(window(1, 10))
    assert bodies(talk.frames()) == {}
    talk.send(frame(SETTINGS, 0, 0, struct.pack(">HL", 4, 1_000)))
    frames = talk.frames()
    assert sum(len(one.payload) for one in frames if one.kind == DATA) == 75
    assert ends(frames) == [1]


def test_what_waits_for_the_connection_is_shared_out_in_turn() -> None:
    talk = Talk().greet(window=2**20)
    talk.send(*(call(stream, bytes(40_000)) for stream in (1, 3, 5)))
    first = bodies(talk.frames())
    assert sum(map(len, first.values())) == 65_535 - 5 * len(first)
    done: list[int] = []
    for _ in range(30):
        talk.send(window(0, 5_000))
        done += ends(talk.frames())
    assert sorted([*done, 1]) == [1, 3, 5] or sorted(done) == [1, 3, 5]


def test_credit_is_given_for_what_came() -> None:
    talk = Talk().greet()
    talk.send(frame(HEADERS, END_HEADERS, 1, head()), frame(DATA, 0, 1, message(bytes(900_000))[:16_384]))
    for _ in range(40):
        talk.send(frame(DATA, 0, 1, bytes(16_384)))
    assert [(one.stream, one.word) for one in talk.frames() if one.kind == WINDOW] == [(1, 32 * 16_384)]


def test_more_than_the_windows_hold_is_refused() -> None:
    talk = Talk(answer=quiet).greet()
    talk.connection.streams.clear()
    talk.send(frame(HEADERS, END_HEADERS, 1, head()))
    stream = talk.connection.streams[1]
    stream.credit = 10
    talk.send(frame(DATA, 0, 1, bytes(11)))
    assert talk.end() == FLOW


def test_a_caller_that_leaves_is_told_of_and_not_answered() -> None:
    talk = Talk(answer=quiet).greet()
    left: list[str] = []
    talk.send(call(1, b"a"), call(3, b"b"))
    for request in talk.asked:
        request.on_gone = lambda id=request.id: left.append(id)
    talk.send(reset(1))
    assert left == [talk.asked[0].id] and talk.asked[0].gone
    talk.asked[0].answer(b"late")
    talk.connection.connection_lost(None)
    assert left == [request.id for request in talk.asked]
    talk.asked[1].answer(b"late")
    assert bodies(talk.frames()) == {}


def test_a_block_that_is_sent_again_is_read_once_and_never_mistaken() -> None:
    talk = Talk().greet()
    indexed = b"\x40" + literal(b"x-request-id", b"one")[1:]
    talk.send(call(1, b"a", head() + indexed), call(3, b"b", head() + b"\xbe"), call(5, b"c", head() + b"\xbe"))
    indexed = b"\x40" + literal(b"x-request-id", b"two")[1:]
    talk.send(call(7, b"d", head() + indexed), call(9, b"e", head() + b"\xbe"), call(11, b"f", head() + b"\xbf"))
    assert [request.id for request in talk.asked] == ["one", "one", "one", "two", "two", "one"]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_however_the_bytes_are_cut_the_answers_are_the_same(data: st.DataObject) -> None:
    sent = PREFACE + frame(SETTINGS, 0, 0) + call(1, b"hello") + call(3, bytes(20_000)) + frame(PING, 0, 0, bytes(8))
    whole = Talk()
    whole.send(sent)
    cut = Talk()
    places = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=12)))
    for start, end in zip([0, *places], [*places, len(sent)], strict=True):
        if start < end:
            cut.send(sent[start:end])
    assert bodies(cut.frames()) == bodies(whole.frames()) == {1: b"hello", 3: bytes(20_000)}


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(0, 70_000), min_size=1, max_size=6),
    st.integers(500, 100_000),
    st.integers(200, 40_000),
)
def test_a_client_of_another_house_gets_every_byte_through_any_windows(
    sizes: list[int], first_window: int, step: int
) -> None:
    talk = Talk()
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
    client.initiate_connection()
    client.update_settings({4: first_window})
    wanted = {1 + 2 * place: bytes((place,)) * size for place, size in enumerate(sizes)}
    left = {stream: message(body) for stream, body in wanted.items()}
    got: dict[int, bytes] = dict.fromkeys(wanted, b"")
    done: set[int] = set()
    for stream in wanted:
        fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", INFER), (b":authority", b"here")]
        fields.append((b"content-type", b"application/grpc"))
        client.send_headers(stream, fields)
    read = 0
    for _ in range(2_000):
        for stream, data in left.items():
            room = min(client.local_flow_control_window(stream), step, 16_384)
            if data and room > 0:
                left[stream] = data[room:]
                client.send_data(stream, data[:room], end_stream=not left[stream])
        talk.send(client.data_to_send())
        sent = bytes(talk.pipe.sent)
        for event in client.receive_data(sent[read:]):
            if isinstance(event, h2.events.DataReceived):
                got[event.stream_id] += event.data
                client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                done.add(event.stream_id)
        read = len(sent)
        if len(done) == len(wanted):
            break
    assert done == set(wanted)
    assert got == {stream: message(body) for stream, body in wanted.items()}


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 255), st.integers(0, 7), st.binary(max_size=60)), max_size=25)
)
def test_no_frames_make_the_connection_stumble(given_frames: list[tuple[int, int, int, bytes]]) -> None:
    talk = Talk().greet()
    talk.send(call(1, b"a"))
    for kind, flags, stream, payload in given_frames:
        talk.send(frame(kind, flags, stream, payload))
    talk.connection.connection_lost(None)
    assert not talk.connection.streams
    assert talk.listener.held_bytes == 0


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=400))
def test_no_bytes_make_the_connection_stumble(data: bytes) -> None:
    for start in (b"", PREFACE, PREFACE + frame(SETTINGS, 0, 0)):
        talk = Talk()
        talk.send(start + data)
        talk.connection.connection_lost(None)
        assert talk.listener.held_bytes == 0
