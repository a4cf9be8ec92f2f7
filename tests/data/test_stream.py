"""Rows through a contract, and columns of any file, in memory as the house has them."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from modelyard.core.arrays import Columns
from modelyard.core.contract import Contract, Role
from modelyard.core.data_plan import Declared, Reading
from modelyard.core.ports import Tables
from modelyard.data import Batch, TableFiles, stream
from modelyard.errors import ContractBroken, MissingColumn, TooLarge
from tests.data.fakes import people, run


@pytest.fixture
def contract(tmp_path: Path) -> Contract:
    people(1000).write_csv(tmp_path / "train.csv")
    return run(tmp_path / "train.csv", columns={"city": Declared(role=Role.AUDIT)})[0].contract


def joined(batches: list[Batch]) -> dict[str, list[object]]:
    return {name: [value for batch in batches for value in batch.columns[name].tolist()] for name in batches[0].columns}


def test_gives_features_and_audit_columns_of_a_file_without_a_target(tmp_path: Path, contract: Contract) -> None:
    people(300, seed=1).drop("target").write_csv(tmp_path / "a.csv")
    batches = list(stream(tmp_path / "a.csv", contract, rows=64))
    assert list(batches[1].columns) == ["age", "height", "member", "city", "remark", "born", "seen"]
    assert max(len(batch.columns) for batch in batches) == 64
    assert np.concatenate([batch.numbers for batch in batches]).tolist() == list(range(2, 302))
    assert joined(batches)["age"] == people(300, seed=1)["age"].to_list()


def test_holds_each_kind_in_memory_as_agreed(tmp_path: Path, contract: Contract) -> None:
    people(10).write_csv(tmp_path / "a.csv")
    columns = list(stream(tmp_path / "a.csv", contract))[-1].columns
    dtypes = {name: str(columns[name].dtype) for name in columns}
    assert dtypes == {
        "age": "float64", "height": "float64", "member": "float64", "city": "object", "remark": "object",
        "born": "datetime64[us]", "seen": "datetime64[us]",
    }  # fmt: skip


def test_gives_the_same_columns_from_every_format(tmp_path: Path, contract: Contract) -> None:
    table = people(300, seed=1)
    table.write_csv(tmp_path / "a.csv")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    table.with_columns(pl.col("born").str.to_date(), pl.col("age").cast(pl.Int8)).write_parquet(tmp_path / "c.parquet")
    table.write_ndjson(tmp_path / "d.jsonl")
    results = [
        joined(list(stream(tmp_path / name, contract))) for name in ("a.csv", "b.csv.gz", "c.parquet", "d.jsonl")
    ]
    assert results[0] == results[1] == results[2] == results[3]


def test_a_row_that_does_not_fit_is_reported_and_the_others_keep_their_numbers(
    tmp_path: Path, contract: Contract
) -> None:
    lines = people(6).write_csv().splitlines()
    lines[2] = lines[2].replace(lines[2].split(",")[0], "old", 1)
    lines[4] = "1,2"
    lines[5] = "," + lines[5].split(",", 1)[1]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    batches = list(stream(tmp_path / "a.csv", contract))
    faults = sorted((one.row, one.column, one.reason) for batch in batches for one in batch.quarantined)
    assert faults == [
        (3, "age", "`old` is not a whole number within ±2^53"),
        (5, None, "2 fields seen, 8 wanted"),
        (6, "age", "missing, which it never is in training"),
    ]
    assert np.concatenate([batch.numbers for batch in batches]).tolist() == [2, 4, 7]


def test_a_feature_that_is_not_there_is_an_error_and_an_audit_column_is_not(tmp_path: Path, contract: Contract) -> None:
    people(10).drop("age").write_csv(tmp_path / "a.csv")
    people(10).drop("age").write_ndjson(tmp_path / "a.jsonl")
    people(10).drop("city").write_csv(tmp_path / "b.csv")
    for name in ("a.csv", "a.jsonl"):
        with pytest.raises(MissingColumn, match="`age` is not there"):
            list(stream(tmp_path / name, contract))
    assert "city" not in list(stream(tmp_path / "b.csv", contract))[-1].columns


def test_dates_are_read_as_they_were_written_in_training(tmp_path: Path) -> None:
    table = people(300).with_columns(pl.col("born").str.to_date().dt.strftime("%d/%m/%Y"))
    table.write_csv(tmp_path / "train.csv")
    contract = run(tmp_path / "train.csv")[0].contract
    assert contract.column("born").format == "%d/%m/%Y"
    table.with_columns(pl.lit("03/04/1990").alias("born"))[:5].write_csv(tmp_path / "a.csv")
    born = list(stream(tmp_path / "a.csv", contract))[-1].columns["born"]
    assert str(born[0])[:10] == "1990-04-03"


def test_more_rows_than_the_limit_are_refused(tmp_path: Path, contract: Contract) -> None:
    people(100).write_csv(tmp_path / "a.csv")
    with pytest.raises(TooLarge, match="more than 50 rows"):
        list(stream(tmp_path / "a.csv", contract, reading=Reading(most_rows=50)))


def test_equal_strings_of_a_batch_are_one_object(tmp_path: Path, contract: Contract) -> None:
    people(100).write_csv(tmp_path / "a.csv")
    city = list(stream(tmp_path / "a.csv", contract))[-1].columns["city"]
    assert len({id(value) for value in city}) == 3


def test_table_files_answer_the_port(tmp_path: Path) -> None:
    people(200).write_csv(tmp_path / "a.csv")
    tables: Tables = TableFiles()
    whole = tables.read(tmp_path / "a.csv")
    parts = list(tables.batches(tmp_path / "a.csv", 64))
    assert [len(part) for part in parts] == [64, 64, 64, 8]
    assert np.concatenate([part["height"] for part in parts]).tolist() == whole["height"].tolist()
    assert list(tables.read(tmp_path / "a.csv", ["city", "age"])) == ["city", "age"]
    with pytest.raises(MissingColumn):
        tables.read(tmp_path / "a.csv", ["town"])


def test_table_files_read_a_parquet_part_as_it_was_written(tmp_path: Path) -> None:
    people(300).with_columns(
        pl.when(pl.col("age") > 30).then(pl.col("age")).alias("age"),
        pl.when(pl.col("city") == "Rome").then(pl.lit("NA")).alias("city"),
    ).write_csv(tmp_path / "a.csv")
    _, folder = run(tmp_path / "a.csv", reading=Reading(null_values=("",)))
    part: Columns = TableFiles().read(folder / "train.parquet")
    frame = pl.read_parquet(folder / "train.parquet")
    assert np.isnan(part["age"]).sum() == frame["age"].null_count()
    assert part["city"].tolist() == frame["city"].to_list()
    assert "NA" in part["city"].tolist()
    assert part["seen"].dtype == np.dtype("datetime64[us]")
    assert part["member"].tolist() == frame["member"].cast(pl.Float64).to_list()
    assert [len(batch) for batch in TableFiles().batches(folder / "train.parquet", 100)] == [100, 80]


def test_table_files_refuse_what_cannot_be_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n" + "1,2\n" * 20 + "a,2\n")
    with pytest.raises(ContractBroken, match=r"row 22: column `x`: `a` is not a whole number"):
        TableFiles().read(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("x,y\n1,2\n3\n")
    with pytest.raises(ContractBroken, match=r"row 3: 1 fields seen, 2 wanted"):
        list(TableFiles().batches(tmp_path / "b.csv", 10))
