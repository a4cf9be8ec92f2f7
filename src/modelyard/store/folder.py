"""Folders as wholes: what is in them, whether it is still the same, durable, gone."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from modelyard.core.codec import digest_file, sync_folder
from modelyard.core.ids import new_id
from modelyard.errors import StoreError

TEMPORARY, TRASH = ".tmp-", ".trash-"


class FileFact(msgspec.Struct, frozen=True, kw_only=True):
    """A file's SHA-256 and its size in bytes. Further fields of a manifest are let through."""

    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A file that is not what the manifest says; `seen` is a digest, a size or `nothing`."""

    file: str
    seen: str
    wanted: str

    def __str__(self) -> str:
        return f"`{self.file}` differs: seen {self.seen}, wanted {self.wanted}"


@contextmanager
def disk(folder: Path) -> Iterator[None]:
    """Turn an error of the disk in the block into a StoreError that says what to do."""
    try:
        yield
    except OSError as fault:
        raise StoreError(
            f"The store cannot write below `{folder}`: {fault}. "
            f"Check that the disk has room and that this user may write there; what was kept before is whole."
        ) from fault


def names(folder: Path) -> Iterator[str]:
    """Yield every file below a folder as a relative name with `/`; raises StoreError on a link or device."""
    for parent, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(parent, name)
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                yield path.relative_to(folder).as_posix()
            elif not stat.S_ISDIR(mode):
                raise StoreError(f"`{path}` is neither a file nor a folder (a link, say); only these can be kept.")


def inventory(folder: Path) -> dict[str, FileFact]:
    """Return hash and size of every file below a folder."""
    return {
        name: FileFact(sha256=digest_file(folder / name), size=(folder / name).stat().st_size)
        for name in sorted(names(folder))
    }


def find_fault(folder: Path, wanted: Mapping[str, FileFact], *, beside: frozenset[str]) -> Fault | None:
    """Return the first file that is missing, altered or extra, or None; `beside` may be there as well."""
    for name, fact in wanted.items():
        path = folder / name
        if path.is_symlink() or not path.is_file():
            return Fault(file=str(path), seen="nothing", wanted=f"sha256 {fact.sha256}")
        size = path.stat().st_size
        if size != fact.size:
            return Fault(file=str(path), seen=f"{size} bytes", wanted=f"{fact.size} bytes, sha256 {fact.sha256}")
        seen = digest_file(path)
        if seen != fact.sha256:
            return Fault(file=str(path), seen=f"sha256 {seen}", wanted=f"sha256 {fact.sha256}")
    for name in names(folder):
        if name not in wanted and name not in beside:
            return Fault(file=str(folder / name), seen="a file", wanted="no file of that name")
    return None


def sync_tree(folder: Path) -> None:
    """Make every file and entry below a folder durable."""
    for parent, _, files in os.walk(folder, topdown=False):
        for name in files:
            handle = os.open(Path(parent, name), os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        sync_folder(Path(parent))


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder; what vanishes meanwhile counts nothing."""
    if not path.is_dir() or path.is_symlink():
        return _size(path)
    return sum(_size(Path(parent, name)) for parent, _, files in os.walk(path) for name in files)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all in it, read-only or not; nothing there is harmless."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    for parent, _, _ in os.walk(path):
        Path(parent).chmod(0o700)
    shutil.rmtree(path, ignore_errors=True)  # a leftover is found again by the next collection


def move_to_trash(path: Path) -> Path | None:
    """Take a folder out of sight in one step and return where it went; None if it was not there."""
    trash = path.with_name(f"{TRASH}{new_id(path.name)}")
    try:
        path.rename(trash)
    except FileNotFoundError:
        return None
    sync_folder(path.parent)
    return trash


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0
