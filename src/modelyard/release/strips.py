"""Charts without axes of their own: bars, intervals, word-sized histograms, shares, the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence

from modelyard.release.axes import (
    Axis,
    axis,
    bin_heights,
    element,
    escape,
    finite,
    label,
    line,
    number,
    picture,
    rectangle,
    shape,
    width_of,
)
from modelyard.release.charts import TONES
from modelyard.release.numbers import count, share


def bars(rows: Sequence[tuple[str, float]], *, title: str, names: Sequence[str], width: float = 340.0) -> str:
    """Return horizontal bars from zero, each with its name before it and its number, given as text, behind it."""
    step, text = 18.0, min(150.0, max((width_of(name) for name, _ in rows), default=0.0) + 8)
    behind = max((width_of(name) for name in names), default=0.0) + 8
    scale = axis("", [v for _, v in rows], include=(0.0,), pad=0.0)
    reach = width - text - behind
    zero = text + scale.share(0.0) * reach
    body = []
    for i, ((name, value), said) in enumerate(zip(rows, names, strict=True)):
        y, end = i * step, text + scale.share(value) * reach
        body.append(label(text - 8, y + 12.5, name, anchor="end", most=22))
        body.append(rectangle(min(zero, end), y + 3, max(0.6, abs(end - zero)), 11, "fill t0"))
        body.append(label(max(zero, end) + 5, y + 12.5, said, kind="value"))
    body.append(line(zero, 0, zero, len(rows) * step, "axis"))
    return picture(width, len(rows) * step + 2, title, body)


def interval_bar(
    value: float | None,
    low: float | None,
    high: float | None,
    *,
    scale: Axis,
    title: str,
    bound: float | None = None,
    guide: float | None = None,
    good_above: bool = True,
    width: float = 170.0,
) -> str:
    """Return one value as a dot on its interval, the bound as an upright line, the wrong side of it tinted.

    `guide` is a faint upright line to compare with.

    What lies outside the scale is drawn as an arrow at its edge.
    """
    left, right, middle = 5.0, width - 5.0, 9.0

    def at(v: float) -> float:
        return left + scale.share(v) * (right - left)

    body = [line(left, middle, right, middle, "rail")]
    if bound is not None:
        start, end = (left, at(bound)) if good_above else (at(bound), right)
        body += [rectangle(start, 1, end - start, 16, "wrong"), line(at(bound), 0, at(bound), 18, "bound")]
    if guide is not None:
        body.append(line(at(guide), 1, at(guide), 17, "guide"))
    if low is not None or high is not None:  # an interval may be open to one side
        start, end = left if low is None else at(low), right if high is None else at(high)
        body.append(line(start, middle, end, middle, "range"))
    drawn = finite((value,))
    if drawn and scale.holds(drawn[0]):
        body.append(element("circle", cx=at(drawn[0]), cy=middle, r=3.2, class_="dot"))
    elif drawn:
        tip, base = (left - 4, left + 3) if drawn[0] < scale.low else (right + 4, right - 3)
        body.append(shape(f"M{number(tip)} {number(middle)}L{number(base)} 5V13Z", "dot"))
    return picture(width, 18, title, body, kind="chart inline")


def spark(
    edges: Sequence[float], counts: Sequence[int], *, title: str, width: float = 96.0, height: float = 20.0
) -> str:
    """Return a histogram as small as a word."""
    heights = bin_heights(edges, counts)
    top, span = max(heights, default=0.0) or 1.0, (edges[-1] - edges[0]) or 1.0
    body = []
    for i, tall in enumerate(heights):
        left, wide = (edges[i] - edges[0]) / span * width, (edges[i + 1] - edges[i]) / span * width
        body.append(
            rectangle(left, height - tall / top * height, max(0.5, wide - 0.4), tall / top * height, "fill grey")
        )
    body.append(line(0, height - 0.3, width, height - 0.3, "axis"))
    return picture(width, height, title, body, kind="chart inline")


def shares(parts: Sequence[tuple[str, int]], *, title: str, width: float = 340.0) -> str:
    """Return one bar cut into parts, with the name, count and share of each beneath, a line each."""
    total = sum(size for _, size in parts) or 1
    body, x = [], 0.0
    for i, (name, size) in enumerate(parts):
        wide, y = size / total * width, 32 + 16 * i
        text = f"{name}: {count(size)} ({share(size / total)})"
        body += [rectangle(x, 0, max(0.5, wide - 1), 14, f"fill t{i % TONES}", text)]
        body += [rectangle(0, y - 9, 10, 10, f"fill t{i % TONES}"), label(16, y, name)]
        body += [
            label(150, y, count(size), anchor="end", kind="value"),
            label(205, y, share(size / total), anchor="end"),
        ]
        x += wide
    return picture(width, 22 + 16 * len(parts), title, body)


def heatmap(names: Sequence[str], counts: Sequence[Sequence[int]], *, title: str) -> str:
    """Return a confusion matrix: a row for each true class, tinted by its share, with counts where they fit."""
    size = len(names)
    cell = 76.0 if size <= 3 else 58.0 if size <= 6 else max(16.0, 360.0 / size)
    most = 18 if size <= 12 else 14
    left = min(120.0, max(width_of(n[:most]) for n in names)) + 26
    body = [
        label(left, 11, "predicted", kind="name"),
        label(left - 8, 28, "true", anchor="end", kind="name"),
    ]
    for row, (name, values) in enumerate(zip(names, counts, strict=True)):
        y, total = 34 + row * cell, sum(values) or 1
        body.append(label(left - 8, y + cell / 2 + 4, name, anchor="end", most=most))
        body.append(label(left + row * cell + cell / 2, 28, name, anchor="middle", most=max(2, int(cell / 7))))
        for column, n in enumerate(values):
            body.append(
                _cell(left + column * cell, y, cell, n, n / total, tip=f"true {name}, predicted {names[column]}")
            )
    return picture(left + size * cell + 4, 38 + size * cell, title, body)


def _cell(x: float, y: float, cell: float, n: int, part: float, *, tip: str) -> str:
    tint = element(
        "rect",
        element("title", escape(f"{tip}: {count(n)} ({share(part)} of the row)")),
        x=x,
        y=y,
        width=cell - 1.5,
        height=cell - 1.5,
        class_="cell",
        fill_opacity=f"{0.04 + 0.5 * part:.2f}",
    )
    if cell < 30:
        return tint
    middle = x + cell / 2 - 0.75
    number_text = label(middle, y + cell / 2 + (0 if cell >= 50 else 4), count(n), anchor="middle", kind="strong")
    return (
        tint
        + number_text
        + (label(middle, y + cell / 2 + 15, share(part), anchor="middle", kind="value") if cell >= 50 else "")
    )
