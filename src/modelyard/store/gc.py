"""Collection: bounds the store without touching what is live or its way back."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from modelyard.core.clock import stamp
from modelyard.core.codec import decode
from modelyard.core.ids import ReleaseId, parse_release
from modelyard.core.release import Service
from modelyard.errors import UsageError
from modelyard.store import schema
from modelyard.store.bodies import Bodies
from modelyard.store.database import Database
from modelyard.store.folder import TEMPORARY, TRASH, remove, size_of
from modelyard.store.lock import open_folder, try_lock
from modelyard.store.room import Room
from modelyard.store.stages import FolderStages

UNUSED_FOR = timedelta(days=7)
_LEFTOVER_AGE_S = 3600.0
_FULL_SHARE = 0.8  # of the quota; beyond it the longest unused stages go, however young


class Collected(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a collection removed, or would remove."""

    dry_run: bool
    releases: tuple[str, ...]  # now without a body, "income@1"
    bodies: tuple[str, ...]
    stages: tuple[str, ...]
    leftovers: tuple[str, ...]  # of killed processes, relative to the store's folder
    freed_bytes: int
    kept: dict[str, str]  # release with a body -> why it stays


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Rows to mark, and what stays."""

    mark: tuple[ReleaseId, ...]
    kept: dict[str, str]
    bodies_kept: frozenset[str]


class Collection:
    """Collects what nothing needs, and keeps the store within its quota."""

    def __init__(self, *, database: Database, bodies: Bodies, stages: FolderStages, room: Room) -> None:
        self._database, self._bodies, self._stages, self._room = database, bodies, stages, room

    def collect(
        self, *, keep_newest: int, now: datetime, dry_run: bool = False, unused_for: timedelta = UNUSED_FOR
    ) -> Collected:
        """Remove bodies nobody needs, stages long unused, and leftovers of killed processes.

        A release keeps its body if a service's traffic names it, if it is the way back of one that
        is named (the release sealed before it, those of the traffic before, and those that its
        fallbacks name), or if it is among the newest `keep_newest` of its name. One whose body goes
        is marked; row and evidence stay.
        Stages go when unused for `unused_for`, and the longest unused first while more than 80 % of
        the quota is used; one that a process holds stays. `dry_run` removes nothing.
        """
        if keep_newest < 0:
            raise UsageError(f"`keep_newest` is {keep_newest}; wanted 0 or more.")
        with self._bodies.alone():
            with self._database.write() as connection:
                plan = _plan(connection, keep_newest, self._variants)
                if not dry_run:
                    _mark(connection, plan.mark, stamp(now))
            bodies = [body for body in self._bodies.all() if body not in plan.bodies_kept]
            freed = sum(size_of(self._bodies.path(body)) for body in bodies)
            if not dry_run:
                for body in bodies:
                    self._bodies.remove(body)
        leftovers, leftover_bytes = self._leftovers(now, dry_run=dry_run)
        freed += leftover_bytes
        stages, stage_bytes = self._old_stages(now, unused_for, freed=freed, dry_run=dry_run)
        return Collected(
            dry_run=dry_run,
            releases=tuple(str(id) for id in plan.mark),
            bodies=tuple(bodies),
            stages=tuple(stages),
            leftovers=tuple(leftovers),
            freed_bytes=freed + stage_bytes,
            kept=plan.kept,
        )

    def ensure_room(self, size_bytes: int) -> None:
        """Raise QuotaExceeded, saying what to do, if `size_bytes` more would not fit."""
        self._room.ensure(size_bytes)

    def used_bytes(self) -> int:
        return self._room.used_bytes()

    def _old_stages(self, now: datetime, unused_for: timedelta, *, freed: int, dry_run: bool) -> tuple[list[str], int]:
        quota = self._room.quota_bytes
        used = self._room.used_bytes() - (freed if dry_run else 0) if quota is not None else 0
        gone, total = [], 0
        for last_used, key in self._stages.last_used():
            is_old = now.timestamp() - last_used > unused_for.total_seconds()
            is_full = quota is not None and used - total > quota * _FULL_SHARE
            if not (is_old or is_full):
                continue
            size = self._stages.size_bytes(key)
            if self._stages.is_free(key) if dry_run else self._stages.remove_unused(key):
                gone.append(key)
                total += size
        return gone, total

    def _variants(self, body: str) -> list[str]:
        """Return the releases that a body's fallbacks name."""
        try:
            manifest = decode((self._bodies.path(body) / "manifest.json").read_bytes(), _Fallbacks)
        except (OSError, msgspec.MsgspecError):  # whoever opens it is told; it names nobody
            return []
        return [str(entry["release"]) for entry in manifest.fallback if entry.get("kind") == "variant"]

    def _leftovers(self, now: datetime, *, dry_run: bool) -> tuple[list[str], int]:
        """Remove temporary files and folders older than an hour whose maker is gone."""
        gone, total = [], 0
        for path in sorted(_temporary(self._room.home)):
            if now.timestamp() - _changed(path) <= _LEFTOVER_AGE_S or not _is_free(path):
                continue
            gone.append(path.relative_to(self._room.home).as_posix())
            total += size_of(path)
            if not dry_run:
                remove(path)
        return gone, total


class _Fallbacks(msgspec.Struct):
    """What is read of a manifest here."""

    fallback: list[dict[str, object]] = []


def _plan(connection: Connection, keep_newest: int, variants: Callable[[str], list[str]]) -> _Plan:
    """Decide which rows lose their bodies; `variants` are the releases that a body's fallbacks name."""
    table = schema.releases
    rows = connection.execute(sa.select(table).order_by(table.c.name, table.c.number)).all()
    by_name: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        by_name[row.name].append(row.number)
    with_body = [row for row in rows if row.collected is None]
    live, back = _named(connection, {(row.name, row.number) for row in with_body})
    for row in with_body:
        id = ReleaseId(name=row.name, number=row.number)
        for text in variants(row.body) if id in live else ():
            back.setdefault(_id(text), f"a fallback of `{id}`")
    mark, kept, bodies = [], {}, set()
    for row in with_body:
        id = ReleaseId(name=row.name, number=row.number)
        newest = by_name[row.name][-keep_newest:] if keep_newest else []
        reason = live.get(id) or back.get(id) or (f"among the newest {keep_newest}" if row.number in newest else None)
        if reason is None:
            mark.append(id)
        else:
            kept[str(id)] = reason
            bodies.add(row.body)
    return _Plan(mark=tuple(mark), kept=kept, bodies_kept=frozenset(bodies))


def _named(
    connection: Connection, with_body: set[tuple[str, int]]
) -> tuple[dict[ReleaseId, str], dict[ReleaseId, str]]:
    """Return the releases that services name, and their ways back, each with the reason it stays."""
    live: dict[ReleaseId, str] = {}
    back: dict[ReleaseId, str] = {}
    for row in connection.execute(sa.select(schema.services)):
        traffic = decode(row.record.encode(), Service).traffic
        for text in traffic.names:
            id = _id(text)
            live[id] = f"service `{row.name}` answers from it when it runs"
            before = [number for name, number in with_body if name == id.name and number < id.number]
            if before:
                back[ReleaseId(name=id.name, number=max(before))] = f"the way back of `{id}`"
        before_it = [traffic.previous] if traffic.previous is not None else []
        for text in (*before_it, *decode(row.previous.encode(), list[str])):
            back.setdefault(_id(text), f"service `{row.name}` answered from it before")
    return live, back


def _id(text: str) -> ReleaseId:
    name, number = parse_release(text)
    return ReleaseId(name=name, number=number or 0)


def _mark(connection: Connection, ids: tuple[ReleaseId, ...], moment: str) -> None:
    table = schema.releases
    for id in ids:
        place = (table.c.name == id.name, table.c.number == id.number)
        connection.execute(sa.update(table).where(*place).values(collected=moment))


def _temporary(home: Path) -> list[Path]:
    """Return what atomic writes, stages and sealings leave behind when killed; never looks inside bodies or stages."""
    places = (home, home / "audit", home / "stages", home / "bodies")
    found = [p for place in places if place.is_dir() for p in place.iterdir() if _is_temporary(p.name)]
    return found + [path for path in (home / "releases").rglob(".*.tmp") if path.is_file()]


def _is_temporary(name: str) -> bool:
    return name.startswith((TEMPORARY, TRASH)) or (name.startswith(".") and name.endswith(".tmp"))


def _changed(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _is_free(path: Path) -> bool:
    """Whether no process is building in a temporary folder; files have no such mark, only their age."""
    if not path.is_dir():
        return True
    try:
        handle = open_folder(path)
    except FileNotFoundError:
        return False
    try:
        return try_lock(handle)
    finally:
        os.close(handle)
