"""The protocol's statistics: what the boards of all processes counted, by version of the model.

`success` and `fail` are of requests that were asked of a model, `fail` of refused ones too, which take no time.
`compute_infer` is of batches in the model, `compute_input` what else a batch was away at a worker: the way there and
back, and the steps before the graph. `compute_output` is of replies written. There is no cache. `last_inference` is
left out where no board says when a worker last answered.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

from modelyard.serve.told.board_file import Labels, Reading

REQUESTS, ROWS, BATCHES = "modelyard_requests_total", "modelyard_rows_total", "modelyard_batches_total"
SECONDS, STAGES, FAILED = "modelyard_request_seconds", "modelyard_stage_seconds", "modelyard_failed_seconds_total"
LAST = "modelyard_last_inference_timestamp_seconds"

_GOOD = "200"
_encode = msgspec.json.Encoder().encode


class Duration(msgspec.Struct, frozen=True):
    """How often something was done, and how long it took in all."""

    count: int
    ns: int


class Stages(msgspec.Struct, frozen=True, kw_only=True):
    """How long requests took, by what was done for them."""

    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration
    cache_hit: Duration = Duration(0, 0)
    cache_miss: Duration = Duration(0, 0)


class ModelStats(msgspec.Struct, frozen=True, kw_only=True):
    """The statistics of one version."""

    name: str
    version: str
    inference_count: int  # rows
    execution_count: int  # batches
    last_inference: int | msgspec.UnsetType = msgspec.UNSET  # milliseconds since 1970
    inference_stats: Stages
    batch_stats: tuple[()] = ()  # not kept by size of batch


class Totals:
    """The sum over the boards of all processes."""

    def __init__(self, readings: Iterable[Reading]) -> None:
        self._sums: dict[str, dict[Labels, list[float]]] = {}
        self._last: dict[str, float] = {}
        wanted = frozenset({REQUESTS, ROWS, BATCHES, SECONDS, STAGES, FAILED})
        for reading in readings:
            for record, values in reading.series:
                if record.family in wanted:
                    known = self._sums.setdefault(record.family, {})
                    before = known.get(record.labels)
                    fits = before is not None and len(before) == len(values)
                    known[record.labels] = [a + b for a, b in zip(before, values, strict=True)] if fits else values  # type: ignore[arg-type]
                elif record.family == LAST and math.isfinite(values[0]):  # a board that was not asked has none
                    (release,) = record.labels
                    self._last[release] = max(values[0], self._last.get(release, 0.0))

    def count(self, family: str, *labels: str) -> float:
        """Return the sum of a counter over all series whose labels begin like these."""
        return sum(values[0] for values in self._of(family, labels))

    def duration(self, family: str, *labels: str) -> Duration:
        """Return the observations of a histogram over all series whose labels begin like these."""
        found = self._of(family, labels)
        return Duration(int(sum(sum(values[:-1]) for values in found)), _ns(sum(values[-1] for values in found)))

    def good(self, release: str) -> int:
        """Return how many requests were answered."""
        counts = self._sums.get(REQUESTS, {})
        return int(sum(values[0] for labels, values in counts.items() if labels[0] == release and labels[2] == _GOOD))

    def last_ms(self, release: str) -> int | msgspec.UnsetType:
        """Return when a worker last answered for a release, in milliseconds since 1970."""
        return round(self._last[release] * 1000) if release in self._last else msgspec.UNSET

    def _of(self, family: str, labels: Sequence[str]) -> list[list[float]]:
        wide = len(labels)
        return [values for known, values in self._sums.get(family, {}).items() if known[:wide] == tuple(labels)]


def stats_of(name: str, version: str, totals: Totals) -> ModelStats:
    """Return the statistics of a version."""
    release = f"{name}@{version}"
    all_s = totals.duration(SECONDS, release)
    failed = Duration(int(totals.count(REQUESTS, release)) - totals.good(release), _ns(totals.count(FAILED, release)))
    away, infer = totals.duration(STAGES, release, "batch"), totals.duration(STAGES, release, "inference")
    return ModelStats(
        name=name,
        version=version,
        inference_count=int(totals.count(ROWS, release)),
        execution_count=int(totals.count(BATCHES, release)),
        last_inference=totals.last_ms(release),
        inference_stats=Stages(
            success=Duration(totals.good(release), max(0, all_s.ns - failed.ns)),
            fail=failed,
            queue=totals.duration(STAGES, release, "queue"),
            compute_input=Duration(away.count, max(0, away.ns - infer.ns)),
            compute_infer=infer,
            compute_output=totals.duration(STAGES, release, "encode"),
        ),
    )


def stats_page(name: str, versions: Sequence[str], readings: Iterable[Reading]) -> bytes:
    """Return the protocol's answer to a question for statistics."""
    totals = Totals(readings)
    return _encode({"model_stats": [stats_of(name, version, totals) for version in versions]})


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
