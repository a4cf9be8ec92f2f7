"""A process killed at any moment leaves a store that opens, verifies and goes on."""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path

from modelyard.core.clock import SystemClock
from modelyard.core.ids import ReleaseId
from modelyard.store.open import Store
from tests.store.making import ended, fork, make_body, make_evidence, open_here

KILLS = 30


def busy(store: Store, bodies: Path, life: int, report: int) -> None:
    """Keep, seal, append and log without end, saying on `report` what is done."""
    run = store.runs.begin("income", "s")
    for turn in range(10_000):
        key = f"{life}-{turn}"

        def build(folder: Path, key: str = key) -> None:
            for part in range(4):
                (folder / f"part{part}").write_bytes(key.encode() * 5000)

        with store.audit.change("turn", resources=[key], rollback_available=True):
            store.stages.keep(key, build)
            os.write(report, f"stage {key}\n".encode())
            store.runs.append(run, "turn", turn, key.encode())
            os.write(report, f"record {run} {turn}\n".encode())
            digest = make_body(bodies / key, {"graph.onnx": key.encode() * 20_000})
            release = store.releases.seal("income", bodies / key, [make_evidence(digest)], headline="", spec_digest="")
            os.write(report, f"release {release.id.number}\n".encode())
            store.gc.collect(keep_newest=5, now=SystemClock().now())


def live_and_die(home: Path, bodies: Path, life: int, words: int, delay_s: float) -> list[list[str]]:
    """Run `busy` in a process, kill it a while after it said so many words, and return all it said."""
    reader, writer = os.pipe()
    pid = fork(lambda: busy(open_here(home), bodies, life, writer))
    os.close(writer)
    with os.fdopen(reader, "rb") as said:
        first = b"".join(said.readline() for _ in range(words))
        threading.Timer(delay_s, os.kill, (pid, signal.SIGKILL)).start()
        lines = (first + said.read()).decode().splitlines()
    assert ended(pid) == -9
    return [line.split() for line in lines]


def check(store: Store, said: list[list[str]]) -> None:
    """What was said to be done is there and whole; what is there is whole."""
    assert store.audit.verify() == []
    assert [entry for entry in store.audit.entries() if entry["operation"] == "stage.discard"] == []
    releases = store.releases.all("income")
    assert [release.id.number for release in releases] == list(range(1, len(releases) + 1))
    for release in releases[-8:]:
        assert len(store.releases.evidence(release.id)) == 1
        if release.collected is None:
            store.releases.body(release.id)
    for what in said:
        match what:
            case ["stage", key]:
                assert store.stages.find(key) is not None
            case ["record", run, turn]:
                assert store.runs.records(run, "turn")[int(turn)]
            case ["release", number]:
                assert store.releases.get(ReleaseId(name="income", number=int(number)))


def test_kills_at_random_moments_lose_nothing_that_was_done(home: Path, tmp_path: Path) -> None:
    open_here(home).close()
    chance, heard = random.Random(20260102), 0
    for life in range(KILLS):
        said = live_and_die(home, tmp_path / "bodies", life, chance.randrange(7), chance.uniform(0.0, 0.03))
        heard += len(said)
        store = open_here(home)
        check(store, said)
        store.close()
    assert heard >= KILLS
