"""Which traffic table governs: the store's row, or the local copy where the store cannot be reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from modelyard.core.clock import Clock
from modelyard.core.codec import decode
from modelyard.core.ports import Releases, Services
from modelyard.core.release import Traffic
from modelyard.errors import UnknownName
from modelyard.serve.messages import TRAFFIC_FILE, BodyRef, Routes, SupervisorJob


class Governor:
    """Keeps the routes: the table with the highest epoch, and a body for each of its releases."""

    file = TRAFFIC_FILE

    def __init__(self, job: SupervisorJob, services: Services, releases: Releases, clock: Clock) -> None:
        self.routes = Routes(traffic=Traffic(epoch=-1, shares={}), bodies={})
        self.store = "not read yet"  # "reachable", or why it is not
        self.changed = False  # since the local copy was written
        self._job, self._services, self._releases, self._clock = job, services, releases, clock
        self._left: dict[str, float] = {}  # when a release left the shares

    def begin(self, tell: Callable[[str, Mapping[str, Any]], None]) -> None:
        """Find the table to start with; raises UnknownName where there is none.

        What the copy kept warm stays warm, unless the store has moved on since.
        """
        copy = self._read_copy()
        if copy is not None:
            self.routes = copy
            self._settle()
        self.read_row()
        if copy is not None and self.routes.traffic.epoch > copy.traffic.epoch:
            shares = self.routes.traffic.shares
            self._left.clear()
            self._set(Routes(traffic=self.routes.traffic, bodies={name: self.routes.bodies[name] for name in shares}))
        if not self.routes.traffic.shares:
            raise UnknownName("service", self._job.service)
        if self.store != "reachable":
            tell("governed_by_local_copy", {"epoch": self.routes.traffic.epoch, "why": self.store})

    def read_row(self) -> str:
        """Read the service's row and follow it where its epoch is higher; say in words what came of it."""
        try:
            row = self._services.get(self._job.service)
            self.store = "reachable"
        except Exception as fault:  # noqa: BLE001 - whatever a store raises, the service goes on by its local copy
            self.store = f"{type(fault).__name__}: {fault}"[:300]
            return f"The store cannot be reached; the local copy with epoch {self.routes.traffic.epoch} governs."
        if row is None:
            return "The store has no row for this service."
        epoch = self.routes.traffic.epoch
        if row.traffic.epoch < epoch:
            return f"The store is behind: its epoch is {row.traffic.epoch}, the local copy's {epoch} governs."
        if row.traffic.epoch == epoch:
            return f"Nothing is newer than epoch {epoch}."
        self._follow(row.traffic)
        return f"Epoch {row.traffic.epoch} governs."

    def _settle(self) -> None:
        """Take the bodies of the local copy from where the store has them now: it may have been moved or restored."""
        bodies = dict(self.routes.bodies)
        for release in bodies:
            try:
                sealed = self._releases.get(release)
                bodies[release] = BodyRef(folder=str(self._releases.body(sealed.id)), digest=sealed.body)
            except Exception:  # noqa: BLE001 - without the store the copy governs, and a worker verifies every byte
                continue
        if bodies != self.routes.bodies:
            self._set(Routes(traffic=self.routes.traffic, bodies=bodies))

    def cool(self, traffic: Traffic) -> bool:
        """Let go of releases that left the shares long ago; say whether there was one."""
        now = self._clock.monotonic()
        cold = [name for name, left in self._left.items() if now - left > self._job.keep_warm_s]
        for name in cold:
            del self._left[name]
        if cold:
            bodies = {name: ref for name, ref in self.routes.bodies.items() if name not in cold}
            self._set(Routes(traffic=traffic, bodies=bodies))
        return bool(cold)

    def _follow(self, traffic: Traffic) -> None:
        """Take a table, with a verified body for each of its releases; raises what `Releases` raises."""
        bodies = dict(self.routes.bodies)
        for release in traffic.shares:
            self._left.pop(release, None)
            if release not in bodies:
                sealed = self._releases.get(release)
                bodies[release] = BodyRef(folder=str(self._releases.body(sealed.id)), digest=sealed.body)
        for release in bodies.keys() - traffic.shares.keys():
            self._left.setdefault(release, self._clock.monotonic())
        self._set(Routes(traffic=traffic, bodies=bodies))

    def _set(self, routes: Routes) -> None:
        self.routes, self.changed = routes, True

    def _read_copy(self) -> Routes | None:
        path = Path(self._job.run_folder) / self.file
        try:
            copy = decode(path.read_bytes(), Routes)
        except (OSError, msgspec.MsgspecError):
            return None
        for release in copy.bodies.keys() - copy.traffic.shares.keys():
            self._left[release] = self._clock.monotonic()
        return copy
