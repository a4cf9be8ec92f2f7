"""The supervisor's control socket: commands from the command line, reports from the front, routes to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable
from typing import Protocol

import msgspec

from modelyard.errors import ModelyardError
from modelyard.serve.messages import (
    AskStatus,
    Cool,
    Done,
    Follow,
    FrontHello,
    FrontReport,
    Line,
    Poke,
    Push,
    Status,
    Stop,
    Warm,
)

_DECODER: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)
_ENCODER = msgspec.json.Encoder()


class Governing(Protocol):
    """Whom the switchboard asks; the supervisor."""

    def push(self) -> Push: ...

    def heard(self, report: FrontReport) -> None: ...

    def status(self) -> Status: ...

    async def reload(self) -> str: ...

    async def follow(self) -> str: ...

    async def warm(self, release: str) -> str: ...

    async def cool(self, release: str) -> str: ...

    def stop(self) -> None: ...


class Switchboard:
    """JSON lines both ways. The socket's file is this user's alone."""

    def __init__(self, governing: Governing) -> None:
        self._governing = governing
        self._fronts: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self, sock: socket.socket) -> None:
        """Take connections from a listening Unix socket."""
        sock.setblocking(False)
        self._server = await asyncio.start_unix_server(self._talk, sock=sock, limit=1024 * 1024)

    def push(self) -> None:
        """Send every front the routes."""
        line = _ENCODER.encode(self._governing.push()) + b"\n"
        for writer in self._fronts:
            writer.write(line)

    async def close(self) -> None:
        """Take no more connections."""
        for writer in self._fronts:
            writer.close()
        if self._server is not None:
            self._server.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, ValueError):
                while text := await reader.readline():
                    reply = await self._answer(text, writer)
                    if reply is not None:
                        writer.write(_ENCODER.encode(reply) + b"\n")
                        await writer.drain()
        finally:
            self._fronts.discard(writer)
            writer.close()

    async def _answer(self, text: bytes, writer: asyncio.StreamWriter) -> Status | Done | None:
        try:
            line = _DECODER.decode(text)
        except msgspec.MsgspecError as fault:
            return Done(ok=False, detail=f"Not a command: {fault}. Known: reload, follow, warm, cool, stop, status.")
        match line:
            case FrontReport():
                self._governing.heard(line)
                return None
            case FrontHello():
                self._fronts.add(writer)
                writer.write(_ENCODER.encode(self._governing.push()) + b"\n")
                return None
            case AskStatus():
                return self._governing.status()
            case Stop():
                self._governing.stop()
                return Done(ok=True, detail="Draining.")
            case Poke():
                return await _done(self._governing.reload())
            case Follow():
                return await _done(self._governing.follow())
            case Warm(release=release):
                return await _done(self._governing.warm(release))
            case Cool(release=release):
                return await _done(self._governing.cool(release))


async def _done(change: Awaitable[str]) -> Done:
    try:
        return Done(ok=True, detail=await change)
    except ModelyardError as fault:
        return Done(ok=False, detail=str(fault))
