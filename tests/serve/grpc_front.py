"""A front with the gRPC door in this process, over a desk and a worker process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from modelyard.core.clock import SystemClock
from modelyard.core.codec import encode
from modelyard.core.release import Traffic
from modelyard.serve.desk import Desk
from modelyard.serve.grpc.call import GrpcRequest
from modelyard.serve.grpc.service import GrpcService
from modelyard.serve.guard.keys import Keys
from modelyard.serve.messages import BodyRef, Limits, Routes, WorkerJob
from modelyard.serve.request import Code

T = TypeVar("T")

START_S = 30.0


class GrpcFront:
    """Serves `income@1` from a body until it is stopped."""

    def __init__(
        self,
        folder: Path,
        body: tuple[Path, str],
        *,
        limits: Limits | None = None,
        keys: Keys | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.folder, self.keys, self.tls = folder, keys, tls
        self.limits = limits or Limits()
        self.refused: list[Code] = []
        self.handled = 0
        self.ref = BodyRef(folder=str(body[0]), digest=body[1])
        self.loop = asyncio.new_event_loop()
        self._sock = socket.create_server(("127.0.0.1", 0))
        self._sock.setblocking(False)
        self.address = f"127.0.0.1:{self._sock.getsockname()[1]}"
        self._up = threading.Event()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Serve, and wait until the golden requests were answered."""
        job = WorkerJob(release="income@1", slot=0, body=self.ref, run_folder=str(self.folder))
        self.worker = subprocess.Popen([sys.executable, "-m", "modelyard.app", "worker"], stdin=subprocess.PIPE)
        assert self.worker.stdin is not None
        self.worker.stdin.write(encode(job))
        self.worker.stdin.close()
        self._thread.start()
        assert self._up.wait(START_S), "the front did not become ready"

    def stop(self) -> None:
        """End everything."""
        self.do(self._end.set)
        self._thread.join(START_S)
        self.worker.kill()
        self.worker.wait()

    def do(self, call: Callable[[], T]) -> T:
        """Run something on the front's thread and return what it gives."""

        async def run() -> T:
            return call()

        return self.wait(run())

    def wait(self, coroutine: Awaitable[T]) -> T:
        """Run a coroutine on the front's thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(START_S)  # type: ignore[arg-type]

    def drain(self, grace_s: float = 5.0) -> int:
        """Drain as a front does on SIGTERM; return how many connections were cut."""

        async def run() -> int:
            self.desk.draining = True
            return await self.listener.drain(grace_s)

        return self.wait(run())

    def _handle(self, request: GrpcRequest) -> None:
        self.handled += 1
        self.service.handle(request)

    def _run(self) -> None:
        self.loop.run_until_complete(self._serve())
        self.loop.close()

    async def _serve(self) -> None:
        self.desk = Desk(
            service="income",
            run_folder=self.folder,
            alias=None,
            workers=1,
            limits=self.limits,
            version="test",
            clock=SystemClock(),
            keys=self.keys,
        )
        self.service = GrpcService(self.desk)
        self.listener = self.service.listener(loop=self.loop, prefix="t", on_refusal=self.refused.append, tls=self.tls)
        self.listener.handle = self._handle
        self.desk.start(self.loop)
        self.desk.adopt(Routes(traffic=Traffic(epoch=1, shares={"income@1": 1.0}), bodies={"income@1": self.ref}))
        await self.listener.start(self._sock)
        while not self.desk.ready:
            await asyncio.sleep(0.01)
        self._up.set()
        await self._end.wait()
        await self.listener.drain(0.0)
        self.desk.close()
        await asyncio.sleep(0)
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def grpc_front(folder: Path, body: tuple[Path, str], **options: Any) -> Iterator[GrpcFront]:
    """Serve a body while the context lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    front = GrpcFront(folder, body, **options)
    front.start()
    try:
        yield front
    finally:
        front.stop()
