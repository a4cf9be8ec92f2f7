"""How gRPC connections end, and who is told of changes meanwhile."""

from __future__ import annotations

from typing import Any

from modelyard.serve.grpc.call import GrpcRequest
from modelyard.serve.grpc.health import WATCH, Health
from modelyard.serve.grpc.service import STREAM
from modelyard.serve.grpc.stream import InferStream
from tests.serve.http2_kit import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    Talk,
    bodies,
    call,
    ends,
    frame,
    head,
    literal,
    message,
    of_stream,
    reset,
    status,
    window,
)

INVALID = b"3"


def quiet(request: GrpcRequest) -> None:
    """Answer later, or never."""


def draining(talk: Talk) -> None:
    talk.listener.draining = True
    talk.connection.announce()


def test_a_drain_announces_itself_then_names_the_last_call_and_answers_all_up_to_it() -> None:
    talk = Talk(answer=quiet).greet()
    talk.send(call(1, b"a"))
    draining(talk)
    goaway, ping = talk.frames()
    assert (goaway.kind, goaway.payload[:8]) == (GOAWAY, b"\x7f\xff\xff\xff" + bytes(4))
    talk.send(call(3, b"b"), frame(PING, 1, 0, ping.payload), call(5, b"c"))  # 5 crossed our word of the last
    assert [request.body for request in talk.asked] == [b"a", b"b"]
    (goaway,) = talk.frames()
    assert int.from_bytes(goaway.payload[:4]) == 3
    talk.asked[1].answer(b"B")
    assert not talk.pipe.is_closed
    talk.asked[0].answer(b"A")
    assert bodies(talk.frames()) == {1: b"A", 3: b"B"}
    assert talk.pipe.is_closed


def test_a_client_that_does_not_hear_of_the_drain_is_not_waited_for() -> None:
    talk = Talk(answer=quiet).greet()
    draining(talk)
    talk.frames()
    talk.loop.now += 0.4
    talk.connection.settle(talk.loop.now, 0.5)
    assert talk.frames() == []
    talk.loop.now += 0.2
    talk.connection.settle(talk.loop.now, 0.5)
    assert [one.kind for one in talk.frames()] == [GOAWAY]
    assert talk.pipe.is_closed


def test_a_drain_ends_streams_that_are_quiet_and_those_who_watch() -> None:
    good = [True]
    health = Health(lambda name: good[0])
    talk = Talk(answer=quiet, kinds={STREAM: InferStream, WATCH: health.watch}).greet()
    talk.send(frame(HEADERS, END_HEADERS, 1, head(STREAM)), frame(DATA, 0, 1, message(b"a")), call(3, b"", head(WATCH)))
    assert of_stream(talk.frames(), 3) == [b"\x08\x01"]
    good[0] = False
    draining(talk)
    talk.send(frame(PING, 1, 0, b"draining"))
    talk.connection.settle(talk.loop.now + 10, 0.5)
    frames = talk.frames()
    assert of_stream(frames, 3) == [b"\x08\x02"] and ends(frames) == [3]
    talk.asked[0].answer(b"")
    assert len(of_stream(talk.frames())) == 1
    talk.connection.settle(talk.loop.now + 10, 0.5)
    assert ends(talk.frames()) == [1]
    assert talk.pipe.is_closed


def test_who_watches_is_told_of_changes_and_only_the_last_where_it_does_not_read() -> None:
    good: dict[str, Any] = {"": True}
    health = Health(good.get)
    talk = Talk(kinds={WATCH: health.watch}).greet(window=7)
    talk.send(call(1, b"", head(WATCH)))
    for state in (False, True, False):
        good[""] = state
        talk.pass_time(0.06)
    assert of_stream(talk.frames()) == [b"\x08\x01"]
    talk.send(window(1, 1_000))
    talk.pass_time(0.06)
    assert of_stream(talk.frames()) == [b"\x08\x02"]
    talk.send(reset(1))
    assert not health._watchers
    talk.send(call(3, b"\xff", head(WATCH)))
    assert status(talk.frames()) == INVALID


def test_frames_of_calls_behind_the_last_do_not_harm_those_before() -> None:
    talk = Talk(answer=quiet).greet()
    talk.send(call(1, b"a"))
    draining(talk)
    talk.send(frame(PING, 1, 0, b"draining"), frame(HEADERS, END_HEADERS, 3, head()))
    talk.send(frame(DATA, 0, 3, b"abc"), frame(HEADERS, END_HEADERS | END_STREAM, 3, literal(b"a", b"b")), reset(3))
    talk.asked[0].answer(b"A")
    assert bodies(talk.frames()) == {1: b"A"}
