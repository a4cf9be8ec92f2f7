"""Which traffic table governs: the store's row or the local copy, whichever has the higher epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from modelyard.bundle.format import SPEC_IN_EFFECT
from modelyard.bundle.open import read_manifest
from modelyard.core.clock import Clock
from modelyard.core.codec import decode
from modelyard.core.ports import Releases, Services
from modelyard.core.release import Service, Traffic
from modelyard.errors import ModelyardError, UnknownName, UsageError
from modelyard.serve.keep.terms import terms_of
from modelyard.serve.messages import TRAFFIC_FILE, BodyRef, Routes, SupervisorJob

LOADING_S = 120.0  # for what is loaded to be deployed; from then on it is kept as one that left the shares

Tell = Callable[[str, Mapping[str, Any]], None]


class Governor:
    """Keeps the routes: the table with the highest epoch, and a body for each release that is to have workers.

    Those are the releases in the shares, the ones that their fallbacks begin with, and for a while those that left.
    """

    file = TRAFFIC_FILE

    def __init__(
        self, job: SupervisorJob, services: Services, releases: Releases, clock: Clock, tell: Tell = lambda *_: None
    ) -> None:
        self.routes = Routes(traffic=Traffic(epoch=-1, shares={}), bodies={})
        self.store = "not read yet"  # "reachable", or why it is not
        self.changed = False  # since the local copy was written
        self._job, self._services, self._releases, self._clock, self._tell = job, services, releases, clock, tell
        self._left: dict[str, float] = {}  # when a release left the shares

    def begin(self) -> None:
        """Find the table to start with; raises UnknownName where there is none.

        What the copy kept warm stays warm, unless the store has moved on since.
        """
        copy = self._read_copy()
        if copy is not None:
            self.routes = copy
            now = self._clock.monotonic()
            self._left = dict.fromkeys(copy.bodies.keys() - self._needed(copy), now)
            self._settle()
        self.take(self.ask())
        if copy is not None and self.routes.traffic.epoch > copy.traffic.epoch:
            self._left.clear()
            needed = self._needed(self.routes)
            self._set(replace(self.routes, bodies={name: self.routes.bodies[name] for name in needed}))
        if not self.routes.traffic.shares:
            raise UnknownName("service", self._job.service)
        if self.store != "reachable":
            self._tell("governed_by_local_copy", {"epoch": self.routes.traffic.epoch, "why": self.store})

    def ask(self) -> Service | None:
        """Return the service's row; None where there is none or the store cannot be reached. May take long."""
        try:
            row = self._services.get(self._job.service)
            self.store = "reachable"
            return row
        except Exception as fault:  # noqa: BLE001 - whatever a store raises, the service goes on by its local copy
            self.store = f"{type(fault).__name__}: {fault}"[:300]
            return None

    def take(self, row: Service | None) -> str:
        """Follow the row or the local copy, whichever is newer; say in words what came of it.

        A row that is behind, since it could not be reached when the traffic changed, is brought up. Where both have
        changed to the same epoch the local copy stands: that was a rollback.
        """
        self.follow_copy()
        epoch = self.routes.traffic.epoch
        if row is None and self.store == "reachable":
            return "The store has no row for this service."
        if row is None:
            return f"The store cannot be reached; the local copy with epoch {epoch} governs."
        if row.traffic.epoch > epoch:
            self._follow(row.traffic)
            return f"Epoch {row.traffic.epoch} governs."
        if row.traffic == self.routes.traffic:
            return f"Nothing is newer than epoch {epoch}."
        if row.traffic.epoch == epoch:
            self._follow(replace(self.routes.traffic, epoch=epoch + 1))
        return self._bring_up(row)

    def follow_copy(self) -> str:
        """Follow the local copy if it is newer; say in words what came of it."""
        copy = self._read_copy()
        if copy is None or copy.traffic.epoch <= self.routes.traffic.epoch:
            return f"Nothing is newer than epoch {self.routes.traffic.epoch}."
        self._follow(copy.traffic)
        return f"Epoch {copy.traffic.epoch} governs, by the local copy."

    def warm(self, release: str) -> str:
        """Have a release loaded beside those that answer; raises what `Releases` raises."""
        if release not in self.routes.bodies:
            self._set(replace(self.routes, bodies={**self.routes.bodies, release: self._body(release)}))
        if release not in self._needed(self.routes):
            self._left[release] = self._clock.monotonic() + LOADING_S
        return f"`{release}` is loaded beside {', '.join(self.routes.traffic.shares)}."

    def let_go(self, release: str) -> str:
        """Unload a release that does not answer; raises UsageError for one that does."""
        if release in self._needed(self.routes):
            raise UsageError(f"`{release}` answers callers of `{self._job.service}`; it cannot be let go.")
        self._left.pop(release, None)
        bodies = {name: ref for name, ref in self.routes.bodies.items() if name != release}
        self._set(replace(self.routes, bodies=bodies))
        return f"`{release}` was let go."

    def cool(self) -> bool:
        """Let go of releases that left the shares long ago; say whether there was one."""
        now = self._clock.monotonic()
        cold = [name for name, left in self._left.items() if now - left > self._job.keep_warm_s]
        for name in cold:
            del self._left[name]
        if cold:
            bodies = {name: ref for name, ref in self.routes.bodies.items() if name not in cold}
            self._set(replace(self.routes, bodies=bodies))
        return bool(cold)

    def _bring_up(self, row: Service) -> str:
        epoch = self.routes.traffic.epoch
        told = f"The store is behind: its epoch is {row.traffic.epoch}, the local copy's {epoch} governs"
        try:
            self._services.put(replace(row, traffic=self.routes.traffic), expect_epoch=row.traffic.epoch)
        except Exception as fault:  # noqa: BLE001 - whatever a store raises, the service goes on by its local copy
            self.store = f"{type(fault).__name__}: {fault}"[:300]
            return f"{told}; it could not be brought up: {self.store}"
        self._tell("reconciled", {"from_epoch": row.traffic.epoch, "to_epoch": epoch})
        return f"{told}, and the store was brought up to it."

    def _settle(self) -> None:
        """Take the bodies of the local copy from where the store has them now: it may have been moved or restored."""
        bodies = dict(self.routes.bodies)
        for release in bodies:
            try:
                bodies[release] = self._body(release)
            except Exception:  # noqa: BLE001 - without the store the copy governs, and a worker verifies every byte
                continue
        if bodies != self.routes.bodies:
            self._set(replace(self.routes, bodies=bodies))

    def _follow(self, traffic: Traffic) -> None:
        """Take a table, with a verified body for each of its releases; raises what `Releases` raises.

        One without a share that cannot be had is told, and holds up none of the others.
        """
        bodies = dict(self.routes.bodies)
        for release in traffic.names:
            if release not in bodies:
                try:
                    bodies[release] = self._body(release)
                except Exception as fault:
                    if traffic.shares.get(release):
                        raise
                    self._tell("release_missing", {"release": release, "why": str(fault)[:300]})
        previous = {}
        for release in [release for release in traffic.names if release in bodies]:
            for kind, wanted in ways_back(_fallback(bodies[release]), traffic.previous):
                try:
                    if wanted not in bodies:
                        bodies[wanted] = self._body(wanted)
                except ModelyardError as fault:
                    self._tell("fallback_missing", {"release": release, "wanted": wanted, "why": str(fault)[:300]})
                    continue
                if kind == "previous" and wanted != release:
                    previous[release] = wanted
        routes = Routes(traffic=traffic, bodies=bodies, previous=previous)
        now = self._clock.monotonic()
        self._left = {name: self._left.get(name, now) for name in bodies.keys() - self._needed(routes)}
        self._set(routes)

    def _body(self, release: str) -> BodyRef:
        sealed = self._releases.get(release)
        folder = self._releases.body(sealed.id)
        has_spec = (folder / SPEC_IN_EFFECT).exists()  # a worker refuses a body without one
        return BodyRef(folder=str(folder), digest=sealed.body, alias=terms_of(folder).endpoint if has_spec else None)

    @property
    def unheard(self) -> frozenset[str]:
        """Return the releases that get copies of requests and that no caller can meet, by whatever way."""
        traffic, bodies = self.routes.traffic, self.routes.bodies
        met = {release for release, share in traffic.shares.items() if share > 0}
        met |= {rule.release for rule in traffic.rules}
        for release in met & bodies.keys():
            met |= {wanted for _, wanted in ways_back(_fallback(bodies[release]), traffic.previous)}
        return frozenset(traffic.shadow.keys() - met - {traffic.previous})

    @staticmethod
    def _needed(routes: Routes) -> set[str]:
        """Return the releases that callers may meet."""
        traffic, bodies = routes.traffic, routes.bodies
        there = [release for release in traffic.names if release in bodies]
        if traffic.watch is not None and traffic.previous in bodies:  # a rollout may go back at any moment
            there.append(traffic.previous)
        ways = [ways_back(_fallback(bodies[release]), traffic.previous) for release in there]
        return {*there, *(wanted for way in ways for _, wanted in way if wanted in bodies)}

    def _set(self, routes: Routes) -> None:
        self.routes, self.changed = routes, True

    def _read_copy(self) -> Routes | None:
        path = Path(self._job.run_folder) / self.file
        try:
            return decode(path.read_bytes(), Routes)
        except (OSError, msgspec.MsgspecError):
            return None


def ways_back(fallback: Sequence[Mapping[str, Any]], previous: str | None) -> list[tuple[str, str]]:
    """Return the releases that a list of fallbacks asks, with the kind of each: all of them have workers.

    >>> ways_back([{"kind": "previous"}, {"kind": "variant", "release": "small@3"}, {"kind": "refuse"}], "income@1")
    [('previous', 'income@1'), ('variant', 'small@3')]
    """
    found = [(entry["kind"], entry.get("release", previous)) for entry in fallback]
    return [(kind, release) for kind, release in found if kind in ("previous", "variant") and release is not None]


def _fallback(ref: BodyRef) -> Sequence[Mapping[str, Any]]:
    """Return a body's fallbacks; none where it cannot be read any more."""
    try:
        return read_manifest(Path(ref.folder)).fallback
    except ModelyardError:
        return ()
