"""Charts as SVG text: records in, the same bytes out each time; colours and faces come from the page's style.

Thin axes, ticks at nice numbers, words beside the data, no ornament. Series differ by colour, by dash and by marker,
so that they can be told apart without colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from modelyard.release.axes import (
    Axis,
    axis,
    bin_heights,
    element,
    finite,
    label,
    line,
    number,
    path,
    picture,
    rectangle,
    shape,
    width_of,
)
from modelyard.release.numbers import count

TONES = 6  # colours in the palette; what comes after is grey
Style = Literal["line", "steps", "dots", "crosses"]
Corner = Literal["lower right", "lower left", "upper right", "upper left"]

_WIDTH, _HEIGHT = 340.0, 260.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 12.0, 26.0, 36.0
_KEY_LINE = 15.0


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points to draw, x and y of equal length; pairs with a value that is not finite are left out."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: Style = "line"
    tone: int = 0  # 0 … TONES - 1 in the palette, others in grey; -1 in the colour of the text

    @property
    def kind(self) -> str:
        return f"t{self.tone}" if -1 < self.tone < TONES else ("ink" if self.tone == -1 else "grey")

    @property
    def points(self) -> list[tuple[float, float]]:
        return [(a, b) for a, b in zip(self.x, self.y, strict=True) if len(finite((a, b))) == 2]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One place worth a word: a point, or a line across the plot where `x` or `y` is left out."""

    text: str
    x: float | None = None
    y: float | None = None
    before: bool = False  # the words stand left of a point, where its curve falls to the right


@dataclass(frozen=True, kw_only=True)
class _Frame:
    x: Axis
    y: Axis
    left: float = _LEFT
    right: float = _WIDTH - _RIGHT
    top: float = _TOP
    bottom: float = _HEIGHT - _BOTTOM

    def at(self, x: float, y: float) -> tuple[float, float]:
        return (
            self.left + self.x.share(x) * (self.right - self.left),
            self.bottom - self.y.share(y) * (self.bottom - self.top),
        )

    def draw(self) -> str:
        """Return both axes with ticks, numbers and words."""
        parts = [
            line(self.left, self.bottom + 4, self.right, self.bottom + 4, "axis"),
            line(self.left - 4, self.top, self.left - 4, self.bottom, "axis"),
            label(self.right, self.bottom + 32, self.x.label, anchor="end", kind="name"),
            label(4, 12, self.y.label, kind="name"),
        ]
        for tick, name in zip(self.x.ticks, self.x.names, strict=True):
            x, _ = self.at(tick, self.y.low)
            parts += [
                line(x, self.bottom + 4, x, self.bottom + 7, "axis"),
                label(x, self.bottom + 18, name, anchor="middle"),
            ]
        for tick, name in zip(self.y.ticks, self.y.names, strict=True):
            _, y = self.at(self.x.low, tick)
            parts += [
                line(self.left - 7, y, self.left - 4, y, "axis"),
                label(self.left - 9, y + 3.5, name, anchor="end"),
            ]
        return "".join(parts)


def plot(
    series: Sequence[Series],
    *,
    title: str,
    x: Axis,
    y: Axis,
    marks: Sequence[Mark] = (),
    diagonal: bool = False,
    corner: Corner | None = None,
    counts: Sequence[tuple[float, float]] = (),
    notes: Sequence[str] = (),
    whiskers: Sequence[tuple[float, float, float]] = (),
) -> str:
    """Return lines, steps or points over two axes.

    Args:
        diagonal: a dotted line where x equals y.
        corner: where the names of the series stand within the plot; above it when None. One series needs no name.
        whiskers: (x, low, high), intervals drawn as upright lines.
        notes: lines of text in the lower right of the plot.
        counts: (x, rows) drawn as small bars from the foot of the plot, a sixth of it high.
    """
    frame = _Frame(x=x, y=y)
    named = [s for s in series if s.name] if len(series) > 1 else []
    head = _flow(named, frame) if named and corner is None else ""
    if head:
        frame = replace(frame, top=frame.top + _flow_lines(named, frame) * _KEY_LINE + 4)
    body = [frame.draw(), head, _foot(counts, frame)]
    if diagonal:
        low, high = max(x.low, y.low), min(x.high, y.high)
        body.append(line(*frame.at(low, low), *frame.at(high, high), "guide") if low < high else "")
    body += [line(*frame.at(at, low), *frame.at(at, high), "whisker") for at, low, high in whiskers]
    body += [_drawn(s, frame) for s in series]
    body += [_marked(mark, frame) for mark in marks]
    body.append(_corner(named, frame, corner) if named and corner else "")
    for i, note in enumerate(reversed(notes)):
        body.append(label(frame.right, frame.bottom - 8 - i * _KEY_LINE, note, anchor="end", kind="value"))
    return picture(_WIDTH, _HEIGHT, title, body)


def histogram(
    edges: Sequence[float],
    counts: Sequence[int],
    *,
    title: str,
    x_label: str,
    y_label: str = "rows",
    marks: Sequence[Mark] = (),
) -> str:
    """Return touching bars; bar i spans [edges[i], edges[i + 1]]. Where widths differ, the area is the count."""
    heights = bin_heights(edges, counts)
    even = list(heights) == [float(c) for c in counts]
    x = axis(x_label, (), include=(edges[0], edges[-1]))
    y = axis(y_label if even else f"{y_label} per {x_label}", heights, include=(0.0,))
    frame = _Frame(x=x, y=y)
    bars = []
    for i, height in enumerate(heights):
        (left, top), (right, _) = frame.at(edges[i], height), frame.at(edges[i + 1], height)
        tip = f"{edges[i]:.4g} to {edges[i + 1]:.4g}: {count(counts[i])}"
        bars.append(rectangle(left + 0.3, top, max(0.4, right - left - 0.6), frame.bottom - top, "fill t0", tip))
    return picture(_WIDTH, _HEIGHT, title, [frame.draw(), *bars, *(_marked(mark, frame) for mark in marks)])


def _drawn(series: Series, frame: _Frame) -> str:
    points = [frame.at(x, y) for x, y in series.points]
    if not points:
        return ""
    if series.style in ("dots", "crosses"):
        return _markers(points, series)
    steps = [f"{'M' if i == 0 else 'L'}{number(x)} {number(y)}" for i, (x, y) in enumerate(points)]
    if series.style == "steps":
        steps = [steps[0]] + [f"H{number(x)}V{number(y)}" for x, y in points[1:]]
    return path("".join(steps), f"line {series.kind}")


_MARKERS = ("", "m-3-3h6v6h-6z", "m0-3.6l3.4 6h-6.8z", "m0-4l4 4-4 4-4-4z", "m0 3.6l3.4-6h-6.8z", "m-4-1.5h8v3h-8z")


def _markers(points: Sequence[tuple[float, float]], series: Series) -> str:
    if series.style == "crosses":
        return path(
            "".join(f"M{number(x - 3)} {number(y - 3)}l6 6m0-6l-6 6" for x, y in points), f"line thin {series.kind}"
        )
    form = _MARKERS[series.tone % len(_MARKERS)] if series.tone >= 0 else ""
    if form:
        return shape("".join(f"M{number(x)} {number(y)}{form}" for x, y in points), f"fill points {series.kind}")
    many = " many" if len(points) > 60 else ""
    return path("".join(f"M{number(x)} {number(y)}h0" for x, y in points), f"spots{many} {series.kind}")


def _marked(mark: Mark, frame: _Frame) -> str:
    right = frame.right
    if mark.x is not None and mark.y is not None:
        x, y = frame.at(mark.x, mark.y)
        fits = not mark.before and x + 8 + width_of(mark.text) < right
        ring = element("circle", cx=x, cy=y, r=4, class_="ring", fill="none", stroke="currentColor")
        return ring + label(x + 8 if fits else x - 8, y + 13, mark.text, anchor="start" if fits else "end")
    if mark.x is not None:
        x, _ = frame.at(mark.x, frame.y.low)
        fits = x + 4 + width_of(mark.text) < right
        words = label(x + 4 if fits else x - 4, frame.top + 7, mark.text, anchor="start" if fits else "end")
        return line(x, frame.top, x, frame.bottom, "guide") + words
    if mark.y is not None:
        _, y = frame.at(frame.x.low, mark.y)
        return line(frame.left, y, right, y, "guide") + label(right, y - 4, mark.text, anchor="end")
    return ""


def _foot(counts: Sequence[tuple[float, float]], frame: _Frame) -> str:
    if not counts:
        return ""
    most = max(n for _, n in counts) or 1.0
    tall = (frame.bottom - frame.top) / 6
    parts = []
    for where, n in counts:
        x, _ = frame.at(where, frame.y.low)
        parts.append(
            rectangle(x - 3, frame.bottom - n / most * tall, 6, n / most * tall, "fill faint", f"{n:,.0f} rows")
        )
    return "".join(parts)


def _sample(series: Series, x: float, y: float) -> str:
    if series.style in ("dots", "crosses"):
        return _markers([(x + 8, y - 4)], series)
    return path(f"M{number(x)} {number(y - 4)}h16", f"line {series.kind}")


def _places(named: Sequence[Series], frame: _Frame) -> list[tuple[float, int]]:
    places, x, row = [], 4.0, 0
    for series in named:
        wide = 20 + width_of(series.name[:28]) + 14
        if x + wide > frame.right + 10 and x > 4:
            x, row = 4.0, row + 1
        places.append((x, row))
        x += wide
    return places


def _flow_lines(named: Sequence[Series], frame: _Frame) -> int:
    return _places(named, frame)[-1][1] + 1


def _flow(named: Sequence[Series], frame: _Frame) -> str:
    parts = []
    for series, (x, row) in zip(named, _places(named, frame), strict=True):
        y = 28 + row * _KEY_LINE
        parts += [_sample(series, x, y), label(x + 20, y, series.name, kind=f"word {series.kind}", most=28)]
    return "".join(parts)


def _corner(named: Sequence[Series], frame: _Frame, corner: Corner) -> str:
    wide = 20 + max(width_of(series.name[:24]) for series in named)
    x = frame.right - wide if "right" in corner else frame.left + 8
    first = frame.bottom - 8 - (len(named) - 1) * _KEY_LINE if "lower" in corner else frame.top + 10
    parts = []
    for i, series in enumerate(named):
        y = first + i * _KEY_LINE
        parts += [_sample(series, x, y), label(x + 20, y, series.name, kind=f"word {series.kind}", most=24)]
    return "".join(parts)
