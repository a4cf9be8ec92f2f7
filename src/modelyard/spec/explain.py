"""Tells every value of a spec that is in effect, where it comes from and what it means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo

from modelyard.core.space import Choice, Dimension, Fixed, Range
from modelyard.spec.candidates import CandidateSpec, RangeSpec
from modelyard.spec.faults import Place, dotted
from modelyard.spec.load import LoadedSpec
from modelyard.spec.parameters import PARAMETERS, Algorithm
from modelyard.spec.requirements import DEFAULT_OBJECTIVE
from modelyard.spec.section import Section
from modelyard.spec.system import System
from modelyard.spec.writing import flow, number


@dataclass(frozen=True, kw_only=True)
class Value:
    """One value in effect."""

    place: Place
    text: str
    meaning: str


def explain(loaded: LoadedSpec) -> str:
    """Return every value in effect, marked with its line or as a default, and what it means."""
    lines = [f"{loaded.file}: the spec of {loaded.spec.name}, digest {loaded.digest[:12]}"]
    section: str | int | None = None
    for value in values(loaded.spec):
        if value.place[0] != section:
            section = value.place[0]
            lines.append("")
        where = f"set at line {loaded.marks.line(value.place)}" if value.place in loaded.marks else "default"
        lines += [f"{dotted(value.place)} = {value.text}  ({where})", f"    {value.meaning}"]
    return "\n".join(lines) + "\n"


def values(system: System) -> Iterator[Value]:
    """Yield every value of a spec in the order of the sections."""
    effective = _in_effect(system)
    for value in _section((), system):
        yield Value(place=value.place, text=effective.get(value.place, value.text), meaning=value.meaning)


def _in_effect(system: System) -> Mapping[Place, str]:
    """Return what a null comes down to, where the spec leaves something to a rule."""
    told: dict[Place, str] = {}
    if system.objective is None:
        told[("objective",)] = " or ".join(DEFAULT_OBJECTIVE[kind] for kind in system.task.kinds)
    threshold = system.threshold_in_effect()
    if system.threshold is None:
        told[("threshold",)] = "0.5" if threshold is None else flow(threshold.model_dump(exclude_none=True))
    seconds = system.budget.in_effect().seconds
    if system.budget.seconds is None and seconds is not None:
        told[("budget", "seconds")] = number(seconds)
    test, calibrate, _ = system.split_shares()
    told[("data", "split", "test")], told[("data", "split", "calibrate")] = number(test), number(calibrate)
    if not system.rollout.steps:
        told[("rollout", "steps")] = flow([one.model_dump(mode="json") for one in system.rollout.steps_in_effect()])
    for index, candidate in enumerate(system.candidates):
        told[("candidates", index, "name")] = candidate.called
        told[("candidates", index, "calibrate")] = flow(candidate.plan(calibrate=calibrate > 0).calibrate)
    return told


def _section(place: Place, section: Section) -> Iterator[Value]:
    for name, field in type(section).model_fields.items():
        yield from _field((*place, field.alias or name), getattr(section, name), field)
        if isinstance(section, CandidateSpec) and name == "params":
            yield from _searched((*place, name), section)


def _field(place: Place, value: Any, field: FieldInfo) -> Iterator[Value]:
    if isinstance(value, Section):
        yield from _section(place, value)
    elif isinstance(value, Mapping) and any(isinstance(one, Section) for one in value.values()):
        if place[-1] != "params":
            for name, inner in value.items():
                yield from _section((*place, name), inner)
    elif isinstance(value, tuple) and any(isinstance(one, Section) for one in value):
        for index, inner in enumerate(value):
            yield from _section((*place, index), inner)
    elif place[-1] != "params":
        yield Value(place=place, text=flow(value), meaning=field.description or "")


def _searched(place: Place, candidate: CandidateSpec) -> Iterator[Value]:
    """Yield the parameters of a candidate, those that the spec leaves to the table among them."""
    known = PARAMETERS[candidate.algorithm]
    for name, dimension in candidate.space().items():
        given = candidate.params.get(name)
        text = flow(given.model_dump(exclude_unset=True)) if isinstance(given, RangeSpec) else in_words(dimension)
        meaning = known[name].meaning if name in known else "a parameter of the function"
        yield Value(place=(*place, name), text=text, meaning=meaning[0].upper() + meaning[1:] + ".")
    if not candidate.space() and candidate.algorithm is not Algorithm.FUNCTION:
        yield Value(place=place, text="none", meaning="It has no parameters.")


def in_words(dimension: Dimension) -> str:
    """Return what is searched as it would stand in a spec."""
    if isinstance(dimension, Fixed):
        return flow(dimension.value)
    if isinstance(dimension, Choice):
        return flow({"choice": dimension.values})
    return flow(as_range(dimension).model_dump(exclude_unset=True))


def as_range(dimension: Range) -> RangeSpec:
    """Return a range as the spec writes it; what is a default stays unset."""
    told: dict[str, Any] = {"low": _plain(dimension, dimension.low), "high": _plain(dimension, dimension.high)}
    if dimension.log:
        told["log"] = True
    if dimension.default is not None:
        told["first"] = _plain(dimension, dimension.default)
    return RangeSpec(**told)


def _plain(dimension: Range, value: float) -> int | float:
    return int(value) if dimension.integer else value
