"""Which raw columns the bundle leans on: what the objective loses when a column is shuffled.

Source: Breiman, 2001, "Random Forests", section 10; here for any bundle, on rows it did not train on.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from modelyard.bundle.open import Answers, Bundle
from modelyard.core.arrays import Columns

MOST_ROWS = 2000
REPEATS = 3

Value = Callable[[Answers, Columns], float | None]


def importance(
    bundle: Bundle, columns: Columns, value: Value, *, rng: np.random.Generator
) -> tuple[tuple[str, float], ...]:
    """Return (column, mean loss of the objective), largest first; empty where the objective is undefined.

    `value` gives the objective of answers to rows, better when higher.
    """
    rows = columns.take(np.sort(rng.permutation(len(columns))[:MOST_ROWS]))
    base = value(bundle.answer(rows), rows)
    if base is None:
        return ()
    found = []
    for column in bundle.body.contract.features:
        losses = []
        for _ in range(REPEATS):
            shuffled = Columns({**rows.values, column.name: rows[column.name][rng.permutation(len(rows))]})
            got = value(bundle.answer(shuffled), rows)
            losses.append(base - got if got is not None else 0.0)
        found.append((column.name, float(np.mean(losses))))
    return tuple(sorted(found, key=lambda item: (-item[1], item[0])))
