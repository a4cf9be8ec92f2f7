"""The array types that rooms hand each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Strings = NDArray[np.object_]
Array = NDArray[Any]


@dataclass(frozen=True)
class Columns:
    """Named columns of equal length, in memory.

    Per column type: integer, number and boolean are float64 with NaN where missing (integers are
    exact up to 2**53); category and text are object arrays of `str` with None where missing; date
    and datetime are `datetime64[us]` in UTC with NaT where missing; a tensor is (rows, *shape) of its datatype.
    """

    values: Mapping[str, Array]

    def __post_init__(self) -> None:
        lengths = {len(column) for column in self.values.values()}
        if len(lengths) > 1:
            raise ValueError(f"Columns differ in length: { {k: len(v) for k, v in self.values.items()} }")

    def __len__(self) -> int:
        return len(next(iter(self.values.values()))) if self.values else 0

    def __getitem__(self, name: str) -> Array:
        return self.values[name]

    def __contains__(self, name: object) -> bool:
        return name in self.values

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def take(self, rows: Ints | Bools | slice) -> Columns:
        """Return the rows asked for, in the order asked for."""
        return Columns({name: column[rows] for name, column in self.values.items()})

    def select(self, names: Sequence[str]) -> Columns:
        """Return the named columns only, in the order given."""
        return Columns({name: self.values[name] for name in names})
