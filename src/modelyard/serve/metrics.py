"""Counts and latencies of a service, as Prometheus reads them. Of one thread, the event loop's."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

Labels = tuple[str, ...]


class Counter:
    """A number that only grows, for each set of labels."""

    kind = "counter"

    def __init__(self, name: str, meaning: str, labels: Labels = ()) -> None:
        self.name, self.meaning, self.labels = name, meaning, labels
        self.counts: dict[Labels, float] = {}

    def add(self, *labels: str, by: float = 1) -> None:
        """Count."""
        self.counts[labels] = self.counts.get(labels, 0) + by

    def put(self, *labels: str, value: float) -> None:
        """Take over a count kept elsewhere."""
        self.counts[labels] = value

    @property
    def total(self) -> float:
        return sum(self.counts.values())

    def lines(self) -> Iterable[str]:
        for labels, count in sorted(self.counts.items()):
            yield f"{self.name}{_set(self.labels, labels)} {_number(count)}"


class Gauge(Counter):
    """A number that goes up and down, for each set of labels."""

    kind = "gauge"


class Histogram:
    """Counts by duration, in seconds, for each set of labels."""

    kind = "histogram"

    def __init__(self, name: str, meaning: str, labels: Labels = ()) -> None:
        self.name, self.meaning, self.labels = name, meaning, labels
        self.series: dict[Labels, list[float]] = {}  # a count a bucket, one beyond them, then the sum

    def add(self, *labels: str, value: float) -> None:
        """Count one duration."""
        series = self.series.get(labels)
        if series is None:
            series = self.series[labels] = [0.0] * (len(BUCKETS_S) + 2)
        series[bisect_left(BUCKETS_S, value)] += 1
        series[-1] += value

    def lines(self) -> Iterable[str]:
        for labels, series in sorted(self.series.items()):
            count = 0.0
            for bound, inside in zip((*BUCKETS_S, None), series, strict=False):
                count += inside
                edge = "+Inf" if bound is None else repr(bound)
                yield f"{self.name}_bucket{_set((*self.labels, 'le'), (*labels, edge))} {_number(count)}"
            yield f"{self.name}_sum{_set(self.labels, labels)} {series[-1]!r}"
            yield f"{self.name}_count{_set(self.labels, labels)} {_number(count)}"


class Metrics:
    """All that a front counts."""

    def __init__(self) -> None:
        self.requests = Counter("modelyard_requests_total", "Replies sent.", ("release", "door", "code"))
        self.rows = Counter("modelyard_rows_total", "Rows answered.", ("release",))
        self.seconds = Histogram("modelyard_request_seconds", "From whole request to reply.", ("release", "door"))
        self.infer = Histogram("modelyard_inference_seconds", "A batch in the model.", ("release",))
        self.batches = Counter("modelyard_batches_total", "Batches answered by workers.", ("release",))
        self.degraded = Counter("modelyard_degraded_total", "Answers by the fallback.", ("release", "reason"))
        self.overloads = Counter("modelyard_overloads_total", "Requests refused by a full queue.", ("release",))
        self.faults = Counter("modelyard_contract_faults_total", "Values that broke it.", ("release", "column"))
        self.unknown = Counter("modelyard_unknown_categories_total", "Values never seen.", ("release", "column"))
        self.dropped = Counter("modelyard_dropped_total", "Rows dropped before they ran.", ("release",))
        self.restarts = Counter("modelyard_worker_restarts_total", "Workers replaced.", ("release",))
        self.front_restarts = Counter("modelyard_front_restarts_total", "Fronts replaced.")
        self.log_drops = Counter("modelyard_log_drops_total", "Log lines that found no room.")
        self.queue = Gauge("modelyard_queue_rows", "Rows that wait.", ("release",))
        self.ready = Gauge("modelyard_ready", "1 if golden requests were just answered correctly.", ("release",))
        self.connections = Gauge("modelyard_connections", "Open connections.")
        self.epoch = Gauge("modelyard_traffic_epoch", "The traffic table followed.")

    def text(self) -> bytes:
        """Return everything in the Prometheus text format, version 0.0.4."""
        lines: list[str] = []
        for family in vars(self).values():
            lines.append(f"# HELP {family.name} {family.meaning}")
            lines.append(f"# TYPE {family.name} {family.kind}")
            lines.extend(family.lines())
        return "\n".join([*lines, ""]).encode()


def _set(names: Labels, values: Labels) -> str:
    if not names:
        return ""
    pairs = (f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))
    return "{" + ",".join(pairs) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    return repr(int(value)) if value == int(value) else repr(value)
