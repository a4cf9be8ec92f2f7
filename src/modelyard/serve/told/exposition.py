"""Boards as Prometheus reads them: the text format 0.0.4, or OpenMetrics 1.0 where it is asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from modelyard.serve.told.board import COUNTER, GAUGE, HISTOGRAM
from modelyard.serve.told.board_file import Labels, Reading
from modelyard.serve.told.families import Family, Histogram

TEXT = b"text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = b"application/openmetrics-text; version=1.0.0; charset=utf-8"

Joined = dict[Labels, list[float]]


def kind_for(accept: bytes) -> bytes:
    """Return the format that an Accept header prefers; the plain one where it does not say.

    >>> kind_for(b"application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    b'application/openmetrics-text; version=1.0.0; charset=utf-8'
    """
    asked = {b"text/plain": 0.0, b"application/openmetrics-text": 0.0}
    for choice in accept[:1000].lower().split(b","):
        kind, *settings = (part.strip() for part in choice.split(b";"))
        version = next((part[8:] for part in settings if part.startswith(b"version=")), b"1")
        if kind in asked and (kind == b"text/plain" or version.startswith(b"1")):
            quality = next((part[2:] for part in settings if part.startswith(b"q=")), b"1")
            asked[kind] = max(asked[kind], _weight(quality))
    return OPENMETRICS if asked[b"application/openmetrics-text"] > asked[b"text/plain"] else TEXT


def write(families: Sequence[Family], readings: Sequence[Reading], *, openmetrics: bool = False) -> bytes:
    """Return the sum over all boards.

    Counters and histograms of dead processes count, as they are totals of the service; their gauges do not.
    """
    known = {family.name: family for family in families}
    joined = _join(known, readings)
    lines: list[str] = []
    for family in families:
        name = family.name
        if openmetrics and family.kind == COUNTER:
            name = name.removesuffix("_total")
        lines.append(f"# HELP {name} {_escaped(family.meaning) if openmetrics else family.meaning}")
        lines.append(f"# TYPE {name} {family.kind}")
        for labels, values in sorted(joined.get(family.name, {}).items()):
            lines.extend(_histogram(family, labels, values) if isinstance(family, Histogram) else ())
            if family.kind != HISTOGRAM:
                lines.append(f"{family.name}{_braced(_pairs(family.labels, labels))} {_number(values[0])}")
    lines.append("# EOF\n" if openmetrics else "")
    return "\n".join(lines).encode()


def _join(known: dict[str, Family], readings: Sequence[Reading]) -> dict[str, Joined]:
    """Put the series of all boards together; those of another layout than ours are left out."""
    gauges: dict[tuple[str, Labels], list[float]] = {}
    joined: dict[str, Joined] = {}
    for reading in readings:
        for record, values in reading.series:
            family = known.get(record.family)
            if family is None or (record.kind, record.width) != (family.kind, family.width):
                continue
            if len(record.labels) != len(family.labels):
                continue
            if record.kind == GAUGE:
                if reading.alive and not math.isnan(values[0]):
                    gauges.setdefault((record.family, record.labels), []).append(values[0])
                continue
            series = joined.setdefault(record.family, {})
            before = series.get(record.labels)
            series[record.labels] = values if before is None else [a + b for a, b in zip(before, values, strict=True)]
    for (name, labels), found in gauges.items():
        joined.setdefault(name, {})[labels] = [known[name].join(found)]
    return joined


def _histogram(family: Histogram, labels: Labels, values: list[float]) -> Iterable[str]:
    pairs = _pairs(family.labels, labels)
    comma = "," if pairs else ""
    count = 0.0
    for bound, inside in zip((*family.bounds, None), values, strict=False):
        count += inside
        edge = "+Inf" if bound is None else repr(bound)
        yield f'{family.name}_bucket{{{pairs}{comma}le="{edge}"}} {_number(count)}'
    yield f"{family.name}_sum{_braced(pairs)} {_number(values[-1])}"
    yield f"{family.name}_count{_braced(pairs)} {_number(count)}"


def _pairs(names: Labels, values: Labels) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))


def _braced(pairs: str) -> str:
    return "{" + pairs + "}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    return repr(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


def _weight(quality: bytes) -> float:
    try:
        weight = float(quality)
    except ValueError:
        return 0.0
    return weight if 0.0 <= weight <= 1.0 else 0.0
