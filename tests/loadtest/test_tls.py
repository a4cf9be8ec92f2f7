"""Load over TLS: trusted where the authority is given, refused where it is not."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.errors import NotRunning
from modelyard.loadtest.address import parse_address
from modelyard.loadtest.measure import Subject, measure
from tests.loadtest.loads import Heard, plan
from tests.loadtest.server import Line


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that vouches for itself, its key beside it."""
    folder = tmp_path_factory.mktemp("tls")
    names = ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subprocess.run(["openssl", "req", "-x509", *kind, *names, *files], check=True, capture_output=True)
    return folder / "cert.pem"


@pytest.fixture
def port(certificate: Path) -> Iterator[int]:
    """The port of a server that speaks TLS, on a thread."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    loop, ports, ready, over = asyncio.new_event_loop(), [0], threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with await loop.create_server(Line, "127.0.0.1", 0, ssl=context) as server:
            ports[0] = server.sockets[0].getsockname()[1]
            ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait(10)
    yield ports[0]
    loop.call_soon_threadsafe(over.set)
    thread.join(10)
    loop.close()


def test_a_service_behind_tls_is_measured(certificate: Path, port: int) -> None:
    before = Line.counts.get("requests", 0)
    address = parse_address(f"https://127.0.0.1:{port}/plain", ca=certificate)
    result = measure(Subject(address=address, bodies=[b"{}"]), plan(connections=8, seconds=1.0), Heard())
    assert result.answered == result.due == 200
    assert Line.counts["requests"] - before == result.sent_in_all


def test_a_server_whose_authority_is_not_trusted_gets_no_request(port: int) -> None:
    before = Line.counts.get("requests", 0)
    subject = Subject(address=parse_address(f"https://127.0.0.1:{port}/plain"), bodies=[b"{}"])
    with pytest.raises(NotRunning, match="certificate"):
        measure(subject, plan(), Heard())
    assert Line.counts.get("requests", 0) == before
