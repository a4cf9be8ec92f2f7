"""What is noted of a worker that is gone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

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
