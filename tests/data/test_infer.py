"""What columns are taken for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.contract import Kind
from modelyard.core.data_plan import NULL_VALUES
from modelyard.data.cast import cast, clean
from modelyard.data.infer import Inferred, infer, survey, total


def told(values: Sequence[str | None]) -> Inferred:
    return infer("x", survey(clean(pl.Series("x", values), NULL_VALUES, strip=True), numbers=True))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2", "-3"], Kind.INTEGER),
        ([" 1", "2 ", "?"], Kind.INTEGER),
        (["1", "2.5", "1e3"], Kind.NUMBER),
        (["1", "0", "0.5"], Kind.NUMBER),
        (["007", "123", "456"], Kind.CATEGORY),
        (["-05", "1", "2"], Kind.CATEGORY),
        (["9007199254740993", "1"], Kind.CATEGORY),
        (["99999999999999999999", "12345678901234567890"], Kind.CATEGORY),
        (["true", "False"], Kind.BOOLEAN),
        (["yes", "no", "NO"], Kind.BOOLEAN),
        (["yes", "no", "maybe"], Kind.CATEGORY),
        (["2024-01-02", "2024-02-29"], Kind.DATE),
        (["2024-01-02T03:04:05Z", "2024-01-02 03:04:05+02:00"], Kind.DATETIME),
        (["2024-01-02T03:04", "2024-01-02"], Kind.DATETIME),
        (["31/12/2024", "01/02/2024"], Kind.DATE),
        (["12/31/2024", "01/02/2024"], Kind.DATE),
        (["31.12.2024 10:00", "01.02.2024 11:30"], Kind.DATETIME),
        (["01/02/2024", "03/04/2024"], Kind.CATEGORY),
        (["01/02/24", "31/12/24"], Kind.CATEGORY),
        (["a", "b"], Kind.CATEGORY),
        ([None, "", "NA"], Kind.CATEGORY),
    ],
)
def test_tells_kinds(values: list[str | None], kind: Kind) -> None:
    assert told(values).kind is kind


def test_dates_that_may_be_read_two_ways_are_kept_as_text_with_a_note() -> None:
    note = told(["01/02/2024", "03/04/2024"]).note
    assert note is not None
    assert "`%d/%m/%Y` or `%m/%d/%Y`, and no value tells which" in note


def test_the_way_dates_are_written_is_kept() -> None:
    assert told(["31/12/2024", "01/02/2024"]).format == "%d/%m/%Y"
    assert told(["12/31/2024", "01/02/2024"]).format == "%m/%d/%Y"
    assert told(["2024-12-31"]).format is None


def test_a_column_of_nearly_all_numbers_is_of_numbers_with_a_note() -> None:
    found = told([str(place) for place in range(19)] + ["abc"])
    assert found.kind is Kind.INTEGER
    assert found.note == "`x` is taken as integer: 1 of 20 values do not fit and are malformed."
    assert told([str(place) for place in range(8)] + ["a", "b"]).kind is Kind.CATEGORY


def test_one_padded_number_in_a_thousand_does_not_make_ids() -> None:
    assert told([str(place) for place in range(1, 1000)] + ["05"]).kind is Kind.INTEGER


def test_many_different_values_of_several_words_are_text() -> None:
    assert told([f"this is message number {place}" for place in range(100)]).kind is Kind.TEXT
    assert told([f"name{place}" for place in range(100)]).kind is Kind.CATEGORY
    assert told(["out of stock now", "ready to be shipped"] * 50).kind is Kind.CATEGORY


def test_text_in_a_typed_format_is_no_number_but_may_be_a_date() -> None:
    assert infer("x", survey(pl.Series("x", ["1", "2"]), numbers=False)).kind is Kind.CATEGORY
    assert infer("x", survey(pl.Series("x", ["2024-01-02"]), numbers=False)).kind is Kind.DATE


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(
        st.one_of(st.integers(-99, 99).map(str), st.sampled_from(["a", "yes", "2024-01-02", "1.5"])), max_size=40
    ),
    where=st.integers(0, 40),
)
def test_surveys_of_parts_add_up(values: list[str], where: int) -> None:
    whole = pl.Series("x", values, dtype=pl.String)
    parts = [survey(part, numbers=True) for part in (whole[:where], whole[where:])]
    one, both = survey(whole, numbers=True), total(parts)
    assert (one.values, one.numbers, one.integers, one.padded) == (
        both.values,
        both.numbers,
        both.integers,
        both.padded,
    )


@pytest.mark.parametrize(
    ("kind", "values", "wanted", "bad"),
    [
        (Kind.INTEGER, ["1", "2.0", "2.5", "x", None, "9007199254740993"], [1, 2, None, None, None, None], [2, 3, 5]),
        (Kind.NUMBER, ["1.5", "inf", "1e400", "x", None, "-0"], [1.5, None, None, None, None, 0.0], [1, 2, 3]),
        (Kind.BOOLEAN, ["yes", "FALSE", "1", "x", None], [True, False, True, None, None], [3]),
        (Kind.DATE, ["2024-02-29", "2023-02-29", None], [date(2024, 2, 29), None, None], [1]),
        (
            Kind.DATETIME,
            ["2024-01-02T03:04:05.25Z", "2024-01-02 05:04:05+02:00", "2024-01-02", "soon", None],
            [datetime(2024, 1, 2, 3, 4, 5, 250_000), datetime(2024, 1, 2, 3, 4, 5), datetime(2024, 1, 2), None, None],
            [3],
        ),
    ],
)
def test_casts_strictly(kind: Kind, values: list[str | None], wanted: list[object], bad: list[int]) -> None:
    done = cast(pl.Series("x", values), kind)
    assert done.values.to_list() == wanted
    assert done.bad is not None
    assert done.bad.arg_true().to_list() == bad


def test_casts_from_the_types_of_parquet() -> None:
    assert cast(pl.Series([1.0, 2.5, None]), Kind.CATEGORY).values.to_list() == ["1", "2.5", None]
    assert cast(pl.Series([1, 0]), Kind.BOOLEAN).values.to_list() == [True, False]
    assert cast(pl.Series([True, False]), Kind.NUMBER).values.to_list() == [1.0, 0.0]
    zoned = pl.Series([datetime(2024, 1, 1)]).dt.replace_time_zone("Europe/Rome")
    assert cast(zoned, Kind.DATETIME).values.to_list() == [datetime(2023, 12, 31, 23)]
    assert cast(pl.Series([date(2024, 1, 1)]), Kind.INTEGER).bad is not None
    assert clean(pl.Series(["a", "?"], dtype=pl.Categorical), NULL_VALUES, strip=False).to_list() == ["a", None]


@settings(max_examples=100, deadline=None)
@given(number=st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_spelt_by_python_is_read_back_exactly(number: float) -> None:
    assert cast(pl.Series([repr(number)]), Kind.NUMBER).values[0] == number
