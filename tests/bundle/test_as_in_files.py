"""A request is read as the training files are: the same texts mean missing, dates may be written as there."""

from __future__ import annotations

import numpy as np
import pytest

from modelyard.bundle.check import check_rows, check_values
from modelyard.core.contract import Column, Contract, Kind, Role
from modelyard.core.metrics import Task
from modelyard.errors import ContractBroken


def contract(*, nullable: bool = True) -> Contract:
    return Contract(
        task=Task.REGRESSION,
        target="y",
        columns=(
            Column(name="work", kind=Kind.CATEGORY, role=Role.FEATURE, nullable=nullable, categories=("a", "b")),
            Column(name="day", kind=Kind.DATE, role=Role.FEATURE, nullable=False, format="%d/%m/%Y"),
            Column(name="y", kind=Kind.NUMBER, role=Role.TARGET, nullable=False),
        ),
        missing_texts=("", "?"),
    )


def test_a_text_that_means_missing_in_the_files_means_it_in_a_request() -> None:
    rows = [{"work": text, "day": "2026-01-31"} for text in ("a", "?", "", None)]
    assert check_rows(contract(), rows)["work"].tolist() == ["a", None, None, None]
    assert check_values(contract(), {"work": ["?"], "day": ["2026-01-31"]})["work"].tolist() == [None]


def test_such_a_text_is_refused_where_training_had_no_missing_value() -> None:
    with pytest.raises(ContractBroken, match="column `work`: is missing"):
        check_rows(contract(nullable=False), [{"work": "?", "day": "2026-01-31"}])


def test_a_date_is_read_as_the_files_write_it_and_as_iso() -> None:
    days = check_rows(contract(), [{"work": "a", "day": text} for text in ("31/01/2026", "2026-01-31")])["day"]
    assert days.tolist() == np.array(["2026-01-31", "2026-01-31"], dtype="datetime64[us]").tolist()
    with pytest.raises(ContractBroken, match="wanted an ISO 8601 date"):
        check_rows(contract(), [{"work": "a", "day": "31st of January"}])
