"""A head that came before is not parsed again: with and without that, callers and handlers see the same."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.serve.http.connection import Connection
from modelyard.serve.http.listener import Listener
from modelyard.serve.keep.processes import listen
from modelyard.serve.request import Request

OWN = re.compile(rb"t-[0-9a-f]+")


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.is_closed = False

    def write(self, data: Any) -> None:
        assert not self.is_closed
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Forgetful(Connection):
    """A connection that parses every head."""

    def _remember(self, data: bytes) -> None:
        pass


class CountingParser:
    """Counts how often it was needed."""

    def __init__(self, parser: Any) -> None:
        self.parser, self.fed = parser, 0

    def feed_data(self, data: bytes) -> None:
        self.fed += 1
        self.parser.feed_data(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.parser, name)


class Side:
    """One connection with its caller's and its handler's view."""

    def __init__(self, loop: asyncio.AbstractEventLoop, kind: type[Connection]) -> None:
        self.seen: list[tuple[Any, ...]] = []
        self.held: list[Request] = []
        self.ids: list[str] = []
        self.listener = Listener(loop=loop, handle=self._handle, most_body_bytes=60, prefix="t")
        self.wire = Wire()
        self.connection = kind(self.listener)
        self.connection.connection_made(self.wire)
        self.parser = CountingParser(self.connection._parser)
        self.connection._parser = self.parser

    def _handle(self, request: Request) -> None:
        headers = sorted(request.headers.items())
        self.seen.append((request.method, request.path, request.query, headers, request.body))
        self.ids.append(request.id)
        if b"hold" in request.path:
            self.held.append(request)
        else:
            self._answer(request)

    def _answer(self, request: Request) -> None:
        request.answer(b"%b|%b|%b" % (request.path, request.query, request.body))

    def send(self, data: bytes) -> None:
        if not self.wire.is_closed:
            self.connection.data_received(data)

    def release(self) -> None:
        while self.held:
            self._answer(self.held.pop(0))

    def drain(self) -> None:
        self.listener.draining = True
        self.connection.announce()

    @property
    def told(self) -> tuple[bytes, bool, list[Any]]:
        """What both sides must agree on; ids that the listener makes are told apart only by being different."""
        assert len(set(self.ids)) >= len({name for name in self.ids if OWN.fullmatch(name.encode())})
        return OWN.sub(b"t-?", bytes(self.wire.written)), self.wire.is_closed, self.seen


@contextlib.contextmanager
def both() -> Iterator[tuple[Side, Side]]:
    loop = uvloop.new_event_loop()
    try:
        yield Side(loop, Connection), Side(loop, Forgetful)
    finally:
        loop.close()


def post(body: bytes = b"", path: bytes = b"/echo", *lines: bytes, version: bytes = b"1.1") -> bytes:
    head = b"".join(line + b"\r\n" for line in (b"host: x", *lines, b"content-length: %d" % len(body)))
    return b"POST %b HTTP/%b\r\n%b\r\n%b" % (path, version, head, body)


BODIES = st.sampled_from([b"", b"a", b"b", b"ab", b"cd", b"\r\n\r\nxy", b"\r\nabcd", b"\r\n\r\n\r\n", b"GET / "])
PATHS = st.sampled_from([b"/echo", b"/ecno", b"/hold", b"/echo?a=1", b"/echo?a=2"])
LINES = st.sampled_from(
    [(), (b"x-request-id: one",), (b"x-request-id: two",), (b"x-request-id: t wo",), (b"x-key: 1",), (b"x-key: 2",),
     (b"expect: 100-continue",), (b"connection: close",), (b"connection: keep-alive",)]
)  # fmt: skip
POSTS = st.builds(
    lambda body, path, lines, version: post(body, path, *lines, version=version),
    BODIES,
    PATHS,
    LINES,
    st.sampled_from([b"1.1"] * 9 + [b"1.0"]),
)
OTHERS = st.sampled_from(
    [
        b"GET /echo HTTP/1.1\r\nhost: x\r\n\r\n",
        b"HEAD /echo HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\r\n" + post(b"ab"),
        b"\r\n\r\n" + post(b"ab"),
        post(b"ab") + b"\r\n",
        post(b"\r\nab") + b"\r\n",
        post(b"\r\n\r\nab") + b"\r\n\r\n",
        post(b"ab").replace(b"\r\n", b"\n"),
        b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        post(b"x" * 61),
        b"NONSENSE\r\n\r\n",
        b"GET /echo HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
    ]
)
SENT = st.lists(st.tuples(POSTS | OTHERS, st.integers(1, 4)), min_size=1, max_size=5).map(
    lambda pairs: [one for one, times in pairs for _ in range(times)]
)


@settings(max_examples=400, deadline=None)
@given(SENT, st.data())
def test_whatever_is_sent_and_however_it_is_cut_both_see_the_same(sent: list[bytes], data: st.DataObject) -> None:
    way = data.draw(st.sampled_from(["each alone", "each alone", "any pieces", "at once"]))
    whole = b"".join(sent)
    pieces = sent
    if way == "at once":
        pieces = [whole]
    elif way == "any pieces":
        ends = sorted(data.draw(st.sets(st.integers(1, len(whole)), max_size=8)) | {len(whole)})
        pieces = [whole[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    drain_at = data.draw(st.none() | st.integers(0, len(pieces)))
    releases = data.draw(st.lists(st.booleans(), min_size=len(pieces), max_size=len(pieces)))
    with both() as (quick, plain):
        for place, piece in enumerate(pieces):
            for side in (quick, plain):
                if place == drain_at:
                    side.drain()
                side.send(piece)
                if releases[place]:
                    side.release()
            assert quick.told == plain.told
        for side in (quick, plain):
            side.release()
        assert quick.told == plain.told


def test_a_head_that_comes_again_is_parsed_once() -> None:
    with both() as (quick, plain):
        for number in range(50):
            for side in (quick, plain):
                side.send(post(b"%02d" % number))
        assert (quick.parser.fed, plain.parser.fed) == (1, 50)
        assert quick.told == plain.told
        assert [body for *_, body in quick.seen] == [b"%02d" % number for number in range(50)]
        assert len(set(quick.ids)) == 50


@pytest.mark.parametrize("place", range(len(post(b"ab")) - 2))
def test_a_head_that_differs_in_one_byte_is_parsed(place: int) -> None:
    first = post(b"ab")
    for other in {first[place] ^ 1, first[place] ^ 0x20, ord("9"), ord("\n")} - {first[place]}:
        with both() as (quick, plain):
            for side in (quick, plain):
                side.send(first)
                side.send(first[:place] + bytes([other]) + first[place + 1 :])
            assert quick.parser.fed == 2
            assert quick.told == plain.told


def test_a_longer_body_and_one_that_comes_in_two_pieces_are_parsed() -> None:
    with both() as (quick, plain):
        for side in (quick, plain):
            side.send(post(b"ab"))
            side.send(post(b"abc"))
            half = post(b"cd")
            side.send(half[:-1])
            side.send(half[-1:])
            side.send(post(b"ef"))
        assert quick.told == plain.told
        assert [body for *_, body in quick.seen] == [b"ab", b"abc", b"cd", b"ef"]


def test_what_a_parser_passes_over_behind_a_body_never_shifts_the_next_one() -> None:
    with both() as (quick, plain):
        for side in (quick, plain):
            side.send(post(b"\r\nab") + b"\r\n")
            side.send(post(b"\r\ncd") + b"\r\n")
            side.send(post(b"\r\ncd") + b"GE")
            side.send(b"T /echo HTTP/1.1\r\nhost: x\r\n\r\n")
        assert quick.told == plain.told
        assert [body for *_, body in quick.seen] == [b"\r\nab", b"\r\ncd", b"\r\ncd", b""]


def test_a_request_on_a_known_head_that_comes_early_waits_its_turn() -> None:
    with both() as (quick, plain):
        for side in (quick, plain):
            for body in (b"a", b"b", b"c"):
                side.send(post(body, b"/hold"))
            assert len(side.held) == 1
            side.release()
            assert len(side.seen) == 3
            side.send(post(b"d", b"/hold"))
            side.release()
        assert quick.told == plain.told


def test_a_known_head_answered_while_draining_says_that_the_connection_ends() -> None:
    with both() as (quick, _):
        quick.send(post(b"a"))
        quick.send(post(b"b"))
        quick.drain()
        quick.send(post(b"c"))
        assert quick.parser.fed == 1
        assert quick.wire.is_closed and quick.wire.written.endswith(b"\r\nconnection: close\r\n\r\n/echo||c")


def test_thousands_that_wait_behind_one_are_answered_in_order() -> None:
    with both() as (quick, _):
        count = 3000
        quick.send(post(b"first", b"/hold") + b"".join(post(b"%04d" % number) for number in range(count)))
        quick.release()
        assert [body for *_, body in quick.seen] == [b"first", *(b"%04d" % number for number in range(count))]
        assert quick.wire.written.count(b"HTTP/1.1 200 OK") == count + 1


def test_a_caller_that_asks_again_as_the_drain_begins_is_answered() -> None:
    async def run() -> bytes:
        loop = asyncio.get_running_loop()
        listener = Listener(
            loop=loop, handle=lambda request: request.answer(request.body), most_body_bytes=60, prefix="t"
        )
        sock = listen("127.0.0.1", 0)
        sock.setblocking(False)
        await listener.start(sock)
        reader, writer = await asyncio.open_connection(*sock.getsockname()[:2])
        listener.clock -= 10.0  # the last sweep was some time ago
        for body in (b"a", b"b"):
            writer.write(post(body))
            assert (await reader.readuntil(b"\r\n\r\n")) and await reader.readexactly(1) == body
        drained = loop.create_task(listener.drain(5.0))
        await asyncio.sleep(0.2)  # longer than connections are still accepted
        writer.write(post(b"c"))
        data = await asyncio.wait_for(reader.read(), 5)
        assert await drained == 0
        writer.close()
        return data

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        data = runner.run(run())
    assert data.startswith(b"HTTP/1.1 200 OK") and b"connection: close\r\n" in data and data.endswith(b"\r\n\r\nc")
