"""Whether two releases say the same of a row, and whether one reads requests as the other does. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from modelyard.core.contract import Column
from modelyard.serve.batching import Settled
from modelyard.serve.model import Model

SPREAD_SHARE = 1e-3  # of the range of a regression's sealed golden answers, within which two numbers are the same
RELATIVE = 1e-6  # of the larger number, in any case: what other libraries and orders of adding do to it


def tolerance(values: Sequence[float]) -> float:
    """Return how far apart two answers of a regression may be and count as the same, beside `RELATIVE`.

    Args:
        values: the golden answers of the stable release, as they were sealed.

    >>> tolerance([10.0, 30.0, 20.0])
    0.02
    """
    return SPREAD_SHARE * (max(values) - min(values)) if values else 0.0


def agreeing(ours: Settled, our_start: int, theirs: Settled, their_start: int, rows: int, within: float) -> int:
    """Return how many of the rows both answer with the same class, or with numbers as near as `within`.

    Each has an answer to all of these rows, from its start on. A release with other classes agrees on none.

    >>> agreeing(Settled(["a", "b"]), 0, Settled(["x", "a", "a"]), 1, 2, 0.0)
    1
    >>> agreeing(Settled(values=[1.0, 2.0]), 0, Settled(values=[1.01, 2.2]), 0, 2, 0.1)
    1
    """
    if ours.values is not None and theirs.values is not None:
        pairs = zip(
            ours.values[our_start : our_start + rows], theirs.values[their_start : their_start + rows], strict=True
        )
        return sum([abs(one - other) <= max(within, RELATIVE * max(abs(one), abs(other))) for one, other in pairs])
    if ours.labels is None or theirs.labels is None:
        return 0
    if rows == 1:
        return int(ours.labels[our_start] == theirs.labels[their_start])
    labels = zip(
        ours.labels[our_start : our_start + rows], theirs.labels[their_start : their_start + rows], strict=True
    )
    return sum([one == other for one, other in labels])


def reads_alike(ours: Model, theirs: Model) -> bool:
    """Say whether rows that one release has read are, as they lie packed, what the other would have read.

    What training saw of a column's values may differ: it refuses none, but where an unknown category is refused.
    """
    if ours.contract == theirs.contract and ours.unknown_category == theirs.unknown_category:
        return True
    columns, others = ours.contract.features, theirs.contract.features
    return (
        len(columns) == len(others)
        and theirs.unknown_category == "accept"
        and set(ours.contract.missing_texts) == set(theirs.contract.missing_texts)
        and all(_is_read_alike(one, other) for one, other in zip(columns, others, strict=True))
    )


def _is_read_alike(ours: Column, theirs: Column) -> bool:
    same = ("name", "kind", "format", "datatype", "shape")
    return all(getattr(ours, what) == getattr(theirs, what) for what in same) and (theirs.nullable or not ours.nullable)
