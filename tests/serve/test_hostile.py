"""What callers who mean harm, or write HTTP as it should not be, get from the HTTP layer."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import uvloop

from modelyard.serve.doors import Malformed
from modelyard.serve.forms.csv_rows import rows_of_csv
from modelyard.serve.http import connection as http
from modelyard.serve.http.listener import Listener
from modelyard.serve.keep.processes import listen
from modelyard.serve.request import Request
from modelyard.serve.told.rolling import Rolling
from tests.serve.bodies import contract
from tests.serve.test_http import POST, statuses, talk

CHUNKED = b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: %b\r\n\r\n2\r\nhi\r\n0\r\n%b\r\n"
PAGE = b"p" * 100_000


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /echo HTTP/1.1\r\n\r\n",
        b"GET /echo HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"GET /echo HTTP/2.0\r\nhost: a\r\n\r\n",
        b"GET /echo HTTP/1.1\r\nhost: a\r\nauthorization: Bearer one\r\nauthorization: Bearer two\r\n\r\n",
        b"GET /echo HTTP/1.1\r\nhost: a\r\nx-api-key: one\r\nX-API-Key: two\r\n\r\n",
    ],
)
def test_a_head_that_could_be_read_in_two_ways_is_refused(sent: bytes) -> None:
    data = talk(sent)
    assert statuses(data) == [400] and b"connection: close" in data


def test_a_coding_that_is_not_undone_is_refused() -> None:
    assert statuses(talk(CHUNKED % (b"gzip, chunked", b""))) == [501]
    assert talk(CHUNKED % (b"Chunked", b"")).endswith(b"/echo hi")


def test_trailers_are_no_headers() -> None:
    seen: list[Request] = []

    def keep(request: Request) -> None:
        seen.append(request)
        request.answer(b"")

    talk(CHUNKED % (b"chunked", b"x-request-id: sly\r\nauthorization: Bearer key\r\n"), handle=keep)
    assert seen[0].id != "sly" and set(seen[0].headers) == {b"host", b"transfer-encoding"}


def test_an_address_written_whole_is_its_path() -> None:
    assert talk(b"GET http://elsewhere:80/echo?q HTTP/1.1\r\nhost: x\r\n\r\n").endswith(b"\r\n\r\n/echo ")


def test_a_wish_for_another_protocol_is_passed_over_and_the_request_answered() -> None:
    wish = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAAA\r\n"
    sent = b"POST /echo HTTP/1.1\r\nhost: x\r\n" + wish + b"content-length: 2\r\n\r\nhi"
    data = talk(sent + sent + POST % (3, b"end"))
    assert statuses(data) == [200] * 3
    assert data.count(b"/echo hi") == 2 and data.endswith(b"/echo end")
    assert statuses(talk(sent, parts=30)) == [200]


def test_a_tunnel_is_refused() -> None:
    assert statuses(talk(b"CONNECT other:443 HTTP/1.1\r\nhost: x\r\n\r\n" + POST % (1, b"a"))) == [405]


def test_replies_do_not_pile_up_for_a_caller_that_does_not_read() -> None:
    async def run() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        answered = 0

        def page(request: Request) -> None:
            nonlocal answered
            answered += 1
            request.answer(PAGE)

        listener = Listener(loop=loop, handle=page, most_body_bytes=1000, prefix="t")
        sock = listen("127.0.0.1", 0)
        sock.setblocking(False)
        await listener.start(sock)
        with socket.create_connection(sock.getsockname()) as client:
            client.setblocking(False)
            wanted = 1000
            await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * wanted)
            await asyncio.sleep(0.1)
            piled, read, ends = answered, 0, wanted * len(PAGE)
            while read < ends:  # whatever was held back comes once it is read
                read += len(await asyncio.wait_for(loop.sock_recv(client, 1 << 20), 5))
        await listener.drain(1.0)
        return piled, answered

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        piled, answered = runner.run(run())
    assert piled < 200 and answered == 1000


def test_who_sends_little_is_answered_while_others_hold_all_that_may_be_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "ALWAYS_TAKEN_BYTES", 100)

    async def run() -> list[bytes]:
        loop = asyncio.get_running_loop()
        listener = Listener(loop=loop, handle=lambda request: request.answer(b"good"), most_body_bytes=1000, prefix="t")
        sock = listen("127.0.0.1", 0)
        sock.setblocking(False)
        await listener.start(sock)
        address = sock.getsockname()[:2]
        slow = []
        for _ in range(http.BODIES_AT_ONCE + 1):
            slow.append(await asyncio.open_connection(*address))
            slow[-1][1].write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n" + b"x" * 990)
        refused = await asyncio.wait_for(slow[-1][0].readline(), 5)
        reader, writer = await asyncio.open_connection(*address)
        writer.write(POST % (5, b"small"))
        taken = await asyncio.wait_for(reader.readline(), 5)
        for _, other in slow:
            other.close()
        writer.close()
        await listener.drain(1.0)
        return [refused, taken]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        refused, taken = runner.run(run())
    assert b"503" in refused and b"200" in taken


def test_a_csv_of_empty_lines_is_given_up_early() -> None:
    assert len(rows_of_csv(b"age\n\n\n1\n\n", contract(), most=4)) == 1
    with pytest.raises(Malformed, match="empty"):
        rows_of_csv(b"age\n" + b"\n" * 6, contract(), most=4)


def test_logs_are_for_their_owner_only(tmp_path: Path) -> None:
    log = Rolling(tmp_path / "front.log", most_bytes=10)
    for _ in range(3):
        log.append(b"a line of the log\n")
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


ROOM = """
import resource
from modelyard.serve.room import make_room
resource.setrlimit(resource.RLIMIT_NOFILE, (200, {hard}))
print(make_room(1000), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(("hard", "said"), [(5000, "1000 1128"), (600, "472 600"), (200, "100 200")])
def test_no_more_callers_are_taken_than_there_are_files_for(hard: int, said: str) -> None:
    done = subprocess.run([sys.executable, "-c", ROOM.format(hard=hard)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == said
