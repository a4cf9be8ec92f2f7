"""Exact counts of a release for the verdicts of a rollout, made in the front: nothing is sampled.

Counted are requests whose release was drawn, by key or by id. Those that a rule sent there, or that named their
release, are not: their callers are others, and cannot be compared with those of the stable release.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from modelyard.bundle.intake import Packed
from modelyard.core.arrays import Columns
from modelyard.core.contract import Column
from modelyard.core.release import Traffic
from modelyard.core.rollout import Counted, Watch, Watched
from modelyard.serve.batching import Settled, Work
from modelyard.serve.call import Call
from modelyard.serve.lane import Lane
from modelyard.serve.model import Model
from modelyard.serve.piece import Piece
from modelyard.serve.request import Code, Request
from modelyard.serve.shadow.copies import ERRORS as NOT_ANSWERED
from modelyard.serve.shadow.copies import Fate, Mirrored
from modelyard.serve.told.arm_families import ArmFamilies
from modelyard.serve.told.board import OTHER, Series
from modelyard.serve.told.units import Units, forget, units_file
from modelyard.serve.told.watched import all_in, column_of, groups_of
from modelyard.serve.wire import AnswerFrame

MOST_GROUPS = 64  # of one claim; rows of those met later are counted together
ERRORS = frozenset((Code.FAILED, Code.NOT_NOW, Code.TOO_LATE))  # what a caller gets without a fault of its own

_HOUR_S, _THOUSAND = 3600.0, 1000.0


class Answer(NamedTuple):
    """A request that its own release answered; its rows begin at `start` of what was settled."""

    call: Call  # with the request, the rows as packed, and by which release's model they are read: `call.lane.model`
    settled: Settled
    start: int


class _Rows(NamedTuple):
    """The rows of a request as the model that answered them reads them."""

    rows: int
    packed: Packed
    model: Model
    infer_s: float  # their share of their batches' time in the model

    def columns(self) -> Columns:
        return self.model.columns(self.packed, self.rows)


class Sink(Protocol):
    """Who gets every answer of the watched releases as well, rules' and named ones too, after the replies left."""

    def follow(self, watch: Watch | None) -> None:
        """Take in what is watched from now on."""
        ...

    def take(self, release: str, answers: Sequence[Answer]) -> None:
        """Take the answers of a batch. On the event loop's thread: it must neither block nor raise."""
        ...

    def take_copies(self, release: str, model: Model, copies: Sequence[Mirrored]) -> None:
        """Take answers to copies of requests, in the same way."""
        ...


class _Item:
    """One thing that is counted."""

    __slots__ = ("above_s", "counts", "group", "groups", "price", "series", "slice", "slice_column", "what")

    def __init__(self, watched: Watched, lane: Lane, families: ArmFamilies) -> None:
        contract = lane.model.contract
        self.what, self.counts = watched.what, watched.counts
        self.above_s = math.inf if watched.above_ms is None else watched.above_ms / 1000
        self.price = (watched.price_per_cpu_hour or 0.0) / _HOUR_S * _THOUSAND  # of a second, times a thousand
        self.slice = watched.slice
        self.slice_column = None if watched.slice is None else column_of(contract, watched.slice.column)
        self.group: Column | None = None if watched.group is None else column_of(contract, watched.group)
        self.groups: dict[str, Series] = {}
        family = families.means if watched.what is Counted.COST else families.rates
        self.series: Series | None = None
        if watched.group is None:
            self.series = family.series(lane.release, watched.counts)


class Arm:
    """Counts what becomes of a release's requests. Of one thread, the event loop's."""

    def __init__(
        self,
        lane: Lane,
        watch: Watch,
        families: ArmFamilies,
        units: Units,
        sinks: Sequence[Sink],
        fault: Callable[[Exception], None],
    ) -> None:
        self.release = release = lane.release
        self.sinks = sinks
        self._model, self._families, self._met, self._fault = lane.model, families, units, fault
        self._positive = watch.positive
        items = [_Item(one, lane, families) for one in watch.items if _is_seen(one, lane)]
        self._slower = [item for item in items if item.what is Counted.SLOWER]
        self._answers = [item for item in items if item.what is not Counted.SLOWER]
        self._steps = families.steps()
        self._requests = families.requests.series(release)
        self._units = families.units.series(release)
        self._outputs = families.outputs.series(release)
        self._agreement = families.agreement.series(release)
        self._classes = {name: families.classes.series(release, name) for name in lane.model.classes}

    def began(self, batch: Sequence[Work], frame: AnswerFrame) -> None:
        """Take in what a batch took in the model, before its requests are answered."""
        each_s = frame.infer_us / 1e6 / max(1, frame.rows)
        for work in batch:
            call = work.call if isinstance(work, Piece) else work
            if isinstance(call, Call):
                call.infer_s = getattr(call, "infer_s", 0.0) + each_s * work.rows

    def answered(self, batch: Sequence[Work], settled: Settled) -> None:
        """Count those of a batch that were answered as they are; pieces and the others come by `ended`."""
        answers, start = [], 0
        for work in batch:
            if isinstance(work, Call) and work.ended:
                answers.append(Answer(work, settled, start))
            start += work.rows
        if answers:
            self._take(answers, [one.call.ended - one.call.request.arrived for one in answers])

    def ended(self, call: Call, code: Code, degraded: str | None, seconds: float) -> None:
        """Count a request that was answered in pieces or by a fallback, or that failed after it was queued."""
        if code is not Code.OK:
            if code in ERRORS:
                self.refused(call.request)
        elif degraded is None:
            self._take([Answer(call, call.settled, 0)], [seconds])
        elif _is_drawn(call.request):
            self._update(lambda: self._count_degraded(call, seconds))

    def refused(self, request: Request) -> None:
        """Count a request that got no answer, without a fault of its caller."""
        if _is_drawn(request):
            self._update(lambda: self._count_error(request))

    def mirrored(self, copies: Sequence[Mirrored]) -> None:
        """Count what came of copies of requests, but for how long it took and what it cost: others go before them.

        Of those that were dropped or late nothing is known.
        """
        sent = [copy for copy in copies if copy.fate not in (Fate.DROPPED, Fate.LATE)]

        def count() -> None:
            for copy in sent:
                self._count_copy(copy)

        if sent:
            self._update(count)
        for sink in self.sinks:
            try:
                sink.take_copies(self.release, self._model, [copy for copy in sent if copy.settled is not None])
            except Exception as fault:  # noqa: BLE001 - what is counted elsewhere must not keep callers waiting
                self._fault(fault)

    # ours

    def _take(self, answers: Sequence[Answer], seconds: Sequence[float]) -> None:
        drawn = [pair for pair in zip(answers, seconds, strict=True) if _is_drawn(pair[0].call.request)]

        def count() -> None:
            for answer, took_s in drawn:
                self._count(answer, took_s)

        if drawn:
            self._update(count)
        for sink in self.sinks:
            try:
                sink.take(self.release, answers)
            except Exception as fault:  # noqa: BLE001 - what is counted elsewhere must not keep callers waiting
                self._fault(fault)

    def _update(self, count: Callable[[], None]) -> None:
        steps = self._steps
        steps.add()
        try:
            count()
        except Exception as fault:  # noqa: BLE001 - the callers have their answers, and the next ones wait
            self._fault(fault)
        finally:
            steps.add()

    def _count_error(self, request: Request) -> None:
        self._count_request(request)
        self._requests.cells[self._requests.first + 1] += 1

    def _count_degraded(self, call: Call, seconds: float) -> None:
        self._count_request(call.request)
        self._requests.cells[self._requests.first + 2] += 1
        self._count_seconds(_rows_of(call), seconds)

    def _count_copy(self, copy: Mirrored) -> None:
        self._requests.cells[self._requests.first] += 1
        if copy.fate in NOT_ANSWERED:
            self._requests.cells[self._requests.first + 1] += 1
        elif copy.settled is not None:
            rows = _Rows(copy.rows, copy.packed, self._model, copy.infer_s)
            self._count_rows(rows, copy.settled, copy.start, None)
            _hit(self._agreement, copy.compared, copy.agreed)

    def _count_request(self, request: Request) -> None:
        self._requests.cells[self._requests.first] += 1
        met = request.met
        if met is None:
            return
        cells, first = self._units.cells, self._units.first
        if met.key is None:
            cells[first + 1] += 1
        else:
            cells[first] += 1
            if self._met.meet(met.key):
                cells[first + 1] += 1

    def _count(self, answer: Answer, seconds: float) -> None:
        call, settled, start = answer
        self._count_request(call.request)
        self._count_rows(_rows_of(call), settled, start, seconds)

    def _count_rows(self, rows: _Rows, settled: Settled, start: int, seconds: float | None) -> None:
        """Count rows that were answered, `seconds` after they came; None of copies."""
        columns = None if seconds is None else self._count_seconds(rows, seconds)
        stop = start + rows.rows
        labels: list[str] = []
        if settled.values is not None:
            for value in settled.values[start:stop]:
                _add(self._outputs, value)
        else:
            labels = (settled.labels or [])[start:stop]
            for label in labels:
                self._classes[label].add()
        for item in self._answers:
            if item.slice is not None or item.group is not None:
                columns = columns or rows.columns()
                if not _is_in(item, columns):
                    continue
            if item.what is Counted.COST:
                assert item.series is not None
                if seconds is not None:
                    _add(item.series, rows.infer_s * item.price)
            elif item.group is None:
                assert item.series is not None
                _hit(item.series, len(labels), sum(label == self._positive for label in labels))
            else:
                assert columns is not None
                for group, label in zip(groups_of(item.group, columns), labels, strict=False):
                    if group is not None:
                        _hit(self._group(item, group), 1, label == self._positive)

    def _count_seconds(self, rows: _Rows, seconds: float) -> Columns | None:
        """Count how long an answer took; return the rows as columns, where they were looked at."""
        columns: Columns | None = None
        for item in self._slower:
            if item.slice is not None:
                columns = columns or rows.columns()
                if not _is_in(item, columns):
                    continue
            assert item.series is not None
            _hit(item.series, 1, seconds > item.above_s)
        return columns

    def _group(self, item: _Item, group: str) -> Series:
        series = item.groups.get(group)
        if series is None:
            name = group if len(item.groups) < MOST_GROUPS else OTHER
            series = self._families.groups.series(self.release, item.counts, name)
            if name is group:
                item.groups[group] = series
        return series


class Arms:
    """The arms of the releases in a traffic table: there are some only while it says what to watch."""

    def __init__(self, families: ArmFamilies, run_folder: Path, fault: Callable[[Exception], None]) -> None:
        self.sinks: list[Sink] = []
        self._families, self._folder, self._fault = families, run_folder, fault

    def follow(self, traffic: Traffic, lanes: Mapping[str, Lane]) -> None:
        """Count for the releases of a table that was just taken."""
        watch = traffic.watch
        file = "" if watch is None else units_file(traffic)
        forget(self._folder, but=file)
        for sink in self.sinks:
            sink.follow(watch)
        units = None if watch is None else Units(self._folder / file)
        for release, lane in lanes.items():
            lane.arm = None
            if watch is not None and units is not None and release in traffic.names:
                lane.arm = Arm(lane, watch, self._families, units, self.sinks, self._fault)


def _is_seen(watched: Watched, lane: Lane) -> bool:
    """Say whether what a watched thing looks at is in the requests; labels may bring the rest later."""
    contract = lane.model.contract
    names = [watched.group] if watched.slice is None else [watched.group, watched.slice.column]
    return all(name is None or column_of(contract, name) is not None for name in names)


def _rows_of(call: Call) -> _Rows:
    return _Rows(call.rows, call.packed, call.lane.model, getattr(call, "infer_s", 0.0))


def _is_drawn(request: Request) -> bool:
    return request.met is None or request.met.drawn


def _is_in(item: _Item, columns: Columns) -> bool:
    return item.slice is None or item.slice_column is None or all_in(item.slice, item.slice_column, columns)


def _hit(series: Series, trials: int, hits: float) -> None:
    cells, first = series.cells, series.first
    cells[first] += trials
    cells[first + 1] += hits


def _add(series: Series, value: float) -> None:
    cells, first = series.cells, series.first
    cells[first] += 1
    cells[first + 1] += value
    cells[first + 2] += value * value
