"""The HTTP layer over real sockets, with bytes written by hand."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Callable

import pytest
import uvloop

from modelyard.serve.http import connection as http
from modelyard.serve.http.listener import Listener
from modelyard.serve.keep.processes import listen
from modelyard.serve.request import Request

POST = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s"


def talk(sent: bytes, *, handle: Callable[[Request], None] | None = None, parts: int = 1, drain: bool = False) -> bytes:
    """Send bytes to a listener that echoes bodies, and return all that came back until it closed or was quiet."""

    async def run() -> bytes:
        loop = asyncio.get_running_loop()

        def echo(request: Request) -> None:
            request.answer(request.path + b" " + request.body, kind=b"text/plain")

        listener = Listener(loop=loop, handle=handle or echo, most_body_bytes=1000, prefix="t")
        sock = listen("127.0.0.1", 0)
        sock.setblocking(False)
        await listener.start(sock)
        reader, writer = await asyncio.open_connection(*sock.getsockname()[:2])
        size = -(-len(sent) // parts)
        for start in range(0, len(sent), size):
            writer.write(sent[start : start + size])
            await writer.drain()
            await asyncio.sleep(0)
        if drain:
            await listener.drain(2.0)
        data = b""
        with contextlib.suppress(TimeoutError):  # nothing more comes on a connection that is kept
            while more := await asyncio.wait_for(reader.read(65536), 0.15):
                data += more
        writer.close()
        await listener.drain(1.0)
        return data

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def statuses(data: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", data)]


@pytest.mark.parametrize("parts", [1, 2, 40])
def test_a_request_is_answered_however_it_is_cut(parts: int) -> None:
    data = talk(POST % (5, b"hello"), parts=parts)
    assert data.startswith(b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n")
    assert data.endswith(b"\r\n\r\n/echo hello")


def test_a_chunked_body_is_put_together() -> None:
    head = b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    assert talk(head + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").endswith(b"/echo abcde")


def test_requests_that_come_early_are_answered_in_order() -> None:
    held: list[Request] = []

    def late(request: Request) -> None:
        held.append(request)
        asyncio.get_running_loop().call_later(0.01 if request.body == b"1" else 0, lambda: request.answer(request.body))

    data = talk(b"".join(POST % (1, b"%d" % number) for number in range(1, 8)), handle=late)
    assert [part[-1:] for part in data.split(b"HTTP/1.1 ")[1:]] == [b"1", b"2", b"3", b"4", b"5", b"6", b"7"]


def test_more_early_requests_than_are_kept_are_answered_too() -> None:
    data = talk(b"".join(POST % (2, b"%02d" % number) for number in range(99)))
    assert statuses(data) == [200] * 99


def test_a_large_body_is_refused_before_it_is_read() -> None:
    data = talk(POST % (1001, b"x"))
    assert statuses(data) == [413]
    assert b"connection: close" in data and b"x-request-id: t-" in data


def test_a_large_chunked_body_is_refused() -> None:
    head = b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    assert statuses(talk(head + b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n")) == [413]


def test_a_large_head_is_refused() -> None:
    data = talk(b"GET / HTTP/1.1\r\nhost: x\r\nlong: " + b"y" * http.MOST_HEAD_BYTES + b"\r\n\r\n", parts=20)
    assert statuses(data) == [431]


@pytest.mark.parametrize(
    "sent",
    [
        b"HELLO\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused(sent: bytes) -> None:
    assert 400 in statuses(talk(sent)) or statuses(talk(sent)) == [200]


def test_a_fault_behind_a_good_request_does_not_take_its_reply() -> None:
    def late(request: Request) -> None:
        asyncio.get_running_loop().call_later(0.01, lambda: request.answer(b"good"))

    assert statuses(talk(POST % (1, b"a") + b"NONSENSE\r\n\r\n", handle=late)) == [200, 400]


def test_a_caller_that_asks_first_is_told_to_go_on() -> None:
    head = b"POST /echo HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
    assert statuses(talk(head + b"ok")) == [100, 200]


def test_head_has_no_body_but_its_length() -> None:
    data = talk(b"HEAD /echo HTTP/1.1\r\nhost: x\r\n\r\n")
    assert b"content-length: 6\r\n" in data and data.endswith(b"\r\n\r\n")


def test_an_older_caller_is_answered_and_closed() -> None:
    data = talk(b"GET /echo HTTP/1.0\r\n\r\n")
    assert statuses(data) == [200] and b"connection: close" in data


@pytest.mark.parametrize(("given", "kept"), [(b"my-id.1", True), (b"has space", False), (b"x" * 200, False)])
def test_a_callers_request_id_is_kept_where_it_is_harmless(given: bytes, kept: bool) -> None:
    data = talk(b"GET /echo HTTP/1.1\r\nhost: x\r\nx-request-id: " + given + b"\r\n\r\n")
    assert (b"x-request-id: " + given + b"\r\n" in data) is kept


def test_a_request_sent_before_the_drain_is_answered_and_the_close_announced() -> None:
    def late(request: Request) -> None:
        asyncio.get_running_loop().call_later(0.2, lambda: request.answer(b"good"))

    data = talk(POST % (1, b"a"), handle=late, drain=True)
    assert statuses(data) == [200] and b"connection: close\r\n" in data


def test_a_caller_that_leaves_is_noticed() -> None:
    async def run() -> bool:
        loop = asyncio.get_running_loop()
        gone: asyncio.Future[bool] = loop.create_future()

        def hold(request: Request) -> None:
            request.on_gone = lambda: gone.set_result(request.gone)

        listener = Listener(loop=loop, handle=hold, most_body_bytes=1000, prefix="t")
        sock = listen("127.0.0.1", 0)
        sock.setblocking(False)
        await listener.start(sock)
        with socket.create_connection(sock.getsockname()) as client:
            client.sendall(POST % (1, b"a"))
            await asyncio.sleep(0.05)
        seen = await asyncio.wait_for(gone, 5)
        await listener.drain(1.0)
        return seen

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(run())
