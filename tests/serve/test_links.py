"""What is noted of a worker that is gone."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import cast

import pytest

from modelyard.serve.link import Link
from modelyard.serve.messages import worker_name
from modelyard.serve.wire import listen_at
from tests.serve.callers import until
from tests.serve.scripted import Bodies, Stage, run, stage

RELEASE = "income@1"


def test_a_worker_that_is_lost_is_noted_once_however_often_it_closes_on_who_comes_back(
    bodies: Bodies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with stage(tmp_path / "run", bodies) as played:
            lost: list[object] = []
            monkeypatch.setattr(
                played.desk, "note", lambda event, **facts: lost.append(facts) if event == "worker_lost" else None
            )
            played.workers[worker_name(RELEASE, 0)].stop()
            await close_on(played, times=3)
            await played.worker(RELEASE)
            await until(lambda: played.desk.lanes[RELEASE].ready, timeout_s=20.0)
            assert len(lost) == 1
            played.workers[worker_name(RELEASE, 0)].crash()
            await until(lambda: len(lost) == 2)

    run(main())


def test_a_link_that_is_lost_as_it_is_made_closes_nothing_of_others(
    bodies: Bodies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    made, lost = Link.connection_made, Link.connection_lost

    def abort_first(link: Link, transport: asyncio.BaseTransport) -> None:
        made(link, transport)
        if len(taken) < 3:
            cast(asyncio.Transport, transport).abort()

    def open_one(link: Link, exc: Exception | None) -> None:
        lost(link, exc)
        if len(taken) < 3:
            taken.append(os.open(os.devnull, os.O_RDONLY))  # has the number that was just given back

    monkeypatch.setattr(Link, "connection_made", abort_first)
    monkeypatch.setattr(Link, "connection_lost", open_one)

    async def main() -> None:
        async with stage(tmp_path / "run", bodies) as played:
            await until(lambda: len(taken) == 3 and played.desk.lanes[RELEASE].ready)
            await asyncio.sleep(0)
            for one in taken:
                os.fstat(one)
                os.close(one)

    run(main())


async def close_on(played: Stage, *, times: int) -> None:
    """Take connections in a worker's place and close them at once, as one does whose process is ending."""
    closed: list[asyncio.StreamWriter] = []

    def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        closed.append(writer)
        writer.transport.abort()

    sock = listen_at(played.folder, worker_name(RELEASE, 0))
    sock.setblocking(False)
    server = await asyncio.start_unix_server(close, sock=sock)
    await until(lambda: len(closed) >= times)
    server.close()
    (played.folder / worker_name(RELEASE, 0)).unlink()
