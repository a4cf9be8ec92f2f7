"""The collector of spans: what it gets, and that one that is slow, busy or gone harms nobody."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from modelyard.core.clock import SystemClock
from modelyard.serve.told import collector as collector_module
from modelyard.serve.told.collector import Collector
from modelyard.serve.told.tracer import TRACES_FILE, Tracer

HELD_UP_S = 1.9  # no speed: a first connection alone may take two seconds


class Receiver(ThreadingHTTPServer):
    """Takes messages as a collector does; answers with `codes` in turn, and then with 200."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, codes: list[int]) -> None:
        self.codes, self.got = codes, []  # type: ignore[var-annotated]
        self.came = threading.Semaphore(0)
        super().__init__(("127.0.0.1", 0), Taking)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def wait(self, count: int) -> None:
        for _ in range(count):
            assert self.came.acquire(timeout=10)


class Taking(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((self.path, self.headers["content-type"], body))
        self.send_response(self.server.codes.pop(0) if self.server.codes else 200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
        self.server.came.release()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def receiving(*codes: int) -> Iterator[Receiver]:
    receiver = Receiver(list(codes))
    thread = threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.shutdown()
        receiver.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of a test's length."""
    monkeypatch.setattr(collector_module, "FIRST_BACKOFF_S", 0.01)
    monkeypatch.setattr(collector_module, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(collector_module, "CLOSE_S", 0.5)


def test_a_collector_gets_what_the_file_gets(tmp_path: Path) -> None:
    with receiving() as receiver:
        tracer = Tracer(
            service="income",
            version="1.2.3",
            process="front.0",
            clock=SystemClock(),
            path=tmp_path / TRACES_FILE,
            most_bytes=1_000_000,
            sample=1.0,
            collector=Collector(receiver.endpoint + "/otlp/"),
        )
        for number in range(3):
            trace = tracer.begin({}, 1.0)
            assert trace is not None
            facts = {"method": b"POST", "path": b"/predict", "request_id": str(number), "release": "income@1"}
            tracer.finish(trace, 2.0, door="rows", code=200, **facts)  # type: ignore[arg-type]
            tracer.flush()
        tracer.close()
        bodies = [body for _, _, body in receiver.got]
        assert {(path, kind) for path, kind, _ in receiver.got} == {("/otlp/v1/traces", "application/json")}
    assert b"\n".join([*bodies, b""]) == (tmp_path / TRACES_FILE).read_bytes()
    assert all(json.loads(body)["resourceSpans"] for body in bodies)


def test_one_that_is_busy_is_asked_again_and_one_that_refuses_is_not() -> None:
    with receiving(503, 429, 200, 400, 200) as receiver:
        collector = Collector(receiver.endpoint)
        for body in (b"first", b"refused", b"last"):
            collector.offer(body, traces=2)
        receiver.wait(5)
        collector.close()
        assert [body for _, _, body in receiver.got] == [b"first", b"first", b"first", b"refused", b"last"]
    assert (collector.sent, collector.unsent) == (4, 2)


def test_one_that_is_gone_is_counted_and_never_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    collector = Collector(f"http://127.0.0.1:{port}")
    began = time.monotonic()
    for _ in range(200):
        collector.offer(b"{}", traces=1)
    assert time.monotonic() - began < HELD_UP_S
    collector.close()
    collector.close()
    assert collector.sent == 0
    assert collector.unsent >= 200 - collector_module.MOST_WAITING
    assert not collector._thread.is_alive()


def test_one_that_never_answers_holds_up_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        collector = Collector(f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        for _ in range(100):
            collector.offer(b"{}", traces=1)
        assert time.monotonic() - began < HELD_UP_S
        collector.close()
        assert time.monotonic() - began < 10
        assert collector.sent == 0 and collector.unsent > 0


def test_one_that_comes_back_is_sent_to_again() -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        collector = Collector(f"http://127.0.0.1:{server.getsockname()[1]}")
        for body in (b"one", b"two"):
            collector.offer(body, traces=1)
            with server.accept()[0] as connection:  # and closed without a word once it answered
                connection.settimeout(10)
                received = b""
                while not received.endswith(body):
                    received += connection.recv(65536)
                connection.sendall(answer)
        collector.close()
    assert (collector.sent, collector.unsent) == (2, 0)


@pytest.mark.parametrize("endpoint", ["", "127.0.0.1:4318", "ftp://127.0.0.1", "http://", "http://127.0.0.1:nonsense"])
def test_what_is_no_address_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match=r"endpoint|[Pp]ort"):
        Collector(endpoint)
