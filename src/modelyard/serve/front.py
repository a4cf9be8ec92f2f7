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

import msgspec
import uvloop

from modelyard.core.clock import Clock
from modelyard.serve.desk import Desk
from modelyard.serve.http import Listener
from modelyard.serve.log import Log
from modelyard.serve.messages import (
    CONTROL_SOCKET,
    LOG_FILE,
    TRAFFIC_FILE,
    FrontHello,
    FrontJob,
    FrontReport,
    Push,
    Routes,
)
from modelyard.serve.wire import connect_to

REPORT_S = 0.2
SWEEP_S = 1.0
FOLLOW_S = 0.25  # between looks at the local copy while the supervisor is gone

_ENCODER = msgspec.json.Encoder()


def front(job: FrontJob, *, clock: Clock, version: str) -> None:
    """Answer requests on the inherited socket until SIGTERM, then drain."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Front(job, clock=clock, version=version).run())


class Front:
    """Wires the desk to the listening socket and to the supervisor."""

    def __init__(self, job: FrontJob, *, clock: Clock, version: str) -> None:
        self.job = job
        self.folder = Path(job.run_folder)
        self.log = Log(self.folder / LOG_FILE, most_bytes=job.limits.log_bytes)
        self.desk = Desk(
            service=job.service,
            run_folder=self.folder,
            alias=job.alias,
            workers=job.workers,
            limits=job.limits,
            version=version,
            clock=clock,
            log=self.log,
        )
        self._seen = 0  # the local copy's time of change, in nanoseconds
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Serve until told to stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        metrics = self.desk.metrics
        listener = Listener(
            loop=loop,
            handle=self.desk.handle,
            most_body_bytes=self.job.limits.most_body_bytes,
            prefix=secrets.token_hex(4),
            on_refusal=lambda code: metrics.requests.add("", "", str(int(code))),
        )
        self.desk.start(loop)
        self.desk.adopt(self.job.routes)
        sock = socket.socket(fileno=self.job.listen_fd)
        sock.setblocking(False)
        await listener.start(sock)
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)  # requests leave no cycles; frequent full walks would show as slow replies
        tasks = [loop.create_task(self._follow()), loop.create_task(self._sweep(listener))]
        await self._stop.wait()
        self.desk.draining = True
        cut = await listener.drain(self.job.limits.grace_s)
        self.desk.note("drained", cut=cut)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.desk.close()
        self.log.close()

    async def _sweep(self, listener: Listener) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            listener.sweep()
            self.desk.metrics.connections.put(value=len(listener.connections))

    async def _follow(self) -> None:
        """Stay connected to the supervisor; while it is gone, follow the local copy of the traffic table."""
        while True:
            try:
                sock = connect_to(self.folder, CONTROL_SOCKET, timeout_s=1.0)
                sock.setblocking(False)
                reader, writer = await asyncio.open_unix_connection(sock=sock, limit=1024 * 1024)
            except OSError:
                self._read_copy()
                await asyncio.sleep(FOLLOW_S)
                continue
            reporting = asyncio.get_running_loop().create_task(self._report(writer))
            try:
                await self._listen(reader)
            finally:
                reporting.cancel()
                writer.close()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Take what the supervisor pushes until it is gone."""
        with contextlib.suppress(OSError, ValueError, msgspec.MsgspecError):
            while line := await reader.readline():
                push = msgspec.json.decode(line, type=Push)
                for release, count in push.restarts.items():
                    self.desk.metrics.restarts.put(release, value=count)
                self.desk.metrics.front_restarts.put(value=push.front_restarts)
                self.desk.adopt(push.routes)

    async def _report(self, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(_ENCODER.encode(FrontHello(pid=os.getpid())) + b"\n")
            while True:
                self.desk.switch_if_ready()
                writer.write(_ENCODER.encode(self._state()) + b"\n")
                await writer.drain()
                await asyncio.sleep(REPORT_S)

    def _state(self) -> FrontReport:
        metrics = self.desk.metrics
        return FrontReport(
            pid=os.getpid(),
            epoch=self.desk.epoch,
            ready=self.desk.ready,
            requests=int(metrics.requests.total),
            degraded=int(metrics.degraded.total),
            workers={name: state for lane in self.desk.lanes.values() for name, state in lane.states.items()},
        )

    def _read_copy(self) -> None:
        path = self.folder / TRAFFIC_FILE
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            changed = path.stat().st_mtime_ns
            if changed != self._seen:
                self._seen = changed
                self.desk.adopt(msgspec.json.decode(path.read_bytes(), type=Routes))
        self.desk.switch_if_ready()
