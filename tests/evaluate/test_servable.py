"""The rows that a service may be sent are those that the contract check lets through."""

from __future__ import annotations

import numpy as np
import pytest

from modelyard.bundle.check import check_rows
from modelyard.core.arrays import Columns
from modelyard.core.contract import Column, Contract, Kind, Role
from modelyard.core.metrics import Task
from modelyard.errors import ContractBroken
from modelyard.evaluate.parity import servable
from modelyard.release.pack import json_rows

CONTRACT = Contract(
    task=Task.REGRESSION,
    target="y",
    columns=(
        Column(name="must", kind=Kind.NUMBER, role=Role.FEATURE, nullable=False),
        Column(name="may", kind=Kind.NUMBER, role=Role.FEATURE, nullable=True),
        Column(name="day", kind=Kind.DATE, role=Role.FEATURE, nullable=False),
        Column(name="word", kind=Kind.CATEGORY, role=Role.FEATURE, nullable=True, categories=("a", "b")),
    ),
)
DAYS = np.array(["2026-01-01", "2026-01-02", "NaT", "2026-01-04", "2026-01-05"], dtype="datetime64[us]")
ROWS = Columns(
    {
        "must": np.array([1.0, np.nan, 1.0, 1.0, 1.0]),
        "may": np.array([np.nan, 1.0, 1.0, 1.0, 1.0]),
        "day": DAYS,
        "word": np.array(["a", "a", "b", "never seen", None], dtype=object),
    }
)


@pytest.mark.parametrize("unknown_category", ["accept", "refuse"])
def test_it_agrees_with_the_check_row_by_row(unknown_category: str) -> None:
    def accepted(row: int) -> bool:
        try:
            check_rows(CONTRACT, json_rows(CONTRACT, ROWS.take(slice(row, row + 1))), unknown_category=unknown_category)
        except ContractBroken:
            return False
        return True

    wanted = [accepted(row) for row in range(5)]
    assert servable(CONTRACT, ROWS, unknown_category=unknown_category).tolist() == wanted
    assert wanted == [True, False, False, unknown_category == "accept", True]
