"""ModelStatistics: what `serve/v2/statistics.py` has of a version, as messages."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from modelyard.serve.grpc import wire
from modelyard.serve.told.board_file import read_all
from modelyard.serve.told.metrics import Metrics
from modelyard.serve.v2.statistics import Duration, ModelStats, Totals, stats_of

# fields of InferStatistics
_STAGES = {"success": 1, "fail": 2, "queue": 3, "compute_input": 4, "compute_infer": 5, "compute_output": 6,
           "cache_hit": 7, "cache_miss": 8}  # fmt: skip


def statistics(models: Iterable[tuple[str, str]], metrics: Metrics, folder: Path) -> bytes:
    """Return a ModelStatisticsResponse for models by name and version."""
    readings = read_all(folder)
    if metrics.board.path is None:
        readings.append(metrics.board.read())
    totals = Totals(readings)
    return b"".join(wire.blob(1, _model(stats_of(name, version, totals))) for name, version in models)


def _model(stats: ModelStats) -> bytes:
    last = stats.last_inference
    stages = [wire.blob(field, _duration(getattr(stats.inference_stats, name))) for name, field in _STAGES.items()]
    return b"".join(
        (
            wire.text(1, stats.name),
            wire.text(2, stats.version),
            b"" if isinstance(last, msgspec.UnsetType) else wire.whole(3, last),
            wire.whole(4, stats.inference_count),
            wire.whole(5, stats.execution_count),
            wire.blob(6, b"".join(stages)),
        )
    )


def _duration(duration: Duration) -> bytes:
    return wire.whole(1, duration.count) + wire.whole(2, duration.ns)
