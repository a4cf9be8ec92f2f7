"""The process that callers talk to: one event loop with the doors, and a line to the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import secrets
import signal
import socket
from pathlib import Path
from typing import Protocol

import msgspec
import uvloop

from modelyard.core.clock import Clock
from modelyard.serve.desk import Desk
from modelyard.serve.grpc.service import GrpcService
from modelyard.serve.guard.keys import Keys
from modelyard.serve.guard.tls import server_context
from modelyard.serve.http.listener import Listener
from modelyard.serve.keep.handover import Offer
from modelyard.serve.keep.prompt import be_prompt
from modelyard.serve.messages import CONTROL_SOCKET, TRAFFIC_FILE, FrontHello, FrontJob, FrontReport, Push, Routes
from modelyard.serve.pause import pause
from modelyard.serve.room import make_room
from modelyard.serve.told.board import open_board
from modelyard.serve.told.collector import Collector
from modelyard.serve.told.keeping import Keeping
from modelyard.serve.told.ledger import Ledger
from modelyard.serve.told.log import Log
from modelyard.serve.told.metrics import Metrics
from modelyard.serve.told.tracer import TRACES_FILE, Tracer
from modelyard.serve.wire import connect_to

REPORT_S = 0.2
SWEEP_S = 1.0
FOLLOW_S = 0.25  # between looks at the local copy while the supervisor is gone

_ENCODER = msgspec.json.Encoder()


class Listening(Protocol):
    """A transport: HTTP or gRPC."""

    @property
    def open_connections(self) -> int: ...

    async def start(self, sock: socket.socket) -> None: ...

    def sweep(self) -> None: ...

    async def drain(self, grace_s: float, *, is_last: bool = True) -> int: ...


def front(job: FrontJob, *, clock: Clock, version: str) -> None:
    """Answer requests on the inherited socket until SIGTERM, then drain."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Front(job, clock=clock, version=version).run())


class Front:
    """Wires the desk to the listening socket and to the supervisor."""

    def __init__(self, job: FrontJob, *, clock: Clock, version: str) -> None:
        self.job = job
        self.folder = Path(job.run_folder)
        limits = job.limits
        log_file = self.folder / f"{job.name}.log"
        self.log = Log(log_file, most_bytes=limits.log_bytes, sample_per_s=job.log_sample_per_s)
        self.tracer = Tracer(
            service=job.service,
            version=version,
            process=job.name,
            clock=clock,
            path=self.folder / f"{job.name}.{TRACES_FILE}",
            most_bytes=limits.log_bytes,
            sample=job.trace_sample,
            collector=None if job.otlp_endpoint is None else Collector(job.otlp_endpoint),
        )
        self.log.also(self.tracer.flush)
        self.keys = (
            None
            if job.keys_file is None
            else Keys(Path(job.keys_file), sharers=job.fronts, guards_pages=job.guards_pages)
        )
        self.desk = Desk(
            service=job.service,
            run_folder=self.folder,
            alias=job.alias,
            workers=job.workers,
            limits=limits,
            version=version,
            clock=clock,
            log=self.log,
            metrics=Metrics(open_board(self.folder / f"{job.name}.board"), version=version),
            tracer=self.tracer,
            keys=self.keys,
            pin_versions=job.pin_versions,
            trace_sample=job.trace_sample,
        )
        self._keeping = Keeping(lambda: Ledger(self.folder, job.name), clock)
        self.desk.arms.sinks.append(self._keeping)
        self._listener: Listening
        self._seen = 0  # the local copy's time of change, in nanoseconds
        self._stop = asyncio.Event()
        self._report_soon = asyncio.Event()
        self.desk.on_news = self._report_soon.set

    async def run(self) -> None:
        """Serve until told to stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        self._listener = self._listen(loop)
        self.desk.start(loop)
        self.desk.adopt(self.job.routes)
        sock = socket.socket(fileno=self.job.listen_fd)
        sock.setblocking(False)
        await self._listener.start(sock)
        offer = Offer(self.folder, self.job.name, sock, loop)
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)  # requests leave no cycles; frequent full walks would show as slow replies
        self.desk.note("serving", prompt=be_prompt())
        tasks = [loop.create_task(self._follow()), loop.create_task(self._sweep())]
        await self._stop.wait()
        self.desk.draining = True
        self._report_soon.set()
        offer.close()
        cut = await self._listener.drain(self.job.limits.grace_s, is_last=not offer.taken)
        self.desk.note("drained", cut=cut)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.desk.measure()
        self.desk.close()
        self._keeping.close()
        self.log.close()
        self.tracer.close()

    def _listen(self, loop: asyncio.AbstractEventLoop) -> Listening:
        job, metrics = self.job, self.desk.metrics
        if job.doors == "grpc":
            return GrpcService(self.desk, trace_sample=job.trace_sample).listener(
                loop=loop,
                prefix=secrets.token_hex(4),
                tls=server_context(job.tls_cert, job.tls_key),
                on_refusal=lambda code: metrics.requests.add("", "", str(int(code))),
            )
        return Listener(
            loop=loop,
            handle=self.desk.handle,
            most_body_bytes=job.limits.most_body_bytes,
            prefix=secrets.token_hex(4),
            on_refusal=lambda code: metrics.requests.add("", "", str(int(code))),
            tls=server_context(job.tls_cert, job.tls_key),
            most_connections=make_room(),
        )

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self._listener.sweep()
            metrics = self.desk.metrics
            metrics.connections.put(value=self._listener.open_connections)
            metrics.see(self.job.name, os.getpid())
            metrics.follow(metrics.trace_drops, self.tracer.dropped)
            metrics.follow(metrics.answer_drops, self._keeping.dropped)
            if self.tracer.collector is not None:
                metrics.follow(metrics.trace_unsent, self.tracer.collector.unsent)
            self.desk.measure()
            if self.keys is not None:
                fault = self.keys.fault
                self.keys.refresh()
                if self.keys.fault not in ("", fault):
                    self.desk.note("keys_unreadable", why=self.keys.fault)

    async def _follow(self) -> None:
        """Stay connected to the supervisor; while it is gone, follow the local copy of the traffic table."""
        while True:
            try:
                sock = connect_to(self.folder, CONTROL_SOCKET, timeout_s=1.0)
                sock.setblocking(False)
                reader, writer = await asyncio.open_unix_connection(sock=sock, limit=1024 * 1024)
                if writer.transport.is_closing():
                    sock.detach()  # uvloop closes what it describes, as in `serve.link`
            except OSError:
                self._read_copy()
                await asyncio.sleep(FOLLOW_S)
                continue
            reporting = asyncio.get_running_loop().create_task(self._report(writer))
            try:
                await self._hear(reader)
            finally:
                reporting.cancel()
                writer.close()

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        """Take what the supervisor pushes until it is gone."""
        with contextlib.suppress(OSError, ValueError, msgspec.MsgspecError):
            while line := await reader.readline():
                self.desk.adopt(msgspec.json.decode(line, type=Push).routes)
                self._report_soon.set()

    async def _report(self, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(_ENCODER.encode(FrontHello(pid=os.getpid())) + b"\n")
            while True:
                self._report_soon.clear()
                await asyncio.sleep(0)  # where this loop stood still, a worker that spoke meanwhile is not called late
                self.desk.switch_if_ready()
                self.desk.measure()
                writer.write(_ENCODER.encode(self._state()) + b"\n")
                await writer.drain()
                await pause(self._report_soon, REPORT_S)

    def _state(self) -> FrontReport:
        desk = self.desk
        counts = desk.teller.counts
        return FrontReport(
            pid=os.getpid(),
            name=self.job.name,
            epoch=desk.epoch,
            ready=desk.ready,
            requests=sum(count.requests for count in counts.values()),
            degraded=sum(count.degraded for count in counts.values()),
            workers=desk.mirror.states(
                {name: state for lane in desk.lanes.values() for name, state in lane.states.items()}
            ),
            suspects=desk.suspects,
            releases=counts,
        )

    def _read_copy(self) -> None:
        path = self.folder / TRAFFIC_FILE
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            changed = path.stat().st_mtime_ns
            if changed != self._seen:
                self._seen = changed
                self.desk.adopt(msgspec.json.decode(path.read_bytes(), type=Routes))
        self.desk.switch_if_ready()
