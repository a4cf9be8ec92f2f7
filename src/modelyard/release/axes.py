"""What every chart is drawn with: finite numbers, nice ticks, scales, and escaped SVG elements."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from modelyard.release.numbers import fixed
from modelyard.release.words import clean, shorten

FURTHEST = 1e100  # what is beyond is drawn here, what is under its inverse as zero; keeps spans finite
CHARACTER = 0.58  # mean width of a character in a sans serif face, in its size


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis: its words, its range, and where its ticks stand."""

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]
    names: tuple[str, ...]

    def share(self, value: float) -> float:
        """Return where a value lies, 0 at the low end and 1 at the high end, never outside."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))

    def holds(self, value: float) -> bool:
        """Say whether a value lies within."""
        return self.low <= value <= self.high


def finite(values: Iterable[float | None]) -> list[float]:
    """Return the numbers that can be drawn, those beyond all reason brought to its edge."""
    kept = [float(v) for v in values if v is not None and math.isfinite(v)]
    return [0.0 if abs(v) < 1 / FURTHEST else min(FURTHEST, max(-FURTHEST, v)) for v in kept]


def axis(
    label: str,
    values: Iterable[float | None],
    *,
    include: Iterable[float | None] = (),
    pad: float = 0.04,
    wanted: int = 5,
) -> Axis:
    """Return an axis that holds all values, with ticks at nice numbers.

    `pad` is added at both ends, in shares of the span, but not beyond a value in `include`.
    """
    drawn, kept = finite(values), finite(include)
    every = drawn + kept or [0.0, 1.0]
    low, high = min(every), max(every)
    largest = max(abs(low), abs(high))
    if high - low <= largest * 1e-12:
        reach = largest * 0.1 or 1.0
        low, high = low - reach, high + reach
    room = (high - low) * pad
    low = low if low in kept else low - room
    high = high if high in kept else high + room
    ticks = nice_ticks(low, high, wanted=wanted)
    return Axis(label=label, low=low, high=high, ticks=ticks, names=tick_names(ticks))


def nice_ticks(low: float, high: float, *, wanted: int = 5) -> tuple[float, ...]:
    """Return about `wanted` multiples of 1, 2 or 5 times a power of ten within [low, high].

    >>> nice_ticks(0.0, 1.0)
    (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    """
    rough = (high - low) / max(1, wanted)
    power = math.floor(math.log10(rough))
    step = min((1, 2, 5, 10), key=lambda m: abs(m * 10.0**power - rough)) * 10.0**power
    slack = step * 1e-9
    first, last = math.ceil((low - slack) / step), math.floor((high + slack) / step)
    places = max(0, -math.floor(math.log10(step)) + 1)
    return tuple(round(i * step, min(places, 300)) + 0.0 for i in range(first, last + 1))


def tick_names(ticks: Sequence[float]) -> tuple[str, ...]:
    """Return ticks in words, all with the same decimals; thousands and millions as k and M."""
    if not ticks:
        return ()
    largest = max(abs(t) for t in ticks)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else largest or 1.0
    if largest >= 1e12 or step < 1e-6:
        digits = 2 + max(0, math.floor(math.log10(largest / step)))
        return tuple(f"{t:.{digits}g}" for t in ticks)
    scale, unit = next((s, u) for s, u in ((1e9, "G"), (1e6, "M"), (1e4, "k"), (0.0, "")) if largest >= s)
    divisor = 1000.0 if unit == "k" else scale or 1.0
    places = max(0, -math.floor(math.log10(step / divisor) + 1e-9))
    return tuple("0" if t == 0 else fixed(t / divisor, places) + unit for t in ticks)


def focus(values: Iterable[float | None], anchor: float | None = None) -> list[float]:
    """Return the values near the anchor: those within five times the median distance from it.

    One baseline far below would press all others into a line; what is left out is drawn at the edge with an arrow.
    """
    drawn = finite(values)
    if len(drawn) < 4:
        return drawn
    start = anchor if anchor is not None else sorted(drawn)[len(drawn) // 2]
    distances = sorted(abs(v - start) for v in drawn if v != start)
    if not distances:
        return drawn
    reach = 5 * distances[(len(distances) - 1) // 2]
    return [v for v in drawn if abs(v - start) <= reach]


def bin_heights(edges: Sequence[float], counts: Sequence[int]) -> list[float]:
    """Return the height of each bin: its count, or its count over its width where widths differ."""
    widths = [b - a for a, b in pairwise(edges)]
    if not widths or max(widths) - min(widths) <= 0.02 * max(widths) or min(widths) <= 0:
        return [float(c) for c in counts]
    return [c / wide for c, wide in zip(counts, widths, strict=True)]


def number(value: float) -> str:
    """Return a coordinate with one decimal at most."""
    return f"{value:.1f}".removesuffix(".0").replace("-0", "0" if abs(value) < 0.05 else "-0", 1)


def element(name: str, content: str = "", **attributes: str | float) -> str:
    """Return one SVG element; attribute values are escaped, `content` is markup already."""
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{number(v) if isinstance(v, int | float) else escape(v)}"'
        for key, v in attributes.items()
    )
    return f"<{name}{pairs}>{content}</{name}>" if content else f"<{name}{pairs}/>"


def escape(text: str) -> str:
    """Return foreign text fit for SVG and HTML."""
    return html.escape(clean(text), quote=True)


def label(x: float, y: float, text: str, *, anchor: str = "start", kind: str = "", most: int = 60) -> str:
    """Return a piece of text, shortened; its whole length is in its tooltip."""
    short = shorten(text, most)
    whole = element("title", escape(text)) if short != text else ""
    return element("text", whole + escape(short), x=x, y=y, text_anchor=anchor, class_=kind or "label")


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """Return a straight line."""
    return element("path", d=f"M{number(x1)} {number(y1)}L{number(x2)} {number(y2)}", class_=kind, **_BARE)


def rectangle(x: float, y: float, width: float, height: float, kind: str, tooltip: str = "") -> str:
    """Return a filled rectangle."""
    title = element("title", escape(tooltip)) if tooltip else ""
    return element("rect", title, x=x, y=y, width=max(0.0, width), height=max(0.0, height), class_=kind)


def path(d: str, kind: str) -> str:
    """Return an unfilled path."""
    return element("path", d=d, class_=kind, **_BARE)


def shape(d: str, kind: str) -> str:
    """Return a filled path."""
    return element("path", d=d, class_=kind)


def width_of(text: str, size: float = 11.0) -> float:
    """Return about how wide a text will be."""
    return len(text) * size * CHARACTER


def picture(width: float, height: float, title: str, body: Iterable[str], *, kind: str = "chart") -> str:
    """Return a whole SVG that says its title to those who cannot see it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{kind}" viewBox="0 0 {number(width)} {number(height)}" '
        f'width="{number(width)}" height="{number(height)}" role="img" aria-label="{escape(title)}" '
        f'fill="currentColor">{element("title", escape(title))}{"".join(body)}</svg>'
    )


_BARE = {"fill": "none", "stroke": "currentColor"}  # for a picture taken out of its page, where no style reaches
