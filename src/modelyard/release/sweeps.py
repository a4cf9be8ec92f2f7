"""The sweep as the report shows it: a row with its bar for each configuration, and a line for each layout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from modelyard.core.evidence import Evidence
from modelyard.core.release import EvidenceRef
from modelyard.core.sweep import SweepEvidence, SweepPoint
from modelyard.release import numbers
from modelyard.release.axes import Axis, axis
from modelyard.release.charts import Series, plot
from modelyard.release.plots import Plot
from modelyard.release.strips import interval_bar


@dataclass(frozen=True, kw_only=True)
class SweepRow:
    """A configuration: its rows a second with the quartiles of the rounds, and the same drawn."""

    point: SweepPoint
    rate: str
    spread: str
    bar: Markup
    chosen: bool


@dataclass(frozen=True, kw_only=True)
class SweepView:
    """What the page shows of a sweep."""

    record: SweepEvidence
    rows: tuple[SweepRow, ...]
    plot: Plot | None


def view(evidence: Sequence[tuple[EvidenceRef, Evidence]]) -> SweepView | None:
    """Return the last sweep on record."""
    sweeps = [e.payload for _, e in evidence if isinstance(e.payload, SweepEvidence)]
    if not sweeps:
        return None
    record = sweeps[-1]
    scale = axis("rows a second", [p.rows_per_s_high for p in record.points], include=(0.0,))
    rows = tuple(_row(point, record, scale) for point in record.points)
    return SweepView(record=record, rows=rows, plot=_plot(record))


def _row(point: SweepPoint, record: SweepEvidence, scale: Axis) -> SweepRow:
    low, middle, high = point.rows_per_s_low, point.rows_per_s, point.rows_per_s_high
    places = numbers.decimals(middle, low, high)
    spread = f"{numbers.fixed(low, places)} to {numbers.fixed(high, places)}" if low < high else ""
    title = f"{point.workers} x {point.threads}, {numbers.counted(point.batch_rows, 'row')}"
    chosen = record.chosen
    return SweepRow(
        point=point,
        rate=numbers.fixed(middle, places),
        spread=spread,
        bar=Markup(interval_bar(middle, low, high, scale=scale, title=f"Rows a second: {title}")),
        chosen=(point.workers, point.threads, point.batch_rows) == (chosen.workers, chosen.threads, chosen.batch_rows),
    )


def _plot(record: SweepEvidence) -> Plot | None:
    """Return rows a second over the size of a batch, which doubles from tick to tick; a size alone is no line."""
    by_layout: dict[tuple[int, int], list[SweepPoint]] = {}
    for point in record.points:
        by_layout.setdefault(point.layout, []).append(point)
    lines = [sorted(points, key=lambda p: p.batch_rows) for points in by_layout.values() if len(points) > 1]
    if not lines:
        return None
    sizes = sorted({p.batch_rows for points in lines for p in points})
    ticks = tuple(math.log2(size) for size in sizes)
    series = [
        Series(
            name=f"{points[0].workers} x {points[0].threads}",
            x=[math.log2(p.batch_rows) for p in points],
            y=[p.rows_per_s for p in points],
            tone=tone,
        )
        for tone, points in enumerate(lines)
    ]
    svg = plot(
        series,
        title="Rows a second by batch size",
        x=Axis(label="rows of a batch", low=ticks[0], high=ticks[-1], ticks=ticks, names=tuple(map(str, sizes))),
        y=axis("rows a second", [p.rows_per_s for points in lines for p in points], include=(0.0,)),
    )
    rounds = max(p.rounds for p in record.points)
    return Plot(
        title="Batches",
        svg=Markup(svg),
        caption=f"Workers x threads; medians of {numbers.counted(rounds, 'round')}, taken in turn.",
    )
