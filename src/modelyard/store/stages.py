"""Outcomes of finished stages, kept by the hash of what went in."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import msgspec

from modelyard.core.clock import Clock, stamp
from modelyard.core.codec import decode, encode, sync_folder, write_atomic
from modelyard.core.ids import new_id
from modelyard.core.ports import Audit
from modelyard.errors import StoreConflict, StoreError, UsageError
from modelyard.store.folder import (
    TEMPORARY,
    FileFact,
    disk,
    find_fault,
    inventory,
    move_to_trash,
    remove,
    size_of,
    sync_tree,
)
from modelyard.store.lock import locked, open_folder, try_lock
from modelyard.store.room import Room

MANIFEST = ".stage.json"
_KEY = re.compile(r"^[0-9A-Za-z][0-9A-Za-z_-]{0,127}$")
_PLACE_ATTEMPTS, _PLACE_PAUSE_S = 200, 0.01


class StageManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Written last into a stage's folder; its modification time is when the stage was last used."""

    format: int
    key: str
    kept: str
    files: dict[str, FileFact]


class FolderStages:
    """The Stages port over `folder/<key>/`.

    A stage is built in a temporary folder and renamed into place once its manifest is durable, so
    what stands under a key is whole or altered, never half. A folder that this process was given is
    held by a shared lock until `close` or the process ends; a collection leaves it alone.
    """

    def __init__(self, folder: Path, *, audit: Audit, clock: Clock, room: Room) -> None:
        self._folder, self._audit, self._clock, self._room = folder, audit, clock, room
        self._held: dict[str, int] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def find(self, key: str) -> Path | None:
        """Return the folder kept under `key`, whole and unaltered, or None.

        A folder with a missing, altered or extra file is removed, and the removal is on the audit log.
        """
        folder = self._folder / _check_key(key)
        if not self._hold(key):
            return None
        if _fault(folder) is None:
            self._touch(folder)
            return folder
        self._let_go(key)
        self._discard(key)
        return None

    def keep(self, key: str, build: Callable[[Path], None]) -> Path:
        """Let `build` fill a new folder, then keep it under `key`, all or nothing.

        What is already there is returned without building. Where two processes build one key, the
        first to finish wins and both get its folder.
        """
        found = self.find(key)
        if found is not None:
            return found
        self._room.ensure(0)
        work = self._folder / f"{TEMPORARY}{new_id(key)}"
        work.mkdir(mode=0o700)
        handle = open_folder(work)
        try_lock(handle)  # says "being built" to a collection
        try:
            build(work)
            with disk(self._folder):
                self._complete(work, key)
                placed = self._place(work, key)
        except BaseException:
            os.close(handle)
            remove(work)
            raise
        if placed:
            try_lock(handle, shared=True)
            self._held[key] = handle
        else:
            os.close(handle)
            remove(work)
        return self._folder / key

    def last_used(self) -> list[tuple[float, str]]:
        """Return (seconds since 1970, key) of every stage, the longest unused first."""
        return sorted((_used(path), path.name) for path in self._folder.iterdir() if _KEY.match(path.name))

    def remove_unused(self, key: str) -> bool:
        """Remove a stage unless a process holds it; say whether it went."""
        folder = self._folder / _check_key(key)
        with locked(self._folder / ".lock"):
            try:
                handle = open_folder(folder)
            except FileNotFoundError:
                return False
            try:
                trash = move_to_trash(folder) if try_lock(handle) else None
            finally:
                os.close(handle)
        if trash is not None:
            remove(trash)
        return trash is not None

    def is_free(self, key: str) -> bool:
        """Whether no process holds a stage."""
        try:
            handle = open_folder(self._folder / _check_key(key))
        except FileNotFoundError:
            return False
        try:
            return try_lock(handle)
        finally:
            os.close(handle)

    def size_bytes(self, key: str) -> int:
        return size_of(self._folder / _check_key(key))

    def close(self) -> None:
        """Let go of every folder handed out; twice is harmless."""
        for key in list(self._held):
            self._let_go(key)

    def _hold(self, key: str) -> bool:
        """Lock the folder of `key` against collections; False if there is none, or one is taking it."""
        if key in self._held and _same(self._held[key], self._folder / key):
            return True
        self._let_go(key)
        try:
            handle = open_folder(self._folder / key)
        except (FileNotFoundError, NotADirectoryError):
            return False
        if not try_lock(handle, shared=True) or not _same(handle, self._folder / key):
            os.close(handle)
            return False
        self._held[key] = handle
        return True

    def _let_go(self, key: str) -> None:
        handle = self._held.pop(key, None)
        if handle is not None:
            os.close(handle)

    def _complete(self, work: Path, key: str) -> None:
        """Write the manifest of a built folder and make all of it durable."""
        if (work / MANIFEST).exists():
            raise StoreError(f"Stage `{key}` wrote `{MANIFEST}`, a name kept for the store. Name the file otherwise.")
        files = inventory(work)
        sync_tree(work)
        manifest = StageManifest(format=1, key=key, kept=stamp(self._clock.now()), files=files)
        write_atomic(work / MANIFEST, encode(manifest), mode=0o600)
        self._touch(work)
        self._room.ensure(0)  # the folder counts already; over the quota it goes again

    def _place(self, work: Path, key: str) -> bool:
        """Move a complete folder under its key; False if another whole one stands there."""
        for _ in range(_PLACE_ATTEMPTS):
            try:
                work.rename(self._folder / key)
            except OSError as fault:
                if fault.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            else:
                sync_folder(self._folder)
                return True
            if self.find(key) is not None:
                return False
            time.sleep(_PLACE_PAUSE_S)  # a collection is taking the old folder away
        raise StoreConflict(f"Stage `{key}` could not be put in place: another process keeps changing it. Run again.")

    def _discard(self, key: str) -> None:
        """Remove an altered stage, on the audit log; a whole one that came meanwhile stays."""
        folder, trash = self._folder / key, None
        with locked(self._folder / ".lock"):
            fault = _fault(folder)
            if fault is None or not folder.exists():
                return
            with self._audit.change("stage.discard", resources=[f"stage:{key}"], rollback_available=False) as detail:
                detail["reason"] = fault
                trash = move_to_trash(folder)
        if trash is not None:
            remove(trash)

    def _touch(self, folder: Path) -> None:
        now = _seconds(self._clock.now())
        os.utime(folder / MANIFEST, (now, now))


def _fault(folder: Path) -> str | None:
    """Say what is wrong with a stage's folder, or None."""
    try:
        manifest = decode((folder / MANIFEST).read_bytes(), StageManifest)
        if manifest.key != folder.name:
            return f"`{folder}` holds the manifest of another key, `{manifest.key}`"
        fault = find_fault(folder, manifest.files, beside=frozenset({MANIFEST}))
    except FileNotFoundError as missing:
        return f"`{missing.filename}` is missing"
    except (msgspec.DecodeError, StoreError) as broken:
        return f"`{folder}` cannot be read as a stage: {broken}"
    return None if fault is None else str(fault)


def _check_key(key: str) -> str:
    if not _KEY.match(key):
        raise UsageError(
            f"`{key}` cannot be a stage's key: wanted 1 to 128 of 0-9, a-z, A-Z, `_` and `-`, as in a hash."
        )
    return key


def _same(handle: int, path: Path) -> bool:
    """Whether an open folder still stands at `path`."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _used(folder: Path) -> float:
    try:
        return (folder / MANIFEST).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _seconds(moment: datetime) -> float:
    return moment.timestamp()
