"""What the kernel says of processes: whether one still is the one we knew, and who holds a port."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import struct
from pathlib import Path

from modelyard.core.codec import write_atomic
from modelyard.errors import PortTaken

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_LISTEN = "0A"  # the state's number in /proc/net/tcp

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_PROGRAM = struct.Struct("HP")  # struct sock_fprog of linux/filter.h: length, address; aligned as the compiler does
_INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter: code, jump if true, jump if false, operand
_ONLY_BEGUN = (
    (0x30, 0, 0, 13),  # load byte 13 of the TCP header, the flags
    (0x54, 0, 0, 0x02),  # and SYN
    (0x15, 0, 1, 0),  # where it is not set ...
    (0x06, 0, 0, 0xFFFFFFFF),  # ... keep the packet,
    (0x06, 0, 0, 0),  # else drop it
)


def start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None where there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces
    return None if fields[0] in ("Z", "X") else int(fields[19])


def is_same(pid: int, ticks: int) -> bool:
    """Say whether the process of that pid is the one that started then."""
    return start_ticks(pid) == ticks


def command_of(pid: int) -> str:
    """Return a process's command line, shortened; empty where it cannot be seen."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    return b" ".join(words).decode(errors="replace").strip()[:200]


def end(pid: int, ticks: int, *, number: int = signal.SIGTERM) -> bool:
    """Send a signal to a process if it still is the one that started then; say whether it was."""
    if not is_same(pid, ticks):
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    return True


def wait_gone(pid: int, ticks: int, *, timeout_s: float) -> bool:
    """Wait until a process is gone; say whether it is."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return not is_same(pid, ticks)
    try:
        if is_same(pid, ticks):
            select.select([handle], [], [], timeout_s)
    finally:
        os.close(handle)
    return not is_same(pid, ticks)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket; port 0 takes any free one. Raises PortTaken naming who has it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(1024)
    except OSError as fault:
        sock.close()
        raise PortTaken(_why(host, port, fault)) from fault
    return sock


def hold_callers(sock: socket.socket) -> None:
    """Let a listening socket complete the connections that have begun, and begin no more.

    The kernel drops the first packet of a new connection; the caller's own sends it again after a second, and is
    refused if the socket is closed by then. Where the kernel cannot do this, nothing happens.
    """
    program = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*line) for line in _ONLY_BEGUN))
    with contextlib.suppress(OSError):
        header = _PROGRAM.pack(len(_ONLY_BEGUN), ctypes.addressof(program))
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)


def take_callers(sock: socket.socket) -> None:
    """Let connections begin again on a socket that held them."""
    with contextlib.suppress(OSError):  # it held none
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def owner_of(port: int) -> tuple[int, str] | None:
    """Return pid and command of who listens on a TCP port; None where that cannot be seen."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    if not inodes:
        return None
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            for link in (folder / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(link.readlink()) in inodes:
                        return int(folder.name), command_of(int(folder.name))
    return None


def resident_bytes(pid: int) -> int:
    """Return how much memory a process has in use; 0 where there is no such process."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0


def is_stopped(pid: int) -> bool:
    """Say whether a process was stopped by a signal."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("T", "t")
    except (OSError, IndexError):
        return False


def keep_short(path: Path, most_bytes: int) -> None:
    """Move what a file that others append to holds into `PATH.1`, at most its last `most_bytes`, once it is larger.

    The file itself stays, since others have it open; a line written meanwhile may be lost.
    """
    with contextlib.suppress(OSError), path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size <= most_bytes:
            return
        file.seek(size - most_bytes)
        write_atomic(path.with_name(f"{path.name}.1"), file.read(most_bytes), mode=0o600)
        file.truncate(0)


def _why(host: str, port: int, fault: OSError) -> str:
    owner = owner_of(port)
    if owner is not None:
        pid, command = owner
        return f"Port {port} on {host} is taken by process {pid} (`{command}`). End it, or choose another port."
    return f"Cannot listen on {host}, port {port}: {fault.strerror}. Choose another port."
