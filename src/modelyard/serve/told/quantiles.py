"""How long a release's replies took so far, read from the counts of all its fronts."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from pathlib import Path

from modelyard.serve.told.board_file import read_all
from modelyard.serve.told.families import BUCKETS_S

FAMILY = "modelyard_request_seconds"


def stayed_below_ms(run_folder: Path, release: str, share: float, *, least: int = 1) -> float | None:
    """Return milliseconds that a share of a release's replies took at most; None after fewer replies than `least`.

    It is read from a histogram: between the bounds of a bucket, 1.3 to 2.5 times apart, times are taken to be spread
    evenly. As a limit to count by it serves wherever it lies, if it stays.
    """
    counts = [0.0] * (len(BUCKETS_S) + 1)
    for reading in read_all(run_folder):
        for record, cells in reading.series:
            if record.family == FAMILY and record.labels[0] == release:
                counts = [count + cell for count, cell in zip(counts, cells, strict=False)]
    reached = list(accumulate(counts))
    if reached[-1] < max(1, least):
        return None
    wanted = share * reached[-1]
    place = bisect_left(reached, wanted)
    low = 0.0 if place == 0 else BUCKETS_S[place - 1]
    high = BUCKETS_S[min(place, len(BUCKETS_S) - 1)]
    before = reached[place - 1] if place else 0.0
    part = (wanted - before) / counts[place] if counts[place] else 1.0
    return 1000 * (low + part * max(high - low, 0.0))
