"""Short turns on the processors for a process that callers wait for.

Since Linux 6.12 the scheduler lets a process ask for shorter turns than others have: its share of the processors
stays the same, but it gets its turn sooner after it has waited. A front works for some microseconds at a time and
lets others run in between, so that short turns cost nothing and spare its callers the rest of somebody else's turn.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct

TURN_NS = 100_000  # the shortest that the kernel takes
_SYSCALLS = {"x86_64": (314, 315), "aarch64": (274, 275)}  # sched_setattr, sched_getattr
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")  # struct sched_attr, first version: size, policy, flags, nice, .., runtime, ..
_POLICY, _RUNTIME = 1, 5  # places in it


def be_prompt() -> bool:
    """Ask for short turns for the calling thread; False where this kernel, or what confines it, has none to give.

    Its policy and nice value stay. Threads and processes that it starts from then on have short turns too.
    """
    known = _ask(0)
    if known is None or known[_POLICY] != os.SCHED_OTHER:
        return False
    known[_RUNTIME] = TURN_NS
    wanted = ctypes.create_string_buffer(_ATTRIBUTES.pack(*known))
    if _call(0, ctypes.c_int(0), wanted, ctypes.c_uint(0)) != 0:
        return False
    return turn_ns() == TURN_NS


def turn_ns(pid: int = 0) -> int | None:
    """Return how long the turns of a process's first thread are, in nanoseconds; None where no kernel says so."""
    known = _ask(pid)
    return None if known is None else known[_RUNTIME] or None


def _ask(pid: int) -> list[int] | None:
    known = ctypes.create_string_buffer(_ATTRIBUTES.size)
    size = ctypes.c_uint(_ATTRIBUTES.size)
    if _call(1, ctypes.c_int(pid), known, size, ctypes.c_uint(0)) != 0:
        return None
    return list(_ATTRIBUTES.unpack(known.raw))


def _call(place: int, *arguments: object) -> int:
    """Make one of the two system calls, for which the C library has had names only since lately; not 0: it failed."""
    numbers = _SYSCALLS.get(platform.machine())
    return -1 if numbers is None else int(ctypes.CDLL(None).syscall(ctypes.c_long(numbers[place]), *arguments))
