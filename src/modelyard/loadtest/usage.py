"""What the processes of a local server use, read from the kernel: those who hold its port, and their descendants."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from modelyard.core.load import Usage

_LISTEN = "0A"  # the state's number in /proc/net/tcp
_TICKS = os.sysconf("SC_CLK_TCK")
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process at one moment."""

    pid: int
    parent: int
    start: int  # in ticks since boot; tells it from a later one of the same pid
    cpu_s: float


class Watch:
    """Watches the process trees under `roots`. `begin` and `look` are cheap; `find` reads the whole process table."""

    def __init__(self, roots: Iterable[int]) -> None:
        self._roots = tuple(roots)
        self._known: dict[tuple[int, int], Process] = {}
        self._first: dict[tuple[int, int], float] = {}
        self._last: dict[tuple[int, int], float] = {}

    def find(self) -> None:
        """Learn which processes there are now."""
        for process in tree(self._roots):
            self._known.setdefault((process.pid, process.start), process)

    @property
    def sees_any(self) -> bool:
        """Say whether any process was found."""
        return bool(self._known)

    def begin(self) -> None:
        """Count from here."""
        self.look()
        self._first = dict(self._last)

    def look(self) -> None:
        """Read the clocks of the processes that are known."""
        for key in self._known:
            process = read_process(key[0])
            if process is not None and process.start == key[1]:
                self._last[key] = process.cpu_s

    def end(self, seconds: float, requests: int) -> Usage | None:
        """Return what was used since `begin`, after a last look; None where no process was ever seen.

        Processes that came meanwhile count whole, those that went as they were last seen.
        """
        self.find()
        late = {key: one.cpu_s for key, one in self._known.items() if key not in self._last}
        alive = [pid for pid, start in self._known if (one := read_process(pid)) is not None and one.start == start]
        if not self._known:
            return None
        spent = sum(last - self._first.get(key, 0.0) for key, last in (self._last | late).items())
        pss, rss = memory_mb(alive)
        return Usage(
            processes=len(alive),
            cpu_s=round(spent, 3),
            cores=round(spent / seconds, 3),
            cpu_us_per_request=round(1e6 * spent / requests, 2) if requests else None,
            pss_mb=pss,
            rss_mb=rss,
            gone=len(self._known) - len(alive),
        )


def holders_of(port: int) -> list[int]:
    """Return the processes that hold the listening socket of a TCP port, but this one; empty where none is seen."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    return [pid for pid in _pids() if pid != os.getpid() and _holds(pid, inodes)] if inodes else []


def tree(roots: Iterable[int]) -> list[Process]:
    """Return the processes of these pids and all that descend from them."""
    everyone = {one.pid: one for pid in _pids() if (one := read_process(pid)) is not None}
    children: dict[int, list[int]] = {}
    for one in everyone.values():
        children.setdefault(one.parent, []).append(one.pid)
    found: dict[int, Process] = {}
    open_ends = list(roots)
    while open_ends:
        pid = open_ends.pop()
        if pid in everyone and pid not in found and pid != os.getpid():
            found[pid] = everyone[pid]
            open_ends += children.get(pid, [])
    return list(found.values())


def read_process(pid: int) -> Process | None:
    """Return a process as it is now; None where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # the name before may hold spaces
    except OSError:
        return None
    if fields[0] in ("Z", "X"):
        return None
    cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS
    return Process(pid=pid, parent=int(fields[1]), start=int(fields[19]), cpu_s=cpu_s)


def memory_mb(pids: Iterable[int]) -> tuple[float | None, float | None]:
    """Return PSS and RSS of processes together, in millions of bytes; None where any of them cannot be read."""
    totals = {"Pss:": 0, "Rss:": 0}
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            return None, None
        for line in lines:
            name, *rest = line.split()
            if name in totals:
                totals[name] += int(rest[0]) * 1024
    return round(totals["Pss:"] / 1e6, 1), round(totals["Rss:"] / 1e6, 1)


def busy_s() -> float | None:
    """Return the time that all cores of the machine were busy since boot; None where the kernel does not say."""
    try:
        fields = Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]
    except OSError:
        return None
    ticks = [int(field) for field in fields]
    return (sum(ticks) - ticks[3] - ticks[4]) / _TICKS  # but idle, and waiting for a disk


def _pids() -> list[int]:
    try:
        return [int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit()]
    except OSError:
        return []


def _holds(pid: int, inodes: set[str]) -> bool:
    try:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if str(link.readlink()) in inodes:
                    return True
    except OSError:
        return False
    return False
