"""Turns values into a spec, or into every fault there is at once.

A faulty part would hide what is wrong elsewhere. So faulty parts are cut away, what is left is
completed with defaults and checked for what does not go together, and of that only what was not
concluded from a part that was cut away is told.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from modelyard.spec import words
from modelyard.spec.faults import Fault, Place, listed, nearest, show
from modelyard.spec.schema import schema
from modelyard.spec.system import System, check
from modelyard.spec.world import World

_ROUNDS = 8  # of cutting; each cuts at least one part, and a part is at most this deep
_STANDING_IN: Mapping[str, Any] = {
    "name": "name",
    "task": {"type": "classification", "target": "target"},
    "data": {"path": "path"},
}
MOST_NAMES = 8  # told where the nearest is known
_MISSING = "no such line"
_LISTS = ("requirements", "candidates")  # one item that is off does not hide the others


def validate(value: Any, world: World) -> tuple[System | None, tuple[Fault, ...]]:
    """Return the spec in plain values, or None and everything that is wrong with it."""
    system, faults = _typed(value)
    if system is not None:
        found = tuple(check(system, world))
        return (None, found) if found else (system, ())
    return None, (*faults, *_further(value, faults, world))


def _typed(value: Any) -> tuple[System | None, list[Fault]]:
    try:
        return System.model_validate_json(json.dumps(value)), []
    except ValidationError as error:
        return None, [_fault(one, value) for one in error.errors(include_url=False) if not _is_echo(one)]


def _fault(error: ErrorDetails, value: Any) -> Fault:
    """Return pydantic's finding in our words."""
    kind = error["type"]
    place, found = _located(error["loc"], value, missing=kind == "missing")
    if kind == "extra_forbidden":
        known = words.fields(schema(), place[:-1], value)
        wanted = f"one of {listed(known)}" if known else "no field"
        return Fault(place=place, seen="an unknown field", wanted=wanted, nearest=nearest(str(place[-1]), known))
    wanted_here = words.at(schema(), place, value)
    wanted, names = words.told(schema(), wanted_here), words.allowed(schema(), wanted_here)
    if kind == "missing":
        return Fault(place=place, seen=_MISSING, wanted=wanted)
    if kind == "union_tag_invalid" and isinstance(found, Mapping):
        tag = error["ctx"]["discriminator"].strip("'")
        place, found = (*place, tag), found[tag]
        names = tuple(name.strip("' ") for name in error["ctx"]["expected_tags"].split(","))
        wanted = f"one of {listed(names)}"
    close = nearest(found, names) if isinstance(found, str) else ""
    if close and len(names) > MOST_NAMES:
        wanted = f"one of {listed(names, most=MOST_NAMES)}"
    return Fault(place=place, seen=show(found), wanted=wanted, nearest=close)


def _is_echo(error: ErrorDetails) -> bool:
    """Say whether a list is called too short only because its items were found faulty."""
    return error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"]


def _located(loc: Sequence[str | int], value: Any, *, missing: bool) -> tuple[Place, Any]:
    """Return the place in the file that pydantic's location means, and what stands there.

    Pydantic puts the names of alternatives between the names of fields; they are not in the file.
    """
    place: list[str | int] = []
    for index, part in enumerate(loc):
        if words.has(value, part):
            value = value[part]
        elif missing and index == len(loc) - 1:
            value = None
        else:
            continue
        place.append(part)
    return tuple(place), value


def _further(value: Any, faults: Sequence[Fault], world: World) -> Iterator[Fault]:
    """Yield what does not go together in the parts that are well formed."""
    if not isinstance(value, dict):
        return
    left = copy.deepcopy(value)
    items = {name: list(range(len(left[name]))) for name in _LISTS if isinstance(left.get(name), list)}
    cut: list[Place] = []
    for _ in range(_ROUNDS):
        cut += _cut_all(left, faults, items)
        system, faults = _typed(left)
        if system is not None:
            break
    else:
        return
    assert system is not None
    for fault in check(system, world):
        told = _as_in_file(fault, items)
        if not any(_touch(one, gone) for one in (told.place, *told.reads) for gone in cut):
            yield told


def _cut_all(left: dict[str, Any], faults: Sequence[Fault], items: dict[str, list[int]]) -> list[Place]:
    """Take every faulty part out of the spec; return the places, as in the file, that are gone."""
    gone: list[Place] = []
    whole: set[tuple[str, int]] = set()  # items of lists to drop, after all else, so that their numbers hold
    for fault in faults:
        where = _around(fault)
        gone.append(_back(where, items))
        if where[0] in items and len(where) == 2:
            whole.add((str(where[0]), int(where[1])))
        else:
            _remove(left, where)
    for name, index in sorted(whole, reverse=True):
        del left[name][index], items[name][index]
        if not left[name]:
            del left[name]
    return gone


def _around(fault: Fault) -> Place:
    """Return the part to cut away for a fault: a field, or the item of a list that needs the field."""
    place = fault.place
    item = 2 if len(place) > 1 and place[0] in _LISTS and isinstance(place[1], int) else 0
    end = next((index for index in range(item, len(place)) if isinstance(place[index], int)), len(place))
    where = place[:end]
    return where[:-1] if fault.seen == _MISSING and len(where) > 1 else where


def _remove(left: dict[str, Any], where: Place) -> None:
    parent: Any = left
    for part in where[:-1]:
        parent = parent[part] if words.has(parent, part) else None
    if isinstance(parent, dict):
        parent.pop(where[-1], None)
    if len(where) == 1 and where[0] in _STANDING_IN:
        left[str(where[0])] = copy.deepcopy(_STANDING_IN[str(where[0])])


def _back(place: Place, items: Mapping[str, Sequence[int]]) -> Place:
    """Return a place with items counted as in the file, before any was cut away."""
    numbers = items.get(str(place[0])) if place else None
    if numbers is not None and len(place) > 1 and isinstance(place[1], int) and place[1] < len(numbers):
        return (place[0], numbers[place[1]], *place[2:])
    return place


def _as_in_file(fault: Fault, items: Mapping[str, Sequence[int]]) -> Fault:
    return dataclasses.replace(
        fault,
        place=_back(fault.place, items),
        also=None if fault.also is None else _back(fault.also, items),
        reads=tuple(_back(one, items) for one in fault.reads),
    )


def _touch(one: Place, other: Place) -> bool:
    """Say whether one place is the other or around it."""
    size = min(len(one), len(other))
    return one[:size] == other[:size]
