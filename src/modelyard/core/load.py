"""What was measured of a service under load, and how it was loaded."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from modelyard.core.machine import Machine
from modelyard.core.requirement import Judgement, Verdict

Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]


class Arrivals(StrEnum):
    """When requests become due."""

    CONSTANT = "constant"  # open loop: evenly spaced, whatever the server does
    POISSON = "poisson"  # open loop: independent callers
    CLOSED = "closed"  # each connection asks again once it has its answer: for capacity only


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a service is loaded. A closed loop has no rate."""

    arrivals: Arrivals
    rate: Annotated[float, msgspec.Meta(gt=0, le=1_000_000)] | None = None  # requests a second
    connections: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 256  # most that are open at once
    seconds: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 10.0  # measured
    warmup_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 2.0  # the same load before, not counted
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = 10.0  # from the moment a request is due
    seed: Count = 0


class LatencyQuantile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One quantile of the answered requests' latency; an edge is None where too few samples lie beyond it."""

    q: Annotated[float, msgspec.Meta(gt=0, le=1)]  # 1 is the largest, which has no interval
    value_ms: float
    low_ms: float | None
    high_ms: float | None


class Rate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something per second with its interval over windows; None where there is but one window."""

    value: float
    low: float | None
    high: float | None


class Failures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Requests that got no good answer, by what went wrong."""

    refused: Count = 0  # no connection could be opened
    closed: Count = 0  # the connection ended before the whole answer came
    status: Count = 0  # answered with anything but 2xx
    timeout: Count = 0  # sent, and not answered in time
    late: Count = 0  # never sent: no connection became free in time
    malformed: Count = 0  # the answer was not HTTP/1
    by_status: dict[str, int] = {}

    @property
    def total(self) -> int:
        return self.refused + self.closed + self.status + self.timeout + self.late + self.malformed


class LoadWindow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the measured time; requests belong to the window in which they were due."""

    start_s: float
    due: Count
    answered: Count
    failed: Count
    p50_ms: float | None
    p99_ms: float | None


class Lag(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How late requests left, by whose doing."""

    p50_ms: float  # from due to taken up: the generator's own
    p99_ms: float
    max_ms: float
    waited_p99_ms: float  # from taken up to sent, for a connection to become free: the server's
    cores: float  # of the machine that the generator itself used
    foreign_cores: float | None = None  # that neither generator nor server used; None where that was not seen


class Usage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the processes of a local server used while it was measured."""

    processes: Count  # at the end
    cpu_s: float
    cores: float
    cpu_us_per_request: float | None  # answered within the measured time
    pss_mb: float | None  # at the end, millions of bytes, shared pages split; None where the kernel does not say
    rss_mb: float | None
    gone: Count = 0  # processes that ended meanwhile; their last moments are not in `cpu_s`


class LoadResult(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One measured load."""

    plan: LoadPlan
    sent_in_all: Count  # with the warm-up and the first request, which tried the address
    warmed_up: Count
    due: Count  # in the measured time
    answered: Count  # 2xx, whole; degraded ones among them
    degraded: Count
    failures: Failures
    throughput: Rate  # answers within the measured time, a second; to the warm-up's last requests too
    latency: tuple[LatencyQuantile, ...]  # of the answered, from the moment each was due
    lag: Lag
    generator_limited: bool
    unsettled: tuple[str, ...]  # why the figures cannot be taken for a steady state; empty where they can
    rising: bool  # latency grew, or answers fell behind, to the end
    windows: tuple[LoadWindow, ...]
    usage: Usage | None
    cost_per_thousand: float | None
    judgements: tuple[Judgement, ...] = ()  # failed requests count as slower than every answer
    verdict: Verdict | None = None
    cautions: tuple[str, ...] = ()

    def quantile(self, q: float) -> LatencyQuantile | None:
        """Return a quantile, where any request was answered."""
        return next((one for one in self.latency if one.q == q), None)


class SearchStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rate that was tried."""

    phase: str  # "double" | "halve" | "bisect" | "confirm" | "again": once more after an inconclusive run
    rate: Positive
    met: bool
    reason: str
    p50_ms: float | None
    p99_ms: float | None
    throughput: float
    failed: Count
    degraded: Count
    settled: bool
    generator_limited: bool


class Found(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The highest rate that kept what was required, and the lowest seen that did not."""

    highest: float | None
    lowest_failing: float | None
    confirmed: bool  # every confirming run kept it too, whole intervals included
    conclusion: str
    steps: tuple[SearchStep, ...]


class LoadReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The record of `modelyard bench`."""

    target: str
    release: str | None  # where the service was started for this
    recorded: str  # RFC 3339
    machine: Machine  # of the generator
    body_bytes: Count  # of the largest body that was sent
    bodies: Count  # different ones, sent in turn
    left_out: tuple[str, ...] = ()  # of the release's own settings, in the service that was started for this
    result: LoadResult | None  # None where a search found no rate
    found: Found | None = None
