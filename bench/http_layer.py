"""One desk behind several HTTP layers: what each costs, measured in turn on the same worker.

    python bench/http_layer.py --body x.v2.json --home HOME [--conns 1,64,256] [--secs 4] [--rounds 3]
                                [--only thin,bare]

Layers: `thin` (serve/http, as the service runs it), `bare` (the same without metrics, log, traces and contract
check: what these cost together), `asgi` (uvicorn with httptools and uvloop, no framework), `starlette` (a route on
uvicorn), `granian` (its own interface, RSGI). The last three need their library in the environment; `wrk` loads.
HOME is a store with a release `tabular@1`, as bench/service_models.py seals it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

from modelyard.bundle.intake import Packed
from modelyard.bundle.open import read_body
from modelyard.core.clock import SystemClock
from modelyard.core.codec import encode
from modelyard.core.release import Traffic
from modelyard.serve.desk import Desk
from modelyard.serve.doors import refusal
from modelyard.serve.http.listener import Listener
from modelyard.serve.keep.processes import listen
from modelyard.serve.messages import BodyRef, Limits, Routes, WorkerJob
from modelyard.serve.request import FRONT, JSON, Code, Request
from modelyard.serve.told.board import Board
from modelyard.serve.told.log import Log
from modelyard.serve.told.metrics import Metrics
from modelyard.serve.told.tracer import Tracer
from modelyard.serve.v2.tensors import Tensors

LAYERS = ("thin", "bare", "asgi", "starlette", "granian")
RELEASE = "tabular@1"
LUA = """wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local f = assert(io.open(os.getenv("BODY_FILE"), "rb")); wrk.body = f:read("*a"); f:close()
function done(s, l, r)
  io.write(string.format('{"rps":%.1f,"p50":%.3f,"p99":%.3f,"errors":%d}\\n', s.requests / s.duration * 1e6,
    l:percentile(50) / 1e3, l:percentile(99) / 1e3, s.errors.connect + s.errors.read + s.errors.write
    + s.errors.timeout + s.errors.status))
end
"""


class Awaited(Request):
    """A request whose reply a coroutine waits for, as frameworks want it."""

    __slots__ = ("reply",)

    def answer(
        self,
        body: bytes,
        *,
        code: Code = Code.OK,
        kind: bytes = JSON,
        served_by: bytes = FRONT,
        degraded: bytes | None = None,
        extra: bytes = b"",
    ) -> None:
        self.sent = True
        headers = [
            (b"content-type", kind),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", self.id.encode()),
            (b"x-served-by", served_by),
        ]
        self.reply.set_result((int(code), headers, body))

    def refuse(
        self,
        code: Code,
        message: str,
        *,
        served_by: bytes = FRONT,
        faults: Sequence[str] = (),
        retry_after_s: int | None = None,
        extra: bytes = b"",
    ) -> None:
        self.answer(refusal(message, self.id, faults), code=code, served_by=served_by)


class Asker:
    """The desk for a framework."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.count = desk, 0

    async def __call__(self, method: bytes, path: bytes, headers: dict[bytes, bytes], body: bytes) -> Any:
        self.count += 1
        request = Awaited(
            method=method, path=path, headers=headers, body=body, id=f"x-{self.count:x}", arrived=time.monotonic()
        )
        request.reply = asyncio.get_running_loop().create_future()
        self.desk.handle(request)
        return await request.reply


def make_desk(run: Path, body: Path, *, bare: bool = False) -> Desk:
    """Return the desk of a front that measures, logs and traces as the service does; or does none of it."""
    log = None if bare else Log(run / "front.log", most_bytes=10_000_000)
    tracer = None if bare else Tracer(
        service="tabular", version="bench", process="front.0", clock=SystemClock(), path=run / "traces.jsonl",
        most_bytes=10_000_000, sample=0.01,
    )  # fmt: skip
    if log is not None and tracer is not None:
        log.also(tracer.flush)
    desk = Desk(
        service="tabular",
        run_folder=run,
        alias=None,
        workers=1,
        limits=Limits(),
        version="bench",
        clock=SystemClock(),
        log=log,
        metrics=Metrics(Board(run / "front.board")),
        tracer=tracer,
    )
    if bare:
        unmeasured(desk)
    desk.start(asyncio.get_running_loop())
    ref = BodyRef(folder=str(body), digest=read_body(body).digest)
    desk.adopt(Routes(traffic=Traffic(epoch=0, shares={RELEASE: 1.0}), bodies={RELEASE: ref}))
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    return desk


def unmeasured(desk: Desk) -> None:
    """Take counting and the contract check out of a desk: what is sent is packed as it came."""

    def lone(self: Tensors, name: str, datatype: str, shape: list[int], found: list[Any]) -> Packed:
        return Packed(b"", [], [self.only.lone_pack(*found)])

    Tensors.lone = lone
    desk.good = lambda call: None
    desk.answered = lambda lane, batch, frame, took_s: None
    desk.encoded = lambda lane, each_s: None


async def thin(run: Path, body: Path, port: int, *, bare: bool = False) -> None:
    desk = make_desk(run, body, bare=bare)
    listener = Listener(loop=asyncio.get_running_loop(), handle=desk.handle, most_body_bytes=16_000_000, prefix="x")
    sock = listen("127.0.0.1", port)
    sock.setblocking(False)
    await listener.start(sock)
    await asyncio.Event().wait()


def asgi_app(run: Path, body: Path, *, framework: bool) -> Any:
    """Return an ASGI application around a desk that is made when it starts."""
    made: list[Asker] = []

    if framework:
        from starlette.applications import Starlette
        from starlette.requests import Request as Came
        from starlette.responses import Response
        from starlette.routing import Route

        async def endpoint(came: Came) -> Response:
            status, headers, reply = await made[0](
                b"POST", came.url.path.encode(), dict(came.headers.raw), await came.body()
            )
            named = {name.decode(): value.decode() for name, value in headers[2:]}
            return Response(reply, status_code=status, media_type="application/json", headers=named)

        @contextlib.asynccontextmanager
        async def lifespan(_: Any) -> AsyncIterator[None]:
            made.append(Asker(make_desk(run, body)))
            yield

        routes = [Route("/v2/models/{name}/infer", endpoint, methods=["POST"])]
        return Starlette(routes=routes, lifespan=lifespan)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            made.append(Asker(make_desk(run, body)))
            await send({"type": "lifespan.startup.complete"})
            return
        message = await receive()
        data = message["body"]
        while message.get("more_body"):
            message = await receive()
            data += message["body"]
        status, headers, reply = await made[0](b"POST", scope["raw_path"], dict(scope["headers"]), data)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": reply})

    return app


def rsgi_app(run: Path, body: Path) -> Any:
    made: list[Asker] = []

    class App:
        def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
            async def make() -> None:
                made.append(Asker(make_desk(run, body)))

            loop.create_task(make())

        async def __rsgi__(self, scope: Any, protocol: Any) -> None:
            data = await protocol()
            headers = {name.encode(): value.encode() for name, value in scope.headers.items()}
            status, fields, reply = await made[0](b"POST", scope.path.encode(), headers, data)
            protocol.response_bytes(status, [(name.decode(), value.decode()) for name, value in fields], reply)

    return App()


def serve(layer: str, run: Path, body: Path, port: int) -> None:
    """Run one layer in this process."""
    import uvloop

    if layer in ("thin", "bare"):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(thin(run, body, port, bare=layer == "bare"))
    elif layer == "granian":
        from granian.server.embed import Server

        server = Server(rsgi_app(run, body), address="127.0.0.1", port=port)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(server.serve())
    else:
        import uvicorn

        app = asgi_app(run, body, framework=layer == "starlette")
        uvicorn.run(
            app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", log_level="warning", access_log=False
        )


@contextlib.contextmanager
def running(layer: str, home: Path, port: int) -> Iterator[int]:
    """Start a worker and a layer over it; yield the layer's process."""
    body = next(
        path.parent for path in (home / "bodies").glob("**/manifest.json")
        if json.loads(path.read_bytes())["name"] == "tabular"
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as run:
        ref = BodyRef(folder=str(body), digest=read_body(body).digest)
        worker = subprocess.Popen([sys.executable, "-m", "modelyard.app", "worker"], stdin=subprocess.PIPE)
        assert worker.stdin is not None
        worker.stdin.write(encode(WorkerJob(release=RELEASE, slot=0, body=ref, run_folder=run)))
        worker.stdin.close()
        server = subprocess.Popen(
            [sys.executable, __file__, "--layer", layer, "--run", run, "--of", str(body), "--port", str(port)]
        )
        try:
            yield server.pid
        finally:
            for process in (server, worker):
                process.send_signal(signal.SIGKILL)
                process.wait()


def load(body: Path, port: int, conns: int, secs: float, lua: Path) -> dict[str, float]:
    """Load a layer in a closed loop."""
    url = f"http://127.0.0.1:{port}/v2/models/tabular/infer"
    done = subprocess.run(
        ["wrk", "-t1", f"-c{conns}", f"-d{secs:g}s", "-s", str(lua), url],
        env={**os.environ, "BODY_FILE": str(body)},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def compare(args: argparse.Namespace) -> None:
    results: dict[tuple[str, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as made:
        lua = Path(made) / "post.lua"
        lua.write_text(LUA)
        for turn in range(args.rounds):
            for place, layer in enumerate(args.only.split(",")):
                port = 21000 + 10 * turn + place
                with running(layer, args.home, port):
                    time.sleep(2.0)
                    load(args.body, port, 16, 1, lua)
                    for conns in map(int, args.conns.split(",")):
                        results.setdefault((layer, conns), []).append(load(args.body, port, conns, args.secs, lua))
    print("| layer | connections | requests/s | p50 ms | p99 ms | spread | errors |\n|---|---|---|---|---|---|---|")
    for (layer, conns), found in results.items():
        rates = [one["rps"] for one in found]
        middle = {key: statistics.median(one[key] for one in found) for key in ("p50", "p99")}
        rate = statistics.median(rates)
        print(
            f"| {layer} | {conns} | {rate:,.0f} | {middle['p50']:.2f} | {middle['p99']:.2f} "
            f"| {(max(rates) - min(rates)) / rate:.0%} | {sum(one['errors'] for one in found):.0f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--body", type=Path)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--conns", default="1,64,256")
    parser.add_argument("--secs", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(LAYERS))
    parser.add_argument("--layer", choices=LAYERS, help="serve one layer in this process")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--of", type=Path)
    parser.add_argument("--port", type=int, default=0)
    args = parser.parse_args()
    if args.layer:
        serve(args.layer, args.run, args.of, args.port)
    else:
        compare(args)


if __name__ == "__main__":
    main()
