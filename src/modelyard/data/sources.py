"""Find the files of a table, and say what is wrong with them before they are read."""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from modelyard.core.data_plan import Format
from modelyard.errors import DataError, EmptyData, Unreadable, WrongFormat

_ENDINGS = {
    ".csv": Format.CSV,
    ".tsv": Format.CSV,
    ".txt": Format.CSV,
    ".parquet": Format.PARQUET,
    ".pq": Format.PARQUET,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
}
_ARCHIVES = {
    b"PK\x03\x04": "a ZIP archive (an Excel workbook, perhaps)",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"\x7fELF": "a program",
    b"%PDF": "a PDF document",
    b"SQLite": "an SQLite database",
}
_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"


@dataclass(frozen=True)
class Source:
    """One file of a table."""

    path: Path
    name: str  # as people read it in messages and records
    format: Format
    gzipped: bool
    size_bytes: int

    def open(self) -> tuple[IO[bytes], IO[bytes]]:
        """Return the file for its bytes, unpacked, and the file below it, whose place tells how far it is."""
        raw = open_file(self.path, self.name)
        return (cast(IO[bytes], gzip.GzipFile(fileobj=raw, mode="rb")) if self.gzipped else raw), raw


def find(path: Path, format: Format) -> tuple[Source, ...]:
    """Return the files at `path`: the file itself, or the parts in the folder, sorted by name.

    Raises: Unreadable, EmptyData or WrongFormat with what was seen and what to do.
    """
    try:
        there = path.exists()
    except OSError as error:
        raise Unreadable(f"`{path}` cannot be reached by this user: {error.strerror}.") from error
    if not there:
        raise Unreadable(f"`{path}` is not there{_nearby(path)}. Set `data.path` to a file or a folder of parts.")
    if path.is_dir():
        return _parts(path, format)
    return (_source(path, str(path), format),)


def digest(sources: Sequence[Source]) -> str:
    """Return the SHA-256 over the files' bytes, in order."""
    total = hashlib.sha256()
    for source in sources:
        with open_file(source.path, source.name) as file:
            while block := file.read(1 << 20):
                total.update(block)
    return total.hexdigest()


def check_unchanged(sources: Sequence[Source]) -> None:
    """Raise DataError if a file's size is not what it was when it was found."""
    for source in sources:
        size = source.path.stat().st_size if source.path.exists() else 0
        if size != source.size_bytes:
            raise DataError(
                f"`{source.name}` changed while it was read: {source.size_bytes} bytes before, {size} after. "
                "Run again once it is written whole."
            )


def open_file(path: Path, name: str) -> IO[bytes]:
    """Open a file for its bytes; raises Unreadable in words."""
    try:
        return path.open("rb")
    except PermissionError as error:
        raise Unreadable(
            f"`{name}` may not be read by this user (mode {stat.filemode(_mode(path))}). "
            f"Give it permission, as in: chmod u+r {path}"
        ) from error
    except OSError as error:
        raise Unreadable(f"`{name}` cannot be opened: {error.strerror}.") from error


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _parts(folder: Path, format: Format) -> tuple[Source, ...]:
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith((".", "_")))
    except PermissionError as error:
        raise Unreadable(f"The folder `{folder}` may not be listed by this user.") from error
    files = [entry for entry in entries if entry.is_file()]
    data = [entry for entry in files if _by_ending(entry) is not None]
    if format is not Format.AUTO:
        data = [entry for entry in data if _by_ending(entry) is format] or files
    if not data:
        seen = ", ".join(f"`{entry.name}`" for entry in entries[:5]) or "nothing"
        raise EmptyData(
            f"The folder `{folder}` holds no data file; seen: {seen}. Wanted: files that end in {_endings()}."
        )
    sources = tuple(_source(entry, str(entry), format) for entry in data)
    other = next((source for source in sources if source.format is not sources[0].format), None)
    if other is not None:
        raise WrongFormat(
            f"The folder `{folder}` mixes formats: `{sources[0].path.name}` is {sources[0].format}, "
            f"`{other.path.name}` is {other.format}. Put one format into one folder, or set `data.format`."
        )
    return sources


def _source(path: Path, name: str, format: Format) -> Source:
    if not path.is_file():
        raise Unreadable(f"`{name}` is neither a file nor a folder. Set `data.path` to one of them.")
    with open_file(path, name) as file:
        head, size = file.read(8), os.fstat(file.fileno()).st_size
    if size == 0:
        raise EmptyData(f"`{name}` is empty (0 bytes).")
    archive = next((words for magic, words in _ARCHIVES.items() if head.startswith(magic)), None)
    if archive is not None:
        raise WrongFormat(f"`{name}` is {archive}. Wanted: CSV or JSON lines, plain or gzipped, or Parquet.")
    told = format if format is not Format.AUTO else _by_ending(path)
    if told is None:
        raise WrongFormat(
            f"`{name}`: the ending does not tell the format. Wanted: {_endings()}; or set `data.format` to "
            "`csv`, `parquet` or `jsonl`."
        )
    if head.startswith(_PARQUET) != (told is Format.PARQUET):
        seen = "Parquet" if head.startswith(_PARQUET) else "not Parquet"
        raise WrongFormat(f"`{name}` is taken for {told}, but its first bytes say it is {seen}. Set `data.format`.")
    return Source(path=path, name=name, format=told, gzipped=head.startswith(_GZIP), size_bytes=size)


def _by_ending(path: Path) -> Format | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in (".gz", ".gzip"):
        suffixes.pop()
    return _ENDINGS.get(suffixes[-1]) if suffixes else None


def _endings() -> str:
    return ", ".join(f"`{ending}`" for ending in _ENDINGS) + " (CSV and JSON lines also with `.gz`)"


def _nearby(path: Path) -> str:
    """Name the part of a path that is there, so that a typing mistake shows."""
    there = next((parent for parent in path.parents if parent.is_dir()), None)
    if there is None or there != path.parent:
        return f" (nor is the folder `{path.parent}`)"
    try:
        names = sorted(entry.name for entry in there.iterdir() if _by_ending(entry) is not None)[:5]
    except OSError:  # a folder that may not be listed tells nothing more
        return ""
    return f"; the folder has: {', '.join(f'`{name}`' for name in names)}" if names else ""
