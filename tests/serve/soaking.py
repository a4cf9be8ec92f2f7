"""A long run with faults in turn: what callers saw, how soon the service was whole again, and whether anything grew.

    python -m tests.serve.soaking --secs 600

The faults: a worker killed, a worker stopped, rows that the model fails on, a release loaded anew, a promotion.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from modelyard.serve.keep import control
from modelyard.serve.messages import Limits, Status
from tests.serve.bodies import AGES, ROW, write_body
from tests.serve.open_loop import Seen, ask
from tests.serve.running import Running, service, write_row

EVERY_S = 3.0
LIMITS = Limits(
    progress_timeout_s=0.4, idle_check_s=0.5, grace_s=10.0, queue_rows=4096
)  # a deadline of one second, so that what hangs can be answered by another worker in time
BAD = {**ROW, "age": AGES + 1000}  # beyond the graph's table


class Fault(msgspec.Struct, kw_only=True):
    """One thing that was done to the service."""

    kind: str
    at_s: float
    first_s: float = 0.0  # how long the first caller after it waited
    whole_after_s: float | None = None  # until a plain answer came; None: it never did


class Told(msgspec.Struct, kw_only=True):
    """What came of a run."""

    secs: float
    rate: float
    capacity: float
    requests: int
    answers: dict[str, int]
    reasons: dict[str, int]
    lost: int
    served: float  # share, degraded answers included
    plain: float  # share, without them
    p50_ms: float
    p99_ms: float
    worst_ms: float
    faults: list[Fault]
    pss_mb: list[float]  # of all processes, early and late
    files: list[int]  # open, early and late


def soak(folder: Path, *, secs: float, share: float = 0.5, said: Callable[[str], None] = lambda _: None) -> Told:
    """Run a service for `secs` at a share of its capacity, with a fault every few seconds."""
    bodies = {name: (folder / name, write_body(folder / name, shift=shift)) for name, shift in _RELEASES.items()}
    with service(folder / "run", bodies, limits=LIMITS, keep_warm_s=5.0) as running:
        running.wait_ready()
        capacity = _capacity(running.port)
        said(f"capacity {capacity:.0f}/s")
        seen: list[Seen] = []
        asking = threading.Thread(
            target=lambda: seen.append(ask(running.port, {"rows": [ROW]}, rate=share * capacity, secs=secs)),
            daemon=True,
        )
        asking.start()
        faults: list[Fault] = []
        sizes: list[tuple[float, int]] = []
        began = time.monotonic()
        for act in _acts(running):
            time.sleep(EVERY_S)
            at = time.monotonic() - began
            if at > secs - 2 * EVERY_S:
                break
            if not sizes and at > min(60.0, secs / 4):
                sizes.append(_size(running.status()))
            faults.append(_do(running, act, at))
            said(f"{at:6.1f} s {faults[-1].kind}: whole after {faults[-1].whole_after_s}")
        running.wait_ready()
        time.sleep(EVERY_S)
        sizes.append(_size(running.status()))
        asking.join(secs + 60)
        return _told(seen[0], secs, share * capacity, capacity, faults, sizes)


_RELEASES = {"income@1": 0.0, "income@2": 0.5}


def _capacity(port: int) -> float:
    """Return the answers a second that callers get who never wait."""
    seen = ask(port, {"rows": [ROW]}, rate=1e6, secs=3.0, connections=64)
    return seen.answers["200"] / 3.0


def _acts(running: Running) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield the faults in turn, for ever."""
    epochs = itertools.count(running.status().routes.traffic.epoch + 1)
    releases = itertools.cycle(reversed(_RELEASES))

    def promote() -> None:
        write_row(running.folder, {next(releases): 1.0}, epoch=next(epochs))
        assert control.poke(running.folder, "reload").ok

    def reload() -> None:
        live = next(iter(running.status().routes.traffic.shares))
        write_row(running.folder, {live: 1.0}, epoch=next(epochs))
        assert control.poke(running.folder, "reload").ok

    def bad_batch() -> None:
        replies = [running.predict(ROW, BAD, ROW) for _ in range(5)]
        assert {reply.status for reply in replies} <= {200, 500, 503}

    while True:
        yield "kill", lambda: _signal(running, signal.SIGKILL)
        yield "hang", lambda: _signal(running, signal.SIGSTOP)
        yield "reload", reload
        yield "bad batch", bad_batch
        yield "promotion", promote


def _signal(running: Running, number: signal.Signals) -> None:
    live = next(iter(running.status().routes.traffic.shares))
    for child in running.status().run.children:
        if child.name == f"{live}.0":
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, number)


def _do(running: Running, act: tuple[str, Callable[[], None]], at: float) -> Fault:
    """Do one thing, and ask until a plain answer comes."""
    kind, deed = act
    began = time.monotonic()
    deed()
    fault = Fault(kind=kind, at_s=round(at, 1))
    deadline = began + 20.0
    while fault.whole_after_s is None and time.monotonic() < deadline:
        reply = running.predict(ROW)
        fault.first_s = fault.first_s or round(reply.seconds, 3)
        if reply.status == 200 and "x-degraded" not in reply.headers:
            fault.whole_after_s = round(time.monotonic() - began, 3)
        else:
            time.sleep(0.01)
    return fault


def _size(status: Status) -> tuple[float, int]:
    """Return the memory in MB and the open files of the supervisor, the fronts and the live worker.

    Memory of their own only: what they share with others counts for less while a program elsewhere shares it too.
    """
    live = next(iter(status.routes.traffic.shares))
    pids = [status.run.pid] + [
        child.pid for child in status.run.children if child.kind == "front" or child.name.startswith(live)
    ]
    memory, files = 0.0, 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        memory += sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024
        files += len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return round(memory, 1), files


def _told(
    seen: Seen, secs: float, rate: float, capacity: float, faults: list[Fault], sizes: list[tuple[float, int]]
) -> Told:
    return Told(
        secs=secs,
        rate=round(rate, 1),
        capacity=round(capacity, 1),
        requests=seen.answered + len(seen.lost),
        answers=dict(seen.answers),
        reasons=dict(seen.reasons),
        lost=len(seen.lost),
        served=seen.share("200", "200 degraded"),
        plain=seen.share("200"),
        p50_ms=round(seen.quantile_ms(0.5), 2),
        p99_ms=round(seen.quantile_ms(0.99), 2),
        worst_ms=round(seen.quantile_ms(1.0), 1),
        faults=faults,
        pss_mb=[memory for memory, _ in sizes],
        files=[files for _, files in sizes],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--secs", type=float, default=600.0)
    args = parser.parse_args()

    def said(line: str) -> None:
        sys.stderr.write(line + "\n")

    with tempfile.TemporaryDirectory() as folder:
        told: Any = msgspec.to_builtins(soak(Path(folder), secs=args.secs, said=said))
    sys.stdout.write(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
