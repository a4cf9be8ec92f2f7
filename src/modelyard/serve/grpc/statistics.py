"""ModelStatistics: what the metrics of all processes have counted, as the protocol words it.

Nanoseconds are those of the service's histograms. `last_inference` is not kept and stays 0; what the protocol splits
into the computing of inputs and outputs is not told apart from the whole here, and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from modelyard.serve.grpc import wire
from modelyard.serve.told.board_file import Labels, Reading, read_all
from modelyard.serve.told.metrics import Metrics

_GOOD = "200"


def statistics(models: Iterable[tuple[str, str]], metrics: Metrics, folder: Path) -> bytes:
    """Return a ModelStatisticsResponse for models by name and version."""
    readings = read_all(folder)
    if metrics.board.path is None:
        readings.append(metrics.board.read())
    return b"".join(wire.blob(1, _model(name, version, metrics, readings)) for name, version in models)


def _model(name: str, version: str, metrics: Metrics, readings: list[Reading]) -> bytes:
    release = f"{name}@{version}"

    def count(family: str, wanted: Callable[[Labels], bool]) -> int:
        return round(sum(values[0] for values in _cells(readings, family, wanted)))

    def took(family: str, wanted: Callable[[Labels], bool]) -> tuple[int, int]:
        found = list(_cells(readings, family, wanted))
        return round(sum(sum(values[:-1]) for values in found)), round(sum(values[-1] for values in found) * 1e9)

    def mine(labels: Labels) -> bool:
        return labels[0] == release

    def in_stage(stage: str) -> Callable[[Labels], bool]:
        return lambda labels: labels == (release, stage)

    good = count(metrics.requests.name, lambda labels: labels[0] == release and labels[2] == _GOOD)
    bad = count(metrics.requests.name, lambda labels: labels[0] == release and labels[2] != _GOOD)
    answered, seconds_ns = took(metrics.seconds.name, mine)
    parts = [
        wire.blob(1, _duration(good, seconds_ns if answered else 0)),
        wire.blob(2, _duration(bad, 0)),
        wire.blob(3, _duration(*took(metrics.stages.name, in_stage("queue")))),
        wire.blob(5, _duration(*took(metrics.infer.name, mine))),
    ]
    return b"".join(
        (
            wire.text(1, name),
            wire.text(2, version),
            wire.whole(4, count(metrics.rows.name, mine)),
            wire.whole(5, count(metrics.batches.name, mine)),
            wire.blob(6, b"".join(parts)),
        )
    )


def _cells(readings: Iterable[Reading], family: str, wanted: Callable[[Labels], bool]) -> Iterable[list[float]]:
    for reading in readings:
        for record, values in reading.series:
            if record.family == family and wanted(record.labels):
                yield values


def _duration(count: int, nanoseconds: int) -> bytes:
    return wire.whole(1, count) + wire.whole(2, nanoseconds)
