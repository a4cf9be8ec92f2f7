"""Clients that mean harm: what they can make a connection hold or do has an end."""

from __future__ import annotations

import struct

import pytest

from modelyard.serve.grpc.call import GrpcRequest
from modelyard.serve.http2.connection import (
    ANSWER_TIMEOUT_S,
    FRAME_TIMEOUT_S,
    GREETING_TIMEOUT_S,
    IDLE_TIMEOUT_S,
    MOST_PATIENCE,
    MOST_STREAMS,
    PATIENCE_PER_S,
)
from modelyard.serve.http2.line import LINGER_S, READ_TIMEOUT_S
from modelyard.serve.request import Code
from tests.serve.http2_kit import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    MOST_BYTES,
    PING,
    PREFACE,
    PRIORITY,
    RST,
    SETTINGS,
    Talk,
    bodies,
    call,
    ends,
    frame,
    head,
    message,
    reset,
    window,
)

CALM = 11
CANCEL = 8


def quiet(request: GrpcRequest) -> None:
    """Answer later, or never."""


@pytest.mark.parametrize(
    "one",
    [
        frame(PING, 0, 0, bytes(8)),
        frame(SETTINGS, 0, 0),
        frame(PRIORITY, 0, 1, bytes(5)),
        frame(DATA, 0, 1, b""),
        frame(99, 0, 0, b""),
        window(1, 1),
        window(0, 1),
        frame(SETTINGS, 0, 0, struct.pack(">HL", 4, 70_000) * 2_000),
    ],
)
def test_frames_that_ask_for_nothing_end_a_connection_when_there_are_too_many(one: bytes) -> None:
    talk = Talk(answer=quiet).greet()
    talk.send(frame(HEADERS, END_HEADERS, 1, head()))
    sent = 0
    while not talk.pipe.is_closed and sent <= MOST_PATIENCE:
        talk.send(one)
        sent += 1
    assert talk.end() == CALM
    assert sent > 0.9 * MOST_PATIENCE
    assert talk.refused == [Code.TOO_MANY]


def test_streams_opened_and_given_up_at_once_end_a_connection_before_they_cost_much() -> None:
    talk = Talk(answer=quiet).greet()
    stream = 1
    while not talk.pipe.is_closed:
        talk.send(call(stream, b"a"), reset(stream))
        stream += 2
    assert talk.end() == CALM
    assert len(talk.asked) <= MOST_PATIENCE
    assert all(request.gone for request in talk.asked)


def test_patience_comes_back_with_time_and_with_answers() -> None:
    talk = Talk().greet()
    for _ in range(5):
        for _ in range(PATIENCE_PER_S // 2):
            talk.send(frame(PING, 0, 0, bytes(8)))
        talk.pass_time(1.0)
    for place in range(3 * MOST_PATIENCE):  # a client that asks and pings, and one that pings with every answer
        talk.send(call(1 + 2 * place, b"a"), frame(PING, 0, 0, bytes(8)), window(0, 6), window(0, 1))
    assert not talk.pipe.is_closed


def test_callers_that_often_stop_waiting_keep_their_connection() -> None:
    talk = Talk(answer=quiet).greet()
    stream = 1
    for _ in range(60):
        for place in range(150):
            talk.send(call(stream, b"a"))
            if place < 75:
                talk.send(reset(stream))
            else:
                talk.asked[-1].answer(b"done")
            stream += 2
        talk.pass_time(1.0)
    assert not talk.pipe.is_closed


def test_a_header_block_that_does_not_end_is_cut_off() -> None:
    for part in (b"", bytes(16_000)):
        talk = Talk().greet()
        talk.send(frame(HEADERS, 0, 1, head()))
        for _ in range(20):
            talk.send(frame(CONTINUATION, 0, 1, part))
        assert talk.end() == CALM


def test_a_small_block_that_says_much_is_cut_off() -> None:
    talk = Talk().greet()
    talk.send(call(1, b"a", head() + b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4_000))
    talk.send(call(3, b"a", head() + b"\xbe" * 1_000))
    assert talk.end() == CALM
    assert len(talk.asked) == 1


def test_many_different_blocks_are_not_all_remembered() -> None:
    talk = Talk().greet()
    for place in range(1_000):
        talk.send(call(1 + 2 * place, b"a", head(x_request_id=b"%d" % place)))
    assert len(talk.connection._blocks._heads) <= 64
    assert len(talk.asked) == 1_000


def test_streams_that_are_turned_down_wear_out_patience_too() -> None:
    talk = Talk(answer=quiet).greet()
    stream = 1
    while not talk.pipe.is_closed and stream < 20_000:
        talk.send(call(stream, b"a"))
        stream += 2
    assert talk.end() == CALM
    assert len(talk.asked) == MOST_STREAMS


def test_a_message_beyond_the_bound_is_refused_from_its_first_bytes() -> None:
    talk = Talk().greet()
    talk.send(frame(HEADERS, END_HEADERS, 1, head()), frame(DATA, 0, 1, b"\0" + (MOST_BYTES + 1).to_bytes(4)))
    frames = talk.frames()
    assert b"grpc-status\x018" in frames[0].payload and ends(frames) == [1]
    assert (frames[1].kind, frames[1].word) == (RST, 0)
    talk.send(frame(DATA, 0, 1, bytes(16_384)), call(3, b"next"))  # what was on its way is dropped
    assert bodies(talk.frames()) == {3: b"next"}
    assert talk.refused == [Code.TOO_LARGE]
    assert talk.listener.held_bytes == 0


def test_messages_that_come_in_at_once_have_a_bound_over_all_connections() -> None:
    talk = Talk().greet()
    stream, part = 1, bytes(16_000)
    talk.connection._credit = 2**40
    while not talk.refused:
        talk.send(frame(HEADERS, END_HEADERS, stream, head()), frame(DATA, 0, stream, b"\0" + MOST_BYTES.to_bytes(4)))
        for _ in range(40):
            talk.send(frame(DATA, 0, stream, part))
        stream += 2
    assert talk.refused[0] is Code.NOT_NOW
    assert talk.listener.held_bytes <= talk.listener.most_held_bytes
    assert any(b"retry-after" in one.payload for one in talk.frames() if one.kind == HEADERS)
    talk.connection.connection_lost(None)
    assert talk.listener.held_bytes == 0


def test_messages_in_many_small_parts_do_not_pile_up() -> None:
    talk = Talk().greet()
    talk.send(frame(HEADERS, END_HEADERS, 1, head()), frame(DATA, 0, 1, b"\0" + (20_000).to_bytes(4)))
    for _ in range(19_999):
        talk.connection.data_received(frame(DATA, 0, 1, b"x"))
    assert len(talk.connection.streams[1]._parts) <= 4_097  # type: ignore[attr-defined]  # it is a call
    talk.send(frame(DATA, 1, 1, b"x"))
    assert bodies(talk.frames()) == {1: b"x" * 20_000}


def test_who_says_nothing_is_let_go() -> None:
    talk = Talk()
    talk.send(PREFACE[:7])
    talk.pass_time(GREETING_TIMEOUT_S - 1)
    assert not talk.pipe.is_closed
    talk.pass_time(2)
    assert talk.pipe.is_closed


def test_a_frame_that_comes_too_slowly_ends_the_connection() -> None:
    for begun in (frame(DATA, 0, 1, b"abc")[:-1], frame(HEADERS, 0, 1, head())):
        talk = Talk().greet()
        talk.send(begun)
        talk.pass_time(FRAME_TIMEOUT_S + 1)
        assert talk.end() == CALM


def test_a_message_that_comes_too_slowly_is_refused_and_others_go_on() -> None:
    talk = Talk().greet()
    talk.send(frame(HEADERS, END_HEADERS, 1, head()), frame(DATA, 0, 1, message(b"hello")[:6]))
    talk.pass_time(FRAME_TIMEOUT_S + 1)
    frames = talk.frames()
    assert b"grpc-status\x014" in frames[0].payload and ends(frames) == [1]
    talk.send(call(3, b"next"))
    assert bodies(talk.frames()) == {3: b"next"}


def test_a_client_that_opens_no_window_loses_its_answer_and_not_the_service_its_memory() -> None:
    talk = Talk().greet(window=0)
    talk.send(call(1, b"hello"))
    talk.pass_time(FRAME_TIMEOUT_S - 1)
    assert 1 in talk.connection.streams
    talk.pass_time(2)
    last = talk.frames()[-1]
    assert (last.kind, last.stream, last.word) == (RST, 1, CANCEL)
    assert not talk.connection.streams


def test_while_a_client_does_not_read_nothing_more_is_read_of_it_and_then_it_is_dropped() -> None:
    talk = Talk().greet()
    talk.pipe.unsent = 100_000
    talk.connection.pause_writing()
    assert talk.pipe.is_paused
    talk.pass_time(READ_TIMEOUT_S - 1)
    talk.pipe.unsent = 99_000  # it reads, slowly
    talk.pass_time(READ_TIMEOUT_S - 1)
    assert not talk.pipe.is_aborted
    talk.pass_time(READ_TIMEOUT_S + 1)
    assert talk.pipe.is_aborted


def test_a_client_that_reads_on_is_read_on() -> None:
    talk = Talk().greet()
    talk.connection.pause_writing()
    talk.connection.resume_writing()
    assert not talk.pipe.is_paused
    talk.pass_time(READ_TIMEOUT_S + 1)
    assert not talk.pipe.is_aborted


def test_a_connection_without_calls_is_ended_with_notice() -> None:
    talk = Talk().greet()
    talk.pass_time(IDLE_TIMEOUT_S + 1)
    assert [one.kind for one in talk.frames()] == [GOAWAY, PING]
    talk.send(call(1, b"just now"), frame(PING, 1, 0, b"draining"))
    frames = talk.frames()
    assert bodies(frames) == {1: b"just now"}
    assert int.from_bytes(frames[-1].payload[:4]) == 1
    assert talk.pipe.is_closed


def test_a_client_that_does_not_hear_of_the_end_is_let_go_too() -> None:
    talk = Talk().greet()
    talk.pass_time(IDLE_TIMEOUT_S + 1)
    talk.pass_time(ANSWER_TIMEOUT_S + 1)
    assert [one.kind for one in talk.frames()] == [GOAWAY, PING, GOAWAY]
    assert talk.pipe.is_closed


def test_connections_have_a_bound() -> None:
    talk = Talk(most_connections=0)
    assert talk.pipe.is_aborted
    assert not talk.listener.connections


def test_after_a_fault_the_client_has_time_to_read_why() -> None:
    talk = Talk().greet()
    talk.send(frame(PING, 0, 1, bytes(8)))
    talk.send(bytes(100_000))  # is dropped
    assert not talk.pipe.is_aborted
    talk.pass_time(LINGER_S + 1)
    assert talk.pipe.is_aborted
