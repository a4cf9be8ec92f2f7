"""Reads YAML into plain values with the line of each, within bounds that no file can break.

YAML is read by the core schema of version 1.2, so `yes`, `no` and `on` stay text and `1e-3` is a
number. Values are built from the parser's events, one at a time, so a file that would grow beyond
the bounds is refused before it does.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from modelyard.spec.faults import Fault, Marks, Place, quoted

MOST_BYTES = 1 << 20
MOST_DEPTH = 32
MOST_NODES = 10_000
MOST_ALIASES = 100
_CORE = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_NULL = ("", "~", "null", "Null", "NULL")
_BOOLEAN = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


@dataclass(frozen=True)
class Tree:
    """What a file says: values (None where it could not be read), their lines, and its faults."""

    value: Any
    marks: Marks
    faults: tuple[Fault, ...]


def read(data: bytes) -> Tree:
    """Return the values in YAML bytes; what is off is among the faults, nothing is raised."""
    if len(data) > MOST_BYTES:
        return _unreadable(1, None, f"{len(data)} bytes or more", f"at most {MOST_BYTES} bytes")
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line, column = _position(data[: error.start].decode("utf-8"))
        return _unreadable(line, column, f"the byte 0x{data[error.start]:02x}", "text in UTF-8")
    builder = _Builder(text)
    try:
        value = builder.document()
    except _Refused as refused:
        return Tree(None, Marks({}), (*builder.faults, refused.fault))
    except yaml.reader.ReaderError as error:
        line, column = _position(text[: error.position])
        return _unreadable(line, column, f"the character U+{_code(error.character):04X}", "text that can be printed")
    except yaml.MarkedYAMLError as error:
        return _unreadable(*_told(error))
    except (ValueError, OverflowError):  # PyYAML on an escape or version number beyond what Python can hold
        return _unreadable(builder.line, None, "a number or an escape beyond any use", "valid YAML")
    return Tree(value, Marks(builder.lines), tuple(builder.faults))


def resolve(text: str) -> Any:
    """Return what plain text means: null, a boolean, a number or the text itself.

    >>> resolve("1e-3"), resolve("yes"), resolve("~"), resolve("0x10")
    (0.001, 'yes', None, 16)
    """
    if text in _NULL:
        return None
    if text in _BOOLEAN:
        return _BOOLEAN[text]
    if _INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", ""))
    return text


class _Refused(Exception):
    """The file cannot be read on from here."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        super().__init__(fault.seen)


@dataclass(frozen=True)
class _Anchored:
    value: Any
    place: Place
    nodes: int
    height: int


class _Builder:
    """Builds values from the parser's events, counting as it goes."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[Any] = yaml.parse(text, Loader=yaml.SafeLoader)
        self._anchors: dict[str, _Anchored | None] = {}  # None while the part is still open
        self._nodes = self._aliases = 0
        self._deepest = 0
        self.line = 1
        self.lines: dict[Place, int] = {}
        self.faults: list[Fault] = []

    def document(self) -> Any:
        """Return the value of the only document."""
        self._next()  # the start of the stream
        if isinstance(self._next(), yaml.StreamEndEvent):
            raise self._refuse("an empty file", "a spec; `modelyard init` writes one")
        value = self._value(self._next(), (), 1)
        self._next()  # the end of the document
        if not isinstance(self._next(), yaml.StreamEndEvent):
            raise self._refuse("a second document", "one document in the file")
        return value

    def _next(self) -> Any:
        event = next(self._events)
        self.line = event.start_mark.line + 1
        return event

    def _refuse(self, seen: str, wanted: str, place: Place = ()) -> _Refused:
        return _Refused(Fault(place=place, seen=seen, wanted=wanted, line=self.line))

    def _note(self, seen: str, wanted: str, place: Place) -> None:
        self.faults.append(Fault(place=place, seen=seen, wanted=wanted, line=self.line))

    def _count(self, depth: int, nodes: int = 1) -> None:
        self._nodes += nodes
        self._deepest = max(self._deepest, depth)
        if self._nodes > MOST_NODES:
            raise self._refuse(f"more than {MOST_NODES} values", f"at most {MOST_NODES}, aliases written out")
        if depth > MOST_DEPTH:
            raise self._refuse(f"more than {MOST_DEPTH} levels", f"at most {MOST_DEPTH} levels, one in another")

    def _value(self, event: Any, place: Place, depth: int) -> Any:
        self.lines.setdefault(place, self.line)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event.anchor, place, depth)
        self._count(depth)
        if event.anchor is None:
            return self._own(event, place, depth)
        self._anchors[event.anchor] = None
        nodes, outer, self._deepest = self._nodes, self._deepest, depth
        value = self._own(event, place, depth)
        height = self._deepest - depth
        self._anchors[event.anchor] = _Anchored(value, place, self._nodes - nodes + 1, height)
        self._deepest = max(outer, self._deepest)
        return value

    def _own(self, event: Any, place: Place, depth: int) -> Any:
        if isinstance(event, yaml.SequenceStartEvent):
            self._check_tag(event, place, "seq")
            return self._sequence(place, depth)
        if isinstance(event, yaml.MappingStartEvent):
            self._check_tag(event, place, "map")
            return self._mapping(place, depth)
        return self._scalar(event, place)

    def _alias(self, name: str | None, place: Place, depth: int) -> Any:
        """Return what an anchor stands for, as if it were written out here."""
        self._aliases += 1
        if self._aliases > MOST_ALIASES:
            raise self._refuse(f"more than {MOST_ALIASES} aliases", f"at most {MOST_ALIASES}")
        anchored = self._anchors.get(name or "")
        if anchored is None:
            inside = name in self._anchors
            seen = f"`*{name}` inside itself" if inside else f"`*{name}`"
            raise self._refuse(seen, "an alias of an anchor that stands before it", place)
        self._count(depth + anchored.height, anchored.nodes)
        size = len(anchored.place)
        for inner, line in list(self.lines.items()):
            if len(inner) > size and inner[:size] == anchored.place:
                self.lines.setdefault((*place, *inner[size:]), line)
        return copy.deepcopy(anchored.value)

    def _sequence(self, place: Place, depth: int) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            values.append(self._value(event, (*place, len(values)), depth + 1))
        return values

    def _mapping(self, place: Place, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise self._refuse("a name that is itself a list, a mapping or an alias", "text as a name", place)
            self._count(depth)
            key = self._text(event.value, place)
            here, line = (*place, key), self.line
            if key in values:
                first = self.lines[here]
                self._note(f"it a second time (first on line {first})", "each name once", here)
                here = (*place, key, "again", line)  # read on, so that faults further down are told too
            self.lines.setdefault(here, line)
            value = self._value(self._next(), here, depth + 1)
            values.setdefault(key, value)
        return values

    def _check_tag(self, event: Any, place: Place, kind: str) -> None:
        if event.tag not in (None, "!", _CORE + kind):
            self._note(f"the tag {quoted(event.tag)}", "no tag: plain lists, mappings, text and numbers only", place)

    def _text(self, text: str, place: Place) -> str:
        if any("\ud800" <= sign <= "\udfff" for sign in text):
            self._note("half of a surrogate pair", "whole characters", place)
            return "".join("\ufffd" if "\ud800" <= sign <= "\udfff" else sign for sign in text)
        return text

    def _scalar(self, event: Any, place: Place) -> Any:
        text = self._text(event.value, place)
        if event.tag is None:
            value = resolve(text) if event.implicit[0] and len(text) < 1000 else text
        elif event.tag in ("!", _CORE + "str"):
            value = text
        else:
            value = self._tagged(event.tag, text, place)
        if isinstance(value, int) and abs(value) >= 2**63:
            self._note(quoted(text), "a whole number below 2**63", place)
            return 0
        return value

    def _tagged(self, tag: str, text: str, place: Place) -> Any:
        """Return a scalar with a core tag if its text is of that kind."""
        value = resolve(text[:1000])
        kinds = {"null": type(None), "bool": bool, "int": int, "float": float}
        kind = kinds.get(tag.removeprefix(_CORE))
        if kind is None:
            self._note(f"the tag {quoted(tag)}", "no tag: plain lists, mappings, text and numbers only", place)
        elif type(value) is kind:
            return value
        elif kind is float and type(value) is int and abs(value) < 2**63:
            return float(value)
        else:
            self._note(f"{quoted(text)} with the tag {quoted(tag)}", "a value of the kind that the tag says", place)
        return None


def _unreadable(line: int, column: int | None, seen: str, wanted: str) -> Tree:
    return Tree(None, Marks({}), (Fault(place=(), seen=seen, wanted=wanted, line=line, column=column),))


def _position(before: str) -> tuple[int, int]:
    """Return line and column, from 1, of the character after `before`."""
    lines = re.split(r"\r\n|[\n\r\x85\u2028\u2029]", before)
    return len(lines), len(lines[-1]) + 1


def _code(character: Any) -> int:
    return character if isinstance(character, int) else ord(character)


def _told(error: yaml.MarkedYAMLError) -> tuple[int, int | None, str, str]:
    """Return line, column, what was seen and what was wanted of a syntax error."""
    mark = error.problem_mark or error.context_mark
    problem = " ".join((error.problem or "something that is not YAML").split())
    if "'\\t'" in problem:
        seen, wanted = "a tab", "spaces: YAML is indented with spaces only"
    else:
        context = f" ({' '.join(error.context.split())})" if error.context else ""
        seen, wanted = f"a syntax error: {problem}{context}", "valid YAML"
    return (mark.line + 1, mark.column + 1, seen, wanted) if mark else (1, None, seen, wanted)
