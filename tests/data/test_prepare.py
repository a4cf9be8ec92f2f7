"""From files to checked parts."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from modelyard.core.codec import decode, encode
from modelyard.core.contract import Kind, Part, Prepared, Role
from modelyard.core.data_plan import Declared, Goal, Reading, Split, SplitMethod
from modelyard.core.metrics import Task
from modelyard.data import prepare
from modelyard.errors import DataError, EmptyData, MissingColumn, TooManyMalformed, WrongFormat
from tests.data.fakes import Silent, aside, people, plan, run


def test_tells_the_kind_of_every_column_from_a_csv_file(tmp_path: Path) -> None:
    people().write_csv(tmp_path / "a.csv")
    prepared, _ = run(tmp_path / "a.csv")
    kinds = {column.name: column.kind.value for column in prepared.contract.columns}
    assert kinds == {
        "age": "integer",
        "height": "number",
        "member": "boolean",
        "city": "category",
        "remark": "text",
        "born": "date",
        "seen": "datetime",
        "target": "category",
    }


def test_gives_the_same_parts_from_csv_gzip_parquet_and_json_lines(tmp_path: Path) -> None:
    table = people()
    table.write_csv(tmp_path / "a.csv")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    typed = table.with_columns(
        pl.col("member") == "yes", pl.col("born").str.to_date(), pl.col("seen").str.to_datetime()
    )
    typed.write_parquet(tmp_path / "c.parquet")
    table.with_columns(pl.col("member") == "yes").write_ndjson(tmp_path / "d.jsonl")
    frames = [
        pl.read_parquet(run(tmp_path / name)[1] / "train.parquet")
        for name in ("a.csv", "b.csv.gz", "c.parquet", "d.jsonl")
    ]
    assert all(frame.equals(frames[0]) for frame in frames)
    assert frames[0].schema == {
        "age": pl.Int64(), "height": pl.Float64(), "member": pl.Boolean(), "city": pl.String(), "remark": pl.String(),
        "born": pl.Date(), "seen": pl.Datetime("us"), "target": pl.String(),
    }  # fmt: skip


def test_writes_the_same_bytes_for_the_same_input_and_seed(tmp_path: Path) -> None:
    people(2000).write_csv(tmp_path / "a.csv")
    digests = []
    for name in ("one", "two"):
        prepare(plan(tmp_path / "a.csv"), tmp_path / name, progress=Silent())
        digests.append(
            [hashlib.sha256((tmp_path / name / f"{part}.parquet").read_bytes()).hexdigest() for part in Part]
        )
    assert digests[0] == digests[1]
    prepare(plan(tmp_path / "a.csv", split=Split(seed=1)), tmp_path / "three", progress=Silent())
    assert hashlib.sha256((tmp_path / "three" / "train.parquet").read_bytes()).hexdigest() != digests[0][0]


def test_the_record_survives_json(tmp_path: Path) -> None:
    people().write_csv(tmp_path / "a.csv")
    prepared, _ = run(tmp_path / "a.csv")
    assert decode(encode(prepared), Prepared) == prepared


def test_every_row_is_in_one_part_or_in_quarantine_and_order_is_kept(tmp_path: Path) -> None:
    table = (
        people(500)
        .with_columns(pl.int_range(500).alias("row"))
        .with_columns(
            pl.when(pl.col("row") == 7).then(pl.lit("tall")).otherwise(pl.col("height").cast(pl.String)).alias("height")
        )
    )
    table.write_csv(tmp_path / "a.csv")
    prepared, folder = run(tmp_path / "a.csv", columns={"row": Declared(role=Role.ID)})
    parts = [pl.read_parquet(folder / f"{part}.parquet")["row"].to_list() for part in Part]
    assert all(rows == sorted(rows) for rows in parts)
    assert sorted(row for rows in parts for row in rows) == [row for row in range(500) if row != 7]
    assert (prepared.rows_read, prepared.rows_quarantined) == (500, 1)
    assert aside(folder)[0]["row"] == 9
    assert aside(folder)[0]["column"] == "height"
    assert aside(folder)[0]["reason"] == "`tall` is not a finite number"


def test_ragged_rows_are_put_aside_with_the_counts_seen_and_wanted(tmp_path: Path) -> None:
    lines = people(300).write_csv().splitlines()
    lines[4] = "1,2,3"
    lines[9] += ",more"
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    prepared, folder = run(tmp_path / "a.csv")
    assert [(one["row"], one["reason"]) for one in aside(folder)] == [
        (5, "3 fields seen, 8 wanted"),
        (10, "9 fields seen, 8 wanted"),
    ]
    assert prepared.quarantine_sample[0].text == "1,2,3"
    assert sum(prepared.rows.values()) == 298


def test_stops_when_more_rows_are_malformed_than_allowed(tmp_path: Path) -> None:
    table = people(1000).with_columns(
        pl.when(pl.int_range(1000) % 20 == 3).then(pl.lit("abc")).otherwise(pl.col("age").cast(pl.String)).alias("age")
    )
    table.write_csv(tmp_path / "a.csv")
    with pytest.raises(TooManyMalformed) as caught:
        run(tmp_path / "a.csv")
    assert "50 of 1000 rows are malformed (5.00%); allowed are 1.00%" in str(caught.value)
    assert "column `age`: not a whole number" in str(caught.value)
    assert "row 5 of" in str(caught.value)
    prepared, _ = run(tmp_path / "a.csv", allowed_malformed_share=0.06)
    assert prepared.contract.column("age").kind is Kind.INTEGER
    assert any("50 of 1000 values do not fit" in note for note in prepared.notes)


def test_rows_without_a_target_are_put_aside(tmp_path: Path) -> None:
    table = people(300).with_columns(
        pl.when(pl.int_range(300) < 2).then(pl.lit("?")).otherwise(pl.col("target")).alias("target")
    )
    table.write_csv(tmp_path / "a.csv")
    _, folder = run(tmp_path / "a.csv")
    assert [(one["row"], one["column"], one["reason"]) for one in aside(folder)] == [
        (2, "target", "the target is missing"),
        (3, "target", "the target is missing"),
    ]


def test_infinity_is_malformed_and_nan_is_missing(tmp_path: Path) -> None:
    table = people(300)
    height = np.array(table["height"].to_list())
    height[3], height[4] = np.inf, np.nan
    table.with_columns(pl.Series("height", height)).write_parquet(tmp_path / "a.parquet")
    _, folder = run(tmp_path / "a.parquet")
    assert [(one["row"], one["column"]) for one in aside(folder)] == [(4, "height")]
    missing = sum(pl.read_parquet(folder / f"{part}.parquet")["height"].null_count() for part in Part)
    assert missing == 1


def test_a_test_file_of_its_own_is_the_test_part_whole(tmp_path: Path) -> None:
    people(400).write_csv(tmp_path / "a.csv")
    people(100, seed=1).write_csv(tmp_path / "b.csv")
    prepared, folder = run(tmp_path / "a.csv", test_path=str(tmp_path / "b.csv"))
    assert prepared.rows[Part.TEST] == 100
    assert prepared.rows[Part.TRAIN] + prepared.rows[Part.CALIBRATE] + prepared.rows[Part.VALID] == 400
    assert pl.read_parquet(folder / "test.parquet")["age"].to_list() == people(100, seed=1)["age"].to_list()
    assert len(prepared.sources) == 2


def test_a_test_file_with_other_columns_or_the_same_file_is_refused(tmp_path: Path) -> None:
    people(400).write_csv(tmp_path / "a.csv")
    people(100).drop("city").write_csv(tmp_path / "b.csv")
    people(100).with_columns(pl.lit(1).alias("extra")).write_csv(tmp_path / "c.csv")
    with pytest.raises(MissingColumn, match="`city` is not there"):
        run(tmp_path / "a.csv", test_path=str(tmp_path / "b.csv"))
    with pytest.raises(WrongFormat, match="`extra`"):
        run(tmp_path / "a.csv", test_path=str(tmp_path / "c.csv"))
    with pytest.raises(WrongFormat, match="training file too"):
        run(tmp_path / "a.csv", test_path=str(tmp_path / "a.csv"))


def test_a_folder_of_parts_is_one_table_and_a_part_with_other_columns_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    table = people(400)
    table[:200].write_csv(folder / "p1.csv")
    table[200:].select(reversed(table.columns)).write_csv(folder / "p2.csv")
    (folder / "_SUCCESS").write_text("")
    _, out = run(folder)
    table.write_csv(tmp_path / "whole.csv")
    assert pl.read_parquet(out / "train.parquet").equals(
        pl.read_parquet(run(tmp_path / "whole.csv")[1] / "train.parquet")
    )
    table.rename({"city": "town"}).write_csv(folder / "p3.csv")
    with pytest.raises(WrongFormat, match=r"p3.csv` has other columns than .*p1.csv`: without `city`; with `town`"):
        run(folder)


def test_the_positive_class_stands_last(tmp_path: Path) -> None:
    people(400).write_csv(tmp_path / "a.csv")
    assert run(tmp_path / "a.csv")[0].contract.classes == ("low", "high")
    assert run(tmp_path / "a.csv", positive="low")[0].contract.classes == ("high", "low")
    with pytest.raises(DataError, match="`middle` is not among the values of `target`: `high`, `low`"):
        run(tmp_path / "a.csv", positive="middle")


def test_the_goal_and_the_classes_give_the_task(tmp_path: Path) -> None:
    table = people(400)
    table.with_columns(pl.col("city").alias("target")).drop("city").write_csv(tmp_path / "many.csv")
    table.with_columns(pl.col("height").alias("target")).drop("height").write_csv(tmp_path / "value.csv")
    assert run(tmp_path / "many.csv")[0].contract.task is Task.MULTICLASS
    assert run(tmp_path / "value.csv", goal=Goal.REGRESSION)[0].contract.task is Task.REGRESSION
    with pytest.raises(DataError, match=r"If it is a quantity, write plain numbers and set `task\.type` to regression"):
        run(tmp_path / "value.csv")
    with pytest.raises(WrongFormat, match="a regression wants plain numbers"):
        run(tmp_path / "many.csv", goal=Goal.REGRESSION)


def test_the_contract_is_learned_from_the_training_rows_alone(tmp_path: Path) -> None:
    table = people(300).with_columns(pl.int_range(300).alias("when"))
    late = table.with_columns(
        pl.when(pl.col("when") >= 280).then(999).otherwise(pl.col("age")).alias("age"),
        pl.when(pl.col("when") >= 280).then(pl.lit("Cairo")).otherwise(pl.col("city")).alias("city"),
    )
    late.write_csv(tmp_path / "a.csv")
    prepared, folder = run(
        tmp_path / "a.csv", columns={"when": Declared(role=Role.TIME)}, split=Split(method=SplitMethod.TIME)
    )
    assert prepared.contract.column("age").maximum == float(table["age"][:180].max())  # type: ignore[arg-type]
    assert "Cairo" not in prepared.contract.column("city").categories
    assert "Cairo" in pl.read_parquet(folder / "test.parquet")["city"].to_list()


def test_rows_of_a_class_that_training_never_saw_are_put_aside(tmp_path: Path) -> None:
    table = (
        people(300)
        .with_columns(pl.int_range(300).alias("when"))
        .with_columns(pl.when(pl.col("when") == 299).then(pl.lit("rare")).otherwise(pl.col("target")).alias("target"))
    )
    table.write_csv(tmp_path / "a.csv")
    prepared, folder = run(
        tmp_path / "a.csv", columns={"when": Declared(role=Role.TIME)}, split=Split(method=SplitMethod.TIME)
    )
    assert [(one["row"], one["column"]) for one in aside(folder)] == [(301, "target")]
    assert prepared.contract.classes == ("low", "high")
    assert any("no training row has (`rare`)" in note for note in prepared.notes)


def test_nested_columns_are_left_out_with_a_note(tmp_path: Path) -> None:
    people(300).with_columns(pl.concat_list("age", "age").alias("pair")).write_parquet(tmp_path / "a.parquet")
    prepared, _ = run(tmp_path / "a.parquet")
    assert "pair" not in [column.name for column in prepared.contract.columns]
    assert any("`pair` holds List(Int64) values" in note for note in prepared.notes)


def test_what_a_null_text_replaced_is_noted(tmp_path: Path) -> None:
    table = people(300).with_columns(
        pl.when(pl.int_range(300) < 5).then(pl.lit("NA")).otherwise(pl.col("city")).alias("city")
    )
    table.write_csv(tmp_path / "a.csv")
    assert "`city`: 5 values `NA` are read as missing (`data.null_values`)." in run(tmp_path / "a.csv")[0].notes
    kept, _ = run(tmp_path / "a.csv", reading=Reading(null_values=("",)))
    assert "NA" in kept.contract.column("city").categories


def test_a_file_of_column_names_alone_is_empty(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,target\n")
    with pytest.raises(EmptyData, match="holds column names but no rows"):
        run(tmp_path / "a.csv")


def test_the_profile_agrees_with_numpy(tmp_path: Path) -> None:
    people(400).write_csv(tmp_path / "a.csv")
    prepared, folder = run(tmp_path / "a.csv")
    train = pl.read_parquet(folder / "train.parquet")
    height = next(one for one in prepared.profile if one.column == "height")
    values = train["height"].to_numpy()
    assert height.mean == pytest.approx(values.mean())
    assert height.deviation == pytest.approx(values.std())
    assert height.quantiles["0.25"] == pytest.approx(np.quantile(values, 0.25))
    assert height.histogram is not None
    assert list(height.histogram.counts) == np.histogram(values, 20)[0].tolist()
    city = next(one for one in prepared.profile if one.column == "city")
    assert dict(city.top) == dict(train["city"].value_counts().iter_rows())
