"""Bodies of releases: folders named by the hash of their manifest, never changed."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath

import msgspec

from modelyard.core.codec import decode, digest, sync_folder
from modelyard.core.ids import new_id
from modelyard.errors import BundleAltered, BundleFormat, StoreConflict, StoreError
from modelyard.store.folder import TEMPORARY, FileFact, find_fault, move_to_trash, names, remove
from modelyard.store.lock import locked, open_folder, try_lock
from modelyard.store.room import Room

MANIFEST = "manifest.json"
_PIECE_BYTES = 1 << 20
_DIGEST_LENGTH = 64


class BodyManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What the store reads of a bundle's manifest; further fields are the bundle's own affair."""

    files: dict[str, FileFact]


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """A body in place: its name, and the bytes of its files with the manifest."""

    digest: str
    size_bytes: int


class Bodies:
    """Bodies in `folder/<digest>/`, files 0444 and folders 0555.

    Sealing holds `in_use()` from the first byte to the committed row and a collection holds
    `alone()`, so that a body is never taken away from under a release that is about to name it.
    """

    def __init__(self, folder: Path, *, room: Room) -> None:
        self._folder, self._room = folder, room
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def in_use(self) -> AbstractContextManager[None]:
        return locked(self._folder / ".lock", shared=True)

    def alone(self) -> AbstractContextManager[None]:
        return locked(self._folder / ".lock")

    def place(self, source: Path) -> Body:
        """Copy the body in folder `source` into the store, each file checked against the manifest.

        Raises: BundleAltered where a file differs, BundleFormat where the manifest cannot be read
        or the folder holds a file that it does not name, QuotaExceeded.
        """
        data = _read_manifest(source)
        manifest = _parse(data, source)
        body = Body(digest=digest(data), size_bytes=len(data) + sum(fact.size for fact in manifest.files.values()))
        _refuse_extra(source, manifest)
        target = self._folder / body.digest
        if target.exists() and _is_whole(target, body.digest):
            return body
        self._room.ensure(body.size_bytes)
        with self._work_folder(body.digest) as work:
            for name, fact in manifest.files.items():
                _copy(source / name, work / name, fact)
            _write(work / MANIFEST, data)
            _freeze(work)
            self._move_in(work, target, body.digest)
        return body

    def open(self, body: str) -> Path:
        """Return the folder of a body, every byte verified; raises BundleAltered."""
        folder = self._folder / body
        verify(folder, body)
        return folder

    def all(self) -> list[str]:
        """Return the digests of the bodies in place."""
        return sorted(path.name for path in self._folder.iterdir() if len(path.name) == _DIGEST_LENGTH)

    def path(self, body: str) -> Path:
        return self._folder / body

    def remove(self, body: str) -> None:
        """Take a body away; in one step out of sight, then its bytes."""
        trash = move_to_trash(self._folder / body)
        if trash is not None:
            remove(trash)

    @contextmanager
    def _work_folder(self, name: str) -> Iterator[Path]:
        """Give a temporary folder that a collection leaves alone; what is left of it goes at the end."""
        work = self._folder / f"{TEMPORARY}{new_id(name[:12])}"
        work.mkdir(mode=0o700)
        handle = open_folder(work)
        try:
            try_lock(handle)
            yield work
        finally:
            os.close(handle)
            remove(work)

    def _move_in(self, work: Path, target: Path, body: str) -> None:
        """Rename a finished copy into place; a whole one already there wins, an altered one goes."""
        for _ in range(3):
            try:
                work.rename(target)
            except OSError as fault:
                if fault.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            else:
                sync_folder(self._folder)
                return
            if _is_whole(target, body):
                return
            self.remove(body)
        raise StoreConflict(f"Body `{body}` could not be put in place: another process keeps changing it. Run again.")


def verify(folder: Path, body: str) -> None:
    """Check every byte of a body against its digest.

    Raises: BundleAltered naming the file with what was seen and wanted.
    """
    data = _read_manifest(folder)
    if digest(data) != body:
        raise BundleAltered(
            f"`{folder / MANIFEST}` differs: seen sha256 {digest(data)}, wanted sha256 {body}. {_ADVICE}"
        )
    fault = find_fault(folder, _parse(data, folder).files, beside=frozenset({MANIFEST}))
    if fault is not None:
        raise BundleAltered(f"{fault}. {_ADVICE}")


_ADVICE = "The body is not what was sealed: restore it from a copy, or run the spec again."


def _is_whole(folder: Path, body: str) -> bool:
    try:
        verify(folder, body)
    except (BundleAltered, BundleFormat, StoreError):
        return False
    return True


def _read_manifest(folder: Path) -> bytes:
    try:
        return (folder / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as fault:
        raise BundleAltered(f"`{folder / MANIFEST}` differs: seen nothing, wanted a manifest. {_ADVICE}") from fault


def _parse(data: bytes, folder: Path) -> BodyManifest:
    try:
        manifest = decode(data, BodyManifest)
    except msgspec.DecodeError as fault:
        raise BundleFormat(
            f"`{folder / MANIFEST}` cannot be read: {fault}. "
            f'Wanted JSON with `files`: {{name: {{"sha256": ..., "size": ...}}}}.'
        ) from fault
    for name in manifest.files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or str(path) != name or name in ("", ".", MANIFEST):
            raise BundleFormat(f"`{folder / MANIFEST}` names `{name}`; wanted a plain relative name below the folder.")
    return manifest


def _refuse_extra(source: Path, manifest: BodyManifest) -> None:
    extra = sorted(set(names(source)) - set(manifest.files) - {MANIFEST})
    if extra:
        shown = ", ".join(f"`{name}`" for name in extra[:5])
        raise BundleFormat(f"`{source}` holds {shown}, which its manifest does not name. Remove it or pack again.")


def _copy(source: Path, target: Path, fact: FileFact) -> None:
    """Copy a file durably and check what was copied."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    seen = hashlib.sha256()
    try:
        with source.open("rb") as reader, target.open("xb") as writer:
            while piece := reader.read(_PIECE_BYTES):
                seen.update(piece)
                writer.write(piece)
            writer.flush()
            os.fsync(writer.fileno())
    except FileNotFoundError as fault:
        raise BundleAltered(f"`{source}` differs: seen nothing, wanted sha256 {fact.sha256}. Pack again.") from fault
    if seen.hexdigest() != fact.sha256 or target.stat().st_size != fact.size:
        raise BundleAltered(
            f"`{source}` differs: seen {target.stat().st_size} bytes, sha256 {seen.hexdigest()}, "
            f"wanted {fact.size} bytes, sha256 {fact.sha256}. Pack again."
        )


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _freeze(folder: Path) -> None:
    """Make files 0444 and folders 0555, and their entries durable."""
    for parent, _, files in os.walk(folder, topdown=False):
        for name in files:
            Path(parent, name).chmod(0o444)
        sync_folder(Path(parent))
        Path(parent).chmod(0o555)
