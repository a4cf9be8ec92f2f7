"""One small system of each kind of task, and the rows to ask its release."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from tests.journeys.making import SHOP, flower_rows, note_rows, rent_rows, shop_rows

_QUICK = """\
candidates: [{algorithm: lightgbm, params: {max_trees: 20}}]
budget: {trials: 2, threads: 1}
"""

FLOWERS = f"""\
modelyard: 1
name: flowers
goal: Tell the kind.
task: {{type: classification, target: kind}}
data:
  path: rows.parquet
  columns:
    weight: {{role: weight}}
requirements:
  - {{metric: accuracy, at_least: 0.5}}
{_QUICK}"""

RENTS = f"""\
modelyard: 1
name: rents
goal: Tell the rent.
task: {{type: regression, target: rent}}
data:
  path: rows.parquet
  columns:
    day: {{role: ignore}}
    house: {{role: ignore}}
requirements:
  - {{metric: r2, at_least: 0.5}}
{_QUICK}"""

NOTES = f"""\
modelyard: 1
name: notes
goal: Tell who is upset.
task: {{type: classification, target: upset, positive: "true"}}
data:
  path: rows.parquet
  columns:
    note: {{kind: text}}
requirements:
  - {{metric: roc_auc, at_least: 0.6}}
{_QUICK}"""


@dataclass(frozen=True)
class Small:
    """A spec and its rows."""

    text: str
    rows: Callable[[], pl.DataFrame]
    raw: bool  # its graph takes the columns themselves: no dates, no text


SYSTEMS = {
    "shop": Small(SHOP, shop_rows, raw=True),
    "flowers": Small(FLOWERS, flower_rows, raw=True),
    "rents": Small(RENTS, rent_rows, raw=True),
    "notes": Small(NOTES, note_rows, raw=False),
}
