"""Turn typed polars columns into arrays as core/arrays.py has them."""

from __future__ import annotations

import numpy as np
import polars as pl

from modelyard.core.arrays import Array, Columns, Strings


def to_columns(frame: pl.DataFrame) -> Columns:
    """Return a frame's columns in memory; equal strings of a column are one object."""
    return Columns({name: to_array(frame[name]) for name in frame.columns})


def to_array(values: pl.Series) -> Array:
    """Return one column: numbers and truth as float64, strings as objects, dates and times as datetime64[us]."""
    if values.dtype == pl.String:
        return _strings(values)
    if values.dtype == pl.Date:
        values = values.cast(pl.Datetime("us"))
    if isinstance(values.dtype, pl.Datetime):
        return values.to_numpy().astype("datetime64[us]", copy=False)
    return values.cast(pl.Float64).to_numpy().astype(np.float64, copy=False)


def _strings(values: pl.Series) -> Array:
    distinct = values.drop_nulls().unique(maintain_order=True)
    words: Strings = np.empty(len(distinct) + 1, dtype=object)
    words[:-1] = distinct.to_list()
    words[-1] = None
    codes = values.cast(pl.Enum(distinct)).to_physical().cast(pl.Int64).fill_null(len(distinct))
    result: Strings = words[codes.to_numpy()]
    return result
