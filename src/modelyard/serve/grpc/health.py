"""grpc.health.v1: whether the service, or its model, answers correctly; asked once, or watched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING

from modelyard.serve.grpc import wire
from modelyard.serve.grpc.call import GrpcCall
from modelyard.serve.grpc.status import HEAD, Status, trailers
from modelyard.serve.grpc.wire import WireFault
from modelyard.serve.http2.hpack import encode

if TYPE_CHECKING:
    from modelyard.serve.grpc.head import Head
    from modelyard.serve.grpc.listener import GrpcListener
    from modelyard.serve.http2.connection import Connection

LOOK_S = 0.05  # between looks for a change, while someone watches
MOST_WATCHERS = 1_024

CHECK, WATCH, LIST = (b"/grpc.health.v1.Health/" + name for name in (b"Check", b"Watch", b"List"))


class Serving(IntEnum):
    """The protocol's states."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3  # only to those who watch: such a service may come


class Health:
    """Knows the state of each service name by asking, and tells those who watch of every change it sees."""

    def __init__(self, state_of: Callable[[str], bool | None]) -> None:
        self._state_of = state_of  # None: there is no such service
        self._watchers: dict[WatchCall, Serving] = {}  # with what each was told last
        self._loop: asyncio.AbstractEventLoop | None = None

    def state(self, name: str) -> Serving:
        """Return the state of a service by its name."""
        good = self._state_of(name)
        if good is None:
            return Serving.SERVICE_UNKNOWN
        return Serving.SERVING if good else Serving.NOT_SERVING

    def watch(self, connection: Connection, id: int, head: Head, listener: GrpcListener) -> WatchCall:
        """Return the call of one who wants to watch."""
        return WatchCall(connection, id, head, listener, self)

    def add(self, call: WatchCall, loop: asyncio.AbstractEventLoop) -> bool:
        """Tell a watcher of the state now and of every change; return whether there is room for one more."""
        if len(self._watchers) >= MOST_WATCHERS:
            return False
        state = self._watchers[call] = self.state(call.name)
        call.tell(state)
        if self._loop is None:
            self._loop = loop
            loop.call_later(LOOK_S, self._look)
        return True

    def discard(self, call: WatchCall) -> None:
        self._watchers.pop(call, None)

    def look(self) -> None:
        """Tell watchers of what changed since they were told; one that does not read is told later."""
        for call, before in list(self._watchers.items()):
            state = self.state(call.name)
            if state is not before and not call.queue:
                self._watchers[call] = state
                call.tell(state)

    def _look(self) -> None:
        self.look()
        loop, self._loop = self._loop, None
        if self._watchers and loop is not None:
            self._loop = loop
            loop.call_later(LOOK_S, self._look)


class WatchCall(GrpcCall):
    """A call that is told of changes until its client leaves."""

    __slots__ = ("__weakref__", "_health", "name")

    def __init__(self, connection: Connection, id: int, head: Head, listener: GrpcListener, health: Health) -> None:
        super().__init__(connection, id, head, listener)
        self._health = health
        self.name = ""

    def half_closed(self) -> None:
        if self.body is None:
            super().half_closed()
            return
        try:
            (self.name,) = wire.texts(self.body, 1)
        except WireFault as fault:
            self.finish(trailers(Status.INVALID_ARGUMENT, str(fault)))
            return
        if not self._health.add(self, self.listener.loop):
            self.finish(trailers(Status.RESOURCE_EXHAUSTED, "Too many watch already.", retry_after_s=1))

    def tell(self, state: Serving) -> None:
        """Send a state."""
        if not self.is_headed:
            self.is_headed = True
            self.send_head(HEAD + encode(b"x-request-id", self.listener.next_id().encode()))
        self.send(health_answer(state))

    def left(self) -> None:
        super().left()
        self._health.discard(self)

    def late(self, now: float) -> None:
        if self.body is None:
            super().late(now)

    def settle(self, now: float, quiet_s: float) -> None:
        if not self.over:
            self._health.look()
            self._health.discard(self)
            self.finish(trailers(Status.UNAVAILABLE, "The service ends.", retry_after_s=0))


def health_answer(state: Serving) -> bytes:
    """Return a HealthCheckResponse."""
    return wire.whole(1, state)
