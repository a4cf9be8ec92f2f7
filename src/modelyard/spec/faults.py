"""A fault of a spec: where it is, what was seen, what was wanted, the nearest valid name."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Place = tuple[str | int, ...]
"""The way from the root of the spec to a value: ("requirements", 1, "metric")."""

MOST_FAULTS = 100
_MOST_CHARACTERS = 60
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")


@dataclass(frozen=True)
class Marks:
    """The line, from 1, on which each value of a file is set."""

    lines: Mapping[Place, int]

    def line(self, place: Place) -> int:
        """Return the line of a value, or of the nearest part around it that is set."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def __contains__(self, place: object) -> bool:
        return place in self.lines


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is off.

    `reads` are other places that the fault was concluded from, `also` is one to look at beside it.
    `line` and `column` are set where the file could not be read as values; otherwise the line is
    looked up by place.
    """

    place: Place
    seen: str
    wanted: str
    nearest: str = ""
    reads: tuple[Place, ...] = ()
    also: Place | None = None
    line: int | None = None
    column: int | None = None

    def told(self, file: str, marks: Marks) -> str:
        """Return the fault as one line."""
        line = self.line if self.line is not None else marks.line(self.place)
        at = f"{file}:{line}" if self.column is None else f"{file}:{line}:{self.column}"
        tail = f" (nearest: {self.nearest})" if self.nearest else ""
        see = f" (see line {marks.line(self.also)})" if self.also is not None else ""
        return f"{at}: {dotted(self.place)}: saw {self.seen}, wanted {self.wanted}{see}{tail}"


def tell(faults: Iterable[Fault], file: str, marks: Marks) -> tuple[str, ...]:
    """Return faults as lines in the order of the file, at most `MOST_FAULTS`.

    Where reading a value already failed, what was concluded from it is left out.
    """
    found = tuple(faults)
    unread = {fault.place for fault in found if fault.line is not None}
    kept = [fault for fault in found if fault.line is not None or fault.place not in unread]
    ordered = sorted(kept, key=lambda one: one.line if one.line is not None else marks.line(one.place))
    lines = list(dict.fromkeys(one.told(file, marks) for one in ordered))
    if len(lines) > MOST_FAULTS:
        lines = [*lines[:MOST_FAULTS], f"{file}: and {len(lines) - MOST_FAULTS} more; mend these first."]
    return tuple(lines)


def dotted(place: Place) -> str:
    """Return a place as people write it.

    >>> dotted(("requirements", 1, "metric")), dotted(("data", "columns", "hours per week", "role"))
    ('requirements[1].metric', 'data.columns["hours per week"].role')
    """
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f"[{quoted(part)}]"
    return text or "the file"


def quoted(text: str, *, most: int = _MOST_CHARACTERS) -> str:
    """Return text in quotes on one line, shortened, nothing in it that a terminal would obey."""
    return in_quotes(text if len(text) <= most else text[:most] + "…")


def in_quotes(text: str) -> str:
    r"""Return text as a double-quoted YAML scalar on one line; what cannot be printed is escaped.

    >>> print(in_quotes('a "b"\n\x7f'))
    "a \"b\"\n\U0000007f"
    """
    shown = json.dumps(text, ensure_ascii=False)
    return "".join(sign if sign.isprintable() else f"\\U{ord(sign):08x}" for sign in shown)


def show(value: object) -> str:
    """Return a value as a person would name it.

    >>> show("1.5"), show(1.5), show(True), show(None), show([1, 2]), show({"a": 1})
    ('"1.5"', '1.5', 'true', 'nothing', 'a list of 2', 'a mapping with a')
    """
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, Mapping):
        return (
            f"a mapping with {listed([dotted((str(key),)) for key in value], most=4)}" if value else "an empty mapping"
        )
    return repr(value)


def listed(names: Sequence[str], *, most: int = 30) -> str:
    """Return names with commas between them, the count where some were left out."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that looks most like `name`, or nothing where none does.

    >>> nearest("roc_uac", ["accuracy", "roc_auc"]), nearest("zzz", ["accuracy"])
    ('roc_auc', '')
    """
    by_small = {one.lower(): one for one in known}
    found = difflib.get_close_matches(name[:_MOST_CHARACTERS].lower(), by_small, n=1, cutoff=0.6)
    return by_small[found[0]] if found else ""
