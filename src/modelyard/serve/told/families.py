"""Kinds of metrics over a board: counters, gauges and histograms, each a family of series told apart by labels."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable

from modelyard.serve.told.board import COUNTER, GAUGE, HISTOGRAM, Board, Series
from modelyard.serve.told.board_file import Labels

# From 10 µs, as a small model answers a batch in that, and evenly below 1 ms, where a lone caller's whole reply lies;
# from there on two or three a decade up to the longest deadline.
BUCKETS_S = (
    *(0.00001, 0.000025, 0.00005, 0.0001, 0.00015, 0.00025, 0.00035, 0.0005, 0.00075),
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
BUCKETS_ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)

Join = Callable[[list[float]], float]


class Spread:
    """One histogram of a board: a cell a bucket, one beyond them, then the sum."""

    __slots__ = ("_bounds", "_series")

    def __init__(self, series: Series, bounds: tuple[float, ...]) -> None:
        self._series, self._bounds = series, bounds

    def add(self, value: float) -> None:
        """Count one observation."""
        series = self._series
        cells, first = series.cells, series.first
        cells[first + bisect_left(self._bounds, value)] += 1.0
        cells[series.last] += value


class Family:
    """Series of one name. Labels that are left out at the end are empty, which Prometheus reads as not there."""

    kind = COUNTER

    def __init__(self, board: Board, name: str, meaning: str, labels: Labels = (), *, join: Join = math.fsum) -> None:
        self.board, self.name, self.meaning, self.labels, self.join = board, name, meaning, labels, join

    @property
    def width(self) -> int:
        return 1

    def series(self, *labels: str) -> Series:
        """Return the cells of these labels."""
        if len(labels) < len(self.labels):
            labels += ("",) * (len(self.labels) - len(labels))
        if len(labels) != len(self.labels):
            raise ValueError(f"`{self.name}` has the labels {self.labels}, and {labels} came.")
        return self.board.series(self.name, self.kind, labels, self.width)


class Counter(Family):
    """A number that only grows, for each set of labels."""

    def bind(self, *labels: str) -> Series:
        """Return the number of these labels, to be kept where it is counted often."""
        return self.series(*labels)

    def add(self, *labels: str, by: float = 1.0) -> None:
        """Count."""
        self.series(*labels).add(by)

    @property
    def total(self) -> float:
        """Return the sum over this board's series."""
        return sum(series.values[0] for family, _, series in self.board.all() if family == self.name)


class Tally(Family):
    """Numbers that are counted together, in the order of `parts`, for each set of labels: not for Prometheus."""

    def __init__(self, board: Board, name: str, parts: Labels, labels: Labels = ("release",)) -> None:
        super().__init__(board, name, "", labels)
        self.parts = parts

    @property
    def width(self) -> int:
        return len(self.parts)


class Gauge(Family):
    """A number that goes up and down, for each set of labels; `join` makes one of those of several processes.

    It is not there until it is put or bound, and again once its process is gone.
    """

    kind = GAUGE

    def bind(self, *labels: str) -> Series:
        """Return the number of these labels, 0 if it was not known."""
        cell = self.series(*labels)
        if math.isnan(cell.value):
            cell.put(0.0)
        return cell

    def put(self, *labels: str, value: float) -> None:
        """Say what it is at."""
        self.series(*labels).put(value)

    def drop(self, *labels: str) -> None:
        """Say that there is nothing to say any more."""
        self.put(*labels, value=math.nan)


class Histogram(Family):
    """Counts by size, for each set of labels."""

    kind = HISTOGRAM

    def __init__(
        self, board: Board, name: str, meaning: str, labels: Labels = (), *, bounds: tuple[float, ...] = BUCKETS_S
    ) -> None:
        super().__init__(board, name, meaning, labels)
        self.bounds = bounds

    @property
    def width(self) -> int:
        return len(self.bounds) + 2

    def bind(self, *labels: str) -> Spread:
        """Return the histogram of these labels, to be kept where it is counted often."""
        return Spread(self.series(*labels), self.bounds)

    def add(self, *labels: str, value: float) -> None:
        """Count one observation."""
        self.bind(*labels).add(value)
