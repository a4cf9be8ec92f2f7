"""Planted leaks are found, and honest tables are left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from modelyard.core.contract import Leak
from modelyard.core.data_plan import Goal
from modelyard.data.leaks import area_under_roc
from modelyard.data.linear import exact_sums
from tests.data.fakes import people, run


def found(table: pl.DataFrame, folder: Path, goal: Goal = Goal.CLASSIFICATION) -> dict[tuple[str, str | None], Leak]:
    table.write_parquet(folder / "a.parquet")
    return {(leak.rule, leak.column): leak for leak in run(folder / "a.parquet", goal=goal)[0].leaks}


def test_an_honest_table_has_no_leak(tmp_path: Path) -> None:
    assert found(people(2000), tmp_path) == {}


def test_a_running_number_and_a_name_for_each_row_are_id_like(tmp_path: Path) -> None:
    table = people(1000).with_columns(
        pl.int_range(1000).alias("row"), pl.int_range(1000).map_elements(lambda n: f"u{n}", pl.String).alias("user")
    )
    assert set(found(table, tmp_path)) == {("id_like", "row"), ("id_like", "user")}


def test_the_target_in_other_words_is_known_later(tmp_path: Path) -> None:
    table = people(1000).with_columns((pl.col("target") == "high").cast(pl.Int64).alias("flag"))
    leaks = found(table, tmp_path)
    assert set(leaks) == {("known_later", "flag")}


def test_a_feature_that_alone_predicts_a_class_is_found(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.2, 2000)
    table = people(2000).with_columns(((pl.col("target") == "high").cast(pl.Float64) + pl.Series(noise)).alias("score"))
    leaks = found(table, tmp_path)
    assert set(leaks) == {("predicts_target", "score")}
    truth = (table["target"] == "high").to_numpy()
    assert leaks["predicts_target", "score"].strength == pytest.approx(roc_auc_score(truth, table["score"]), abs=0.01)


def test_a_feature_missing_exactly_for_one_class_is_found(tmp_path: Path) -> None:
    table = people(2000).with_columns(pl.when(pl.col("target") == "low").then(pl.col("height")).alias("fee"))
    assert ("predicts_target", "fee") in found(table, tmp_path)


def test_numbers_that_sum_to_the_target_are_known_later(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    table = pl.DataFrame({"a": dice.poisson(40, 1000), "b": dice.poisson(150, 1000), "c": dice.normal(size=1000)})
    table = table.with_columns((pl.col("a") + 2 * pl.col("b") + 7).alias("target"))
    leaks = found(table, tmp_path, Goal.REGRESSION)
    assert set(leaks) == {("known_later", "a"), ("known_later", "b")}
    assert "`target` = 1 × `a` + 2 × `b` + 7 in the training rows" in leaks["known_later", "a"].reason


def test_the_target_in_another_unit_is_known_later(tmp_path: Path) -> None:
    table = people(1000).with_columns((pl.col("height") / 2.54).alias("inches"), pl.col("height").alias("target"))
    assert {column for _, column in found(table.drop("height"), tmp_path, Goal.REGRESSION)} == {"inches"}


def test_a_curve_of_the_target_alone_predicts_it(tmp_path: Path) -> None:
    table = people(3000).with_columns((pl.col("height") ** 3).alias("cubed"), pl.col("height").alias("target"))
    leaks = found(table.drop("height"), tmp_path, Goal.REGRESSION)
    assert {column for _, column in leaks} == {"cubed"}


def test_rows_that_stand_on_both_sides_of_the_split_are_counted(tmp_path: Path) -> None:
    table = pl.concat([people(500), people(500)])
    leaks = found(table, tmp_path)
    (leak,) = [leak for leak in leaks.values() if "test rows" in leak.reason]
    assert leak.strength == pytest.approx(0.6, abs=0.1)  # the twin of a test row is in training six times in ten


def test_the_area_under_the_curve_agrees_with_scikit_learn() -> None:
    dice = np.random.default_rng(0)
    scores, truth = dice.integers(0, 20, 500).astype(float), dice.integers(0, 2, 500).astype(float)
    assert area_under_roc(scores, truth) == pytest.approx(roc_auc_score(truth, scores))


def test_finds_a_smallest_set_of_columns_and_then_another() -> None:
    dice = np.random.default_rng(0)
    columns = dice.normal(size=(500, 6))
    columns[:, 5] = columns[:, 0] - columns[:, 1]
    sums = list(exact_sums(columns, columns[:, 0] - columns[:, 1]))
    assert [sorted(one.weights) for one in sums] == [[5], [0, 1]]


def test_few_rows_and_many_columns_are_no_evidence_of_a_sum() -> None:
    dice = np.random.default_rng(0)
    assert list(exact_sums(dice.normal(size=(20, 19)), dice.normal(size=20))) == []


def test_numbers_written_with_signs_are_no_id_and_are_told_of(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    money = [f"${value:,.2f}" for value in dice.uniform(100, 1e6, 400)]
    table = pl.DataFrame({"asking": money, "x": dice.normal(size=400), "y": dice.integers(0, 2, 400)})
    table.write_csv(tmp_path / "a.csv")
    prepared, _ = run(tmp_path / "a.csv", target="y")
    assert not [leak for leak in prepared.leaks if leak.column == "asking"]
    assert any("`asking` looks like numbers written with signs" in note for note in prepared.notes)
