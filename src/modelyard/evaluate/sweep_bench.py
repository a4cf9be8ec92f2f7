"""The processes of a sweep as whoever asks sees them: started side by side, asked together, ended whatever happens."""

from __future__ import annotations

import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from modelyard.core.codec import decode, encode
from modelyard.core.ports import Spawn
from modelyard.errors import EngineFailed
from modelyard.evaluate.sweep_child import Arrivals, Opened, Round, Seen, SweepJob

LOAD_TIMEOUT_S = 120.0
HEAD_START_S = 0.002  # between asking and the moment at which all begin
PATIENCE_S = 10.0  # beyond the time that an answer was expected in

T = TypeVar("T")


class Bench:
    """Processes with the body open. One thread at a time; end it with `close`."""

    def __init__(self, job: SweepJob, spawn: Spawn) -> None:
        self._job, self._spawn = job, spawn
        self._children: dict[int, list[subprocess.Popen[bytes]]] = {}  # by threads

    def grow(self, wanted: Mapping[int, int]) -> float:
        """Have so many processes of each number of threads.

        Returns: seconds until all new ones had answered the golden requests.
        Raises: EngineFailed for one that ends or says nothing.
        """
        begun = time.monotonic()
        new = [
            self._started(threads)
            for threads, count in wanted.items()
            for _ in range(count - len(self._children.get(threads, ())))
        ]
        for child in new:
            _heard(child, Opened, LOAD_TIMEOUT_S)
        return time.monotonic() - begun

    def round(self, *, workers: int, threads: int, batch_rows: int, seconds: float, least_calls: int,
              expected_s: float) -> list[Seen]:  # fmt: skip
        """Run a round in so many processes of these threads at once; raises EngineFailed."""
        ask = Round(
            batch_rows=batch_rows,
            seconds=seconds,
            least_calls=least_calls,
            at=time.monotonic() + HEAD_START_S,
        )
        return self._ask(ask, self._children[threads][:workers], expected_s)

    def arrivals(self, ask: Arrivals) -> Seen:
        """Let rows come one by one in a process of one thread; raises EngineFailed."""
        return self._ask(ask, self._children[1][:1], 2 * ask.seconds)[0]

    def close(self) -> None:
        """End all processes; twice is harmless."""
        children = [child for own in self._children.values() for child in own]
        for child in children:
            child.kill()
        for child in children:
            with child:  # closes the pipes and waits
                pass
        self._children = {}

    def _started(self, threads: int) -> subprocess.Popen[bytes]:
        child = self._spawn("sweeper")
        self._children.setdefault(threads, []).append(child)
        _say(child, replace(self._job, threads=threads))
        return child

    def _ask(self, ask: Round | Arrivals, children: Sequence[subprocess.Popen[bytes]], expected_s: float) -> list[Seen]:
        for child in children:
            _say(child, ask)
        return [_heard(child, Seen, expected_s + PATIENCE_S) for child in children]


def _say(child: subprocess.Popen[bytes], record: msgspec.Struct) -> None:
    assert child.stdin is not None
    try:
        child.stdin.write(encode(record) + b"\n")
        child.stdin.flush()
    except BrokenPipeError as fault:
        raise _ended(child) from fault


def _heard(child: subprocess.Popen[bytes], kind: type[T], seconds: float) -> T:
    """Return a process's next line; it writes one only when it was asked, so nothing waits in the buffer before it."""
    assert child.stdout is not None
    if not select.select([child.stdout], [], [], seconds)[0]:
        raise EngineFailed(f"A process of the sweep said nothing for {seconds:.0f} s.")
    line = child.stdout.readline()
    if not line:
        raise _ended(child)
    try:
        return decode(line, kind)
    except msgspec.MsgspecError as fault:
        raise EngineFailed(f"A process of the sweep said what is no record of the sweep: {fault}.") from fault


def _ended(child: subprocess.Popen[bytes]) -> EngineFailed:
    return EngineFailed(f"A process of the sweep ended with status {child.wait(PATIENCE_S)}.")
