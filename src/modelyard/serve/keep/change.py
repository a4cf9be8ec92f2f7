"""Changing which releases answer: deploy, split, and the way back.

The row is the truth; a supervisor is told and followed.

A release is loaded beside those that answer, and its golden requests are asked, before the row is written; the switch
is one assignment in each front. What answered before stays loaded.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from modelyard.core.clock import Clock
from modelyard.core.ids import parse_release
from modelyard.core.ports import Audit, Releases, Services
from modelyard.core.release import ROUTING_KEY, HeaderRule, Service, Traffic
from modelyard.core.rollout import Watch
from modelyard.errors import (
    NotRunning,
    ServiceError,
    StoreConflict,
    StoreError,
    UnknownName,
    UsageError,
)
from modelyard.serve.checking import check_traffic
from modelyard.serve.keep import control
from modelyard.serve.keep.following import idle, largest, newest, next_traffic, way_back
from modelyard.serve.keep.likeness import check_alike
from modelyard.serve.keep.loading import load, wait_followed
from modelyard.serve.keep.terms import ignored, refused, terms_of
from modelyard.serve.messages import RunInfo
from modelyard.serve.routing import spread

T = TypeVar("T")

FOLLOW_S = 5.0  # for the fronts to follow a table whose releases are ready
ROLLBACK_S = 0.8  # for the fronts to follow the way back, before it is said that they have not yet
STORE_S = 0.4  # for the store to take the way back, until the local copy governs without it
TRIES = 3  # against others who write the row


class Changed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a change of traffic did."""

    service: str
    release: str  # that answers now; of several, the one with the largest share
    previous: str | None  # that answered before, and where a rollback goes
    epoch: int
    seconds: float
    store: str  # "written" | why not; it is brought up later
    fronts: str  # "follow" | why that is not known
    shares: dict[str, float] = {}  # of the traffic, by release
    warnings: tuple[str, ...] = ()  # what the release's spec says and the service does not do


@dataclass(frozen=True)
class Changes:
    """What may be done to the traffic of services whose run folders lie in `folder`.

    `services` and `releases` are asked for when needed, so that a rollback can go on where there is no store: what
    `store` raises is a store that cannot be reached.
    """

    folder: Path
    store: Callable[[], tuple[Services, Releases]]
    audit: Audit
    clock: Clock

    def current(self, name: str) -> Traffic:
        """Return the table with the highest epoch, of the store and of the local copy, which is there without one.

        Raises: UnknownName where nothing is known of the service.
        """
        local = control.local_traffic(self.folder / name)
        try:
            return newest(_in_time(lambda: _row(self.store()[0], name).traffic), local)
        except Exception:  # whatever a store raises, the local copy may know
            if local is None:
                raise
            return local

    def deploy(self, ref: str) -> Changed:
        """Let a release answer all callers of its service, once it is loaded and its golden requests are answered.

        Raises: NotRunning where the service does not run; UsageError where the release asks for keys or TLS and the
        service was started without; ServiceError where the release did not get ready, and then what answered before
        still does; StoreConflict where someone else changed the traffic meanwhile.
        """
        began = self.clock.monotonic()
        services, releases = self.store()
        sealed = releases.get(ref)
        release, name = str(sealed.id), sealed.id.name
        run = self.folder / name
        running = control.status(run).run
        row = _row(services, name)
        terms = terms_of(releases.body(sealed.id))
        with self.audit.change("deploy", resources=(name, release), rollback_available=True) as note:
            if why := refused(release, terms, running):
                raise UsageError(why)
            load(run, release)
            traffic = next_traffic(row.traffic, control.local_traffic(run), release)
            _switch(services, run, row, traffic)
            note.update({"epoch": traffic.epoch, "previous": traffic.previous, "environment": row.environment})
        warnings = ignored(release, terms, running)
        return _changed(name, traffic, self.clock.monotonic() - began, warnings=warnings)

    def set_traffic(
        self,
        name: str,
        shares: Mapping[str, float],
        *,
        expect_epoch: int,
        previous: str | None = None,
        rules: Sequence[HeaderRule] = (),
        shadow: Mapping[str, float] | None = None,
        key_header: str = ROUTING_KEY,
        watch: Watch | None = None,
    ) -> Changed:
        """Split a service's traffic, once every release in the table is loaded and answers its golden requests.

        As few keys as possible change their release. `previous` is where a rollback goes; without one it goes to the
        release with the largest share. A table is whole: what is not given is not in it.
        Raises: UsageError where the table makes no sense, where a release that comes into it takes other requests or
        gives other answers than the one that has the largest share now, and where one asks for keys or TLS and the
        service was started without; UnknownName, NotRunning; ServiceError where a release did not get ready or the
        fronts did not follow, and then the table before stands; StoreConflict where its epoch was not `expect_epoch`,
        as someone else changed it.
        """
        began = self.clock.monotonic()
        services, releases = self.store()
        run = self.folder / name
        running = control.status(run).run
        row = _row(services, name)
        now = newest(row.traffic, control.local_traffic(run))
        if now.epoch != expect_epoch:
            raise StoreConflict(
                f"Service `{name}` was changed by someone else: its epoch is {now.epoch}, wanted {expect_epoch}. "
                "Read it again and decide anew."
            )
        traffic = Traffic(
            epoch=now.epoch + 1,
            shares=dict(shares),
            previous=previous,
            key_header=key_header,
            rules=tuple(rules),
            shadow=dict(shadow or {}),
            watch=watch,
        )
        check_traffic(traffic)
        traffic = replace(traffic, ranges=spread(now, traffic.shares))
        check_traffic(traffic)
        warnings = _check_releases(releases, now, traffic, running)
        with self.audit.change("traffic", resources=(name, *shares), rollback_available=True) as note:
            for release in shares:
                load(run, release)
            _switch(services, run, replace(row, traffic=now), traffic, expect_epoch=row.traffic.epoch)
            note.update({"traffic": msgspec.to_builtins(traffic), "environment": row.environment})
        return _changed(name, traffic, self.clock.monotonic() - began, warnings=warnings)

    def rollback(self, name: str) -> Changed:
        """Let the release that answered before answer again, whatever happened: without a store by the local copy.

        It answers alone: no shares, rules or copies are left. Where a table with several releases knows none that
        answered before, it is the one with the largest share.

        Raises: UsageError where nothing answered before, UnknownName where nothing is known of the service,
        NotRunning where none of its processes is there.
        """
        began = self.clock.monotonic()
        run = self.folder / name
        if not control.is_there(run):
            raise NotRunning(idle(name, self._last_known(name, run)))
        with self.audit.change("rollback", resources=(name,), rollback_available=False, must_not_wait=True) as note:
            traffic, store = self._write_back(name, run)
            fronts = _follow_back(run, traffic, written=store == "written")
            note.update({"epoch": traffic.epoch, "release": next(iter(traffic.shares)), "store": store})
        return _changed(name, traffic, self.clock.monotonic() - began, store=store, fronts=fronts)

    def unload(self, ref: str) -> Changed | None:
        """Let a release go: one that answers by a rollback, one that is only loaded at once (then None)."""
        name, _ = parse_release(ref)
        run = self.folder / name
        traffic = control.status(run).routes.traffic
        if ref in traffic.shares:
            return self.rollback(name)
        with self.audit.change("unload", resources=(name, ref), rollback_available=False, must_not_wait=True):
            told = control.load(run, "cool", ref)
            if not told.ok:
                raise UsageError(told.detail)
        return None

    def _write_back(self, name: str, run: Path) -> tuple[Traffic, str]:
        """Write the way back into the row, if the store can be reached; return it, and how that went."""
        try:
            return _in_time(lambda: self._write_row_back(name, run)), "written"
        except UsageError:
            raise
        except Exception as fault:  # whatever a store raises, the local copy has the way back
            local = control.local_traffic(run)
            if local is None:
                raise
            return way_back(name, local), f"{type(fault).__name__}: {fault}"[:300]

    def _write_row_back(self, name: str, run: Path) -> Traffic:
        services, _ = self.store()
        for _ in range(TRIES):
            row = _row(services, name)
            local = control.local_traffic(run)
            traffic = way_back(name, local if local is not None and local.epoch > row.traffic.epoch else row.traffic)
            with contextlib.suppress(StoreConflict):
                services.put(replace(row, traffic=traffic), expect_epoch=row.traffic.epoch)
                return traffic
        raise StoreConflict(f"Others changed service `{name}` {TRIES} times meanwhile.")

    def _last_known(self, name: str, run: Path) -> Traffic | None:
        """Return the table by which a service that does not run answered last; raises UnknownName."""
        local = control.local_traffic(run)
        try:
            row = _in_time(lambda: _row(self.store()[0], name).traffic)
        except UsageError:
            raise
        except Exception:  # noqa: BLE001 - whatever a store raises, the local copy says it as well
            return local
        return row if local is None or row.epoch >= local.epoch else local


def _check_releases(releases: Releases, now: Traffic, traffic: Traffic, running: RunInfo) -> tuple[str, ...]:
    """Return in words what the service does otherwise than the releases of a table say; raises as `set_traffic`."""
    stable = largest(now)
    bodies = {release: releases.body(releases.get(release).id) for release in {stable: None, **traffic.shares}}
    for release in traffic.shares.keys() - now.shares.keys():  # the others were looked at when they came
        check_alike(release, bodies[release], stable, bodies[stable])
    warnings: list[str] = []
    for release in traffic.shares:
        terms = terms_of(bodies[release])
        if why := refused(release, terms, running):
            raise UsageError(why)
        warnings += ignored(release, terms, running)
    return tuple(warnings)


def _in_time(ask: Callable[[], T]) -> T:
    """Return what a call of the store gives; raises what it raises, and StoreError where it takes too long."""
    found: Future[T] = Future()

    def run() -> None:
        try:
            found.set_result(ask())
        except Exception as fault:  # noqa: BLE001 - raised again for who waits
            found.set_exception(fault)

    threading.Thread(target=run, name="row", daemon=True).start()  # a store that hangs knows no limit
    try:
        return found.result(STORE_S)
    except TimeoutError as fault:
        raise StoreError(f"The store did not answer within {STORE_S:g} s.") from fault


def _row(services: Services, name: str) -> Service:
    row = services.get(name)
    if row is None:
        raise UnknownName("service", name, tuple(one.name for one in services.all()))
    return row


def _switch(services: Services, run: Path, row: Service, traffic: Traffic, *, expect_epoch: int | None = None) -> None:
    """Write a table and have the fronts follow it; where they do not, what `row` has is put back."""
    expected = row.traffic.epoch if expect_epoch is None else expect_epoch
    services.put(replace(row, traffic=traffic), expect_epoch=expected)
    try:
        told = control.poke(run, "reload")
        if not told.ok:
            raise ServiceError(f"The supervisor cannot follow {', '.join(traffic.shares)}: {told.detail}")
        wait_followed(run, traffic.epoch, FOLLOW_S)
    except ServiceError:
        _put_back(services, run, row, traffic)
        raise


def _put_back(services: Services, run: Path, row: Service, traffic: Traffic) -> None:
    """Undo a switch that fronts did not follow."""
    back = replace(row.traffic, epoch=traffic.epoch + 1)
    services.put(replace(row, traffic=back), expect_epoch=traffic.epoch)
    with contextlib.suppress(NotRunning):
        control.poke(run, "reload")


def _follow_back(run: Path, traffic: Traffic, *, written: bool) -> str:
    """Have the fronts follow the way back; say how that went."""
    try:
        if not written:
            control.follow_locally(run, traffic)
        told = control.poke(run, "reload" if written else "follow")
        if not told.ok:
            return told.detail
        wait_followed(run, traffic.epoch, ROLLBACK_S)
    except NotRunning:
        return _follow_without(run, traffic) if written else "follow the local copy: the supervisor is dead"
    except ServiceError as fault:
        return str(fault)
    return "follow"


def _follow_without(run: Path, traffic: Traffic) -> str:
    """Have the fronts follow what is in the row already, while there is no supervisor to tell them."""
    try:
        control.follow_locally(run, traffic)
    except (NotRunning, UnknownName) as fault:
        return f"do not follow yet, a supervisor is needed: {fault}"
    return "follow the local copy: the supervisor is dead"


def _changed(
    name: str,
    traffic: Traffic,
    seconds: float,
    *,
    store: str = "written",
    fronts: str = "follow",
    warnings: tuple[str, ...] = (),
) -> Changed:
    return Changed(
        service=name,
        release=largest(traffic),
        previous=traffic.previous,
        epoch=traffic.epoch,
        seconds=round(seconds, 4),
        store=store,
        fronts=fronts,
        shares=traffic.shares,
        warnings=warnings,
    )
