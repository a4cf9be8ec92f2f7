"""Waking the event loop at a moment, finer than its own timers, which count in milliseconds."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from collections.abc import Callable
from typing import Protocol

_MONOTONIC = 1  # the clock of time.monotonic()
_ABSOLUTE = 1
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC


class Alarm(Protocol):
    """Calls back once at or after a moment of `time.monotonic()`; a later `set` replaces an earlier one."""

    def set(self, moment: float) -> None: ...

    def close(self) -> None: ...


def alarm(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> Alarm:
    """Return the finest alarm that the system has."""
    try:
        return _KernelAlarm(loop, call)
    except (OSError, AttributeError):
        return _LoopAlarm(loop, call)


class _Spec(ctypes.Structure):
    """`struct itimerspec`: interval, then the moment."""

    _fields_ = [(name, ctypes.c_long) for name in ("interval_s", "interval_ns", "value_s", "value_ns")]


class _KernelAlarm:
    """A timerfd of Linux. Setting it again clears what it told before, so that nothing need be read from it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        self._set, create = library.timerfd_settime, library.timerfd_create
        self._set.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        self._handle = create(_MONOTONIC, _FLAGS)
        if self._handle < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._spec, self._loop = _Spec(), loop
        self._at = ctypes.addressof(self._spec)
        loop.add_reader(self._handle, call)

    def set(self, moment: float) -> None:
        seconds = int(moment)
        self._spec.value_s = seconds
        self._spec.value_ns = max(1, int((moment - seconds) * 1e9))  # both 0 would put the alarm off
        self._set(self._handle, _ABSOLUTE, self._at, None)

    def close(self) -> None:
        self._loop.remove_reader(self._handle)
        os.close(self._handle)


class _LoopAlarm:
    """The loop's own timer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
        self._loop, self._call = loop, call
        self._timer: asyncio.TimerHandle | None = None

    def set(self, moment: float) -> None:
        self.close()
        self._timer = self._loop.call_later(max(0.0, moment - time.monotonic()), self._call)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
