"""Files of answers are whole or not there."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from modelyard.core.arrays import Array
from modelyard.data import AnswerFile
from modelyard.errors import Unreadable, WrongFormat


def answers(start: int, count: int) -> dict[str, Array]:
    labels = np.array([f'says "{place}", twice' for place in range(start, start + count)], dtype=object)
    return {
        "row": np.arange(start, start + count),
        "prediction": labels,
        "probability a": np.full(count, 0.1, np.float32),
    }


def test_csv_written_in_pieces_has_one_head_and_every_row_in_order(tmp_path: Path) -> None:
    with AnswerFile(tmp_path / "out.csv") as file:
        file.write(answers(0, 3))
        file.write(answers(3, 2))
    with (tmp_path / "out.csv").open(newline="") as written:
        rows = list(csv.DictReader(written))
    assert [int(row["row"]) for row in rows] == [0, 1, 2, 3, 4]
    assert rows[4]["prediction"] == 'says "4", twice'
    assert np.float32(rows[0]["probability a"]) == np.float32(0.1)


def test_json_lines_hold_an_object_a_row(tmp_path: Path) -> None:
    with AnswerFile(tmp_path / "out.jsonl") as file:
        file.write(answers(0, 2))
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["row"] for row in rows] == [0, 1]


def test_a_failure_half_way_leaves_what_was_there_before(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("before")
    with pytest.raises(RuntimeError), AnswerFile(path) as file:
        file.write(answers(0, 3))
        raise RuntimeError("the graph failed")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_an_unknown_ending_and_a_folder_that_is_not_there_are_said(tmp_path: Path) -> None:
    with pytest.raises(WrongFormat, match=r"\.csv, \.jsonl"):
        AnswerFile(tmp_path / "out.xlsx")
    with pytest.raises(Unreadable, match="cannot be written"), AnswerFile(tmp_path / "no" / "out.csv"):
        pass
