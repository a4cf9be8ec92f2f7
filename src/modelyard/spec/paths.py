"""Whether there is something at a data path, and whether it is what the spec says it is."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from modelyard.core.data_plan import Format
from modelyard.spec.faults import Fault, Place, nearest, quoted
from modelyard.spec.world import World

MOST_ENTRIES = 10_000  # of a folder that are looked at
LONGEST_SHOWN = 300  # characters of a path in a fault


ENDINGS = {
    ".csv": Format.CSV,
    ".tsv": Format.CSV,
    ".txt": Format.CSV,
    ".parquet": Format.PARQUET,
    ".pq": Format.PARQUET,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
}
PACKED = (".gz", ".gzip")


def format_of(name: str) -> Format | None:
    """Return the format that a file's name tells, or None.

    >>> format_of("part-1.CSV.gz"), format_of("rows.dat")
    (<Format.CSV: 'csv'>, None)
    """
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return ENDINGS.get(suffixes[-1]) if suffixes else None


def path_faults(place: Place, text: str, wanted: Format, world: World) -> Iterator[Fault]:
    """Yield the first thing that keeps the rows at a path from being read."""
    try:
        path = world.folder / text
        mode = path.stat().st_mode
    except FileNotFoundError:
        yield Fault(
            place=place,
            seen=f"{_shown(text)}, where nothing is",
            wanted=f"a file or folder that exists, from {_shown(str(world.folder))}",
            nearest=_neighbour(world.folder / text),
        )
        return
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        yield Fault(place=place, seen=f"{_shown(text)} ({_reason(error)})", wanted="a path that can be opened")
        return
    if stat.S_ISDIR(mode):
        yield from _folder_faults(place, text, path, wanted)
    elif not stat.S_ISREG(mode):
        yield Fault(
            place=place, seen=f"{_shown(text)}, which is neither a file nor a folder", wanted="a file or folder"
        )
    else:
        yield from _file_faults(place, text, path, wanted)


def _file_faults(place: Place, text: str, path: Path, wanted: Format) -> Iterator[Fault]:
    told = format_of(path.name)
    if path.stat().st_size == 0:
        yield Fault(place=place, seen=f"{_shown(text)}, an empty file", wanted="a file with rows")
    elif not os.access(path, os.R_OK):
        yield Fault(place=place, seen=f"{_shown(text)}, which may not be read", wanted="a file with read permission")
    elif told is None and wanted is Format.AUTO:
        yield Fault(
            place=place,
            seen=f"{_shown(text)}, whose name tells no format",
            wanted=f"a name that ends in one of {', '.join(ENDINGS)}, or `data.format`",
            reads=(("data", "format"),),
        )
    elif told is not None and wanted not in (Format.AUTO, told):
        yield Fault(
            place=("data", "format"),
            seen=f"{wanted.value} for {_shown(text)}",
            wanted=f"{told.value}, as the name says, or auto",
            reads=(place,),
        )


def _folder_faults(place: Place, text: str, path: Path, wanted: Format) -> Iterator[Fault]:
    try:
        names = sorted(entry.name for entry in itertools.islice(os.scandir(path), MOST_ENTRIES) if _is_part(entry))
    except OSError as error:
        yield Fault(place=place, seen=f"{_shown(text)} ({_reason(error)})", wanted="a folder with read permission")
        return
    told = {kind: name for name in reversed(names) if (kind := format_of(name)) is not None}
    if not told:
        yield Fault(
            place=place, seen=f"the folder {_shown(text)} without a data file in it",
            wanted=f"parts that end in one of {', '.join(ENDINGS)}",
        )  # fmt: skip
    elif wanted is Format.AUTO and len(told) > 1:
        seen = " and ".join(_shown(name) for name in told.values())
        yield Fault(
            place=place, seen=f"parts of several formats: {seen}", wanted="one format, or `data.format` to say which",
            reads=(("data", "format"),),
        )  # fmt: skip
    elif wanted is not Format.AUTO and wanted not in told:
        yield Fault(
            place=("data", "format"), seen=f"{wanted.value} for the folder {_shown(text)}",
            wanted=f"{next(iter(told)).value}, as the names of its parts say, or auto", reads=(place,),
        )  # fmt: skip


def _is_part(entry: os.DirEntry[str]) -> bool:
    return not entry.name.startswith((".", "_")) and entry.is_file()


def _neighbour(path: Path) -> str:
    """Return the name in the same folder that looks most like the one that is not there."""
    try:
        names = [entry.name for entry in itertools.islice(os.scandir(path.parent), 1000)]
    except (OSError, ValueError):
        return ""
    found = nearest(path.name, names)
    return _shown(found) if found else ""


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__


def _shown(path: str) -> str:
    return quoted(path, most=LONGEST_SHOWN)
