"""Arrays as callers send them, held against a contract's tensor column."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np

from modelyard.bundle.values import LONGEST_STRING
from modelyard.core.arrays import Array
from modelyard.core.contract import Column

# The datatypes of the Open Inference Protocol, as numpy holds them; BYTES elements are `str`.
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    "BYTES": np.dtype(object),
}


def read_tensor(column: Column, values: Any, rows: int) -> Array:
    """Return (rows, *shape) of the column's datatype from nested lists or an array.

    A float takes any number that does not overflow it, rounded to the nearest; an integer takes whole numbers
    within its range; BOOL takes true and false; BYTES takes strings. NaN is taken where the column is nullable.
    Raises: ValueError with what was seen and what was wanted.
    """
    dtype = DTYPES[column.datatype or "FP32"]
    given = _array(values, dtype, column)
    wanted = shape_text(column)
    if given.ndim != len(column.shape) + 1 or not fits(column, given.shape[1:]):
        raise ValueError(f"saw the shape {list(given.shape[1:])} a row, wanted {wanted}")
    if given.shape[0] != rows:
        raise ValueError(f"saw {given.shape[0]} rows, wanted {rows}")
    return check_elements(column, given)


def check_elements(column: Column, given: Array) -> Array:
    """Return an array in the column's datatype; raises ValueError where an element does not fit it."""
    dtype = DTYPES[column.datatype or "FP32"]
    if dtype.kind == "O":
        _check_strings(given)
        return given
    with np.errstate(over="ignore", invalid="ignore"):
        cast = np.ascontiguousarray(given, dtype=dtype)
    if dtype.kind == "f":
        if not np.isfinite(cast).all():
            infinite = bool(np.isinf(cast).any())
            if infinite or not column.nullable:
                what = "an infinity or a number beyond the range" if infinite else "NaN"
                raise ValueError(f"saw {what}, wanted finite {column.datatype}")
    elif given.dtype != dtype and not np.array_equal(cast, given):
        raise ValueError(f"saw values beyond {column.datatype}")
    return cast


def fits(column: Column, shape: tuple[int, ...]) -> bool:
    """Say whether the shape of a row is the one that the contract asks for."""
    return len(shape) == len(column.shape) and all(
        wanted in (-1, size) for size, wanted in zip(shape, column.shape, strict=True)
    )


def shape_text(column: Column) -> str:
    """Return the contract's shape of a row in words."""
    return "[" + ", ".join("any" if size == -1 else str(size) for size in column.shape) + "]"


def _array(values: Any, dtype: np.dtype[Any], column: Column) -> Array:
    if isinstance(values, np.ndarray) and values.dtype.kind != "O":
        given = values
    else:
        try:
            given = np.array(values, dtype=object if dtype.kind == "O" else None)
        except (ValueError, OverflowError):
            raise ValueError(f"saw rows of different shapes, wanted {shape_text(column)} each") from None
    kinds = {"f": "fiu", "i": "iu", "u": "iu", "b": "b", "O": "O"}[dtype.kind]
    if given.dtype.kind not in kinds or (given is not values and dtype.kind in "fiu" and _has_booleans(values)):
        raise ValueError(f"saw elements that are not {column.datatype}")
    return given


def _has_booleans(values: Any) -> bool:
    """Say whether true or false stands among the numbers of nested lists, where numpy would take it for 1 or 0."""
    while len(values) and isinstance(values[0], list):
        values = list(chain.from_iterable(values))
    return bool in set(map(type, values))


def _check_strings(given: Array) -> None:
    for value in given.reshape(-1).tolist():
        if not isinstance(value, str) or len(value) > LONGEST_STRING:
            raise ValueError(f"saw an element that is not a string of at most {LONGEST_STRING} characters")
