"""Tensors between their written forms and the contract, with numpy as the second source."""

from __future__ import annotations

import contextlib
import json
import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelyard.bundle.check import check_values
from modelyard.bundle.intake import Intake
from modelyard.bundle.tensor import DTYPES
from modelyard.core.contract import Kind
from modelyard.errors import ContractBroken
from modelyard.serve.doors import Malformed, TooLarge
from modelyard.serve.v2 import elements
from modelyard.serve.v2.tensors import Tensors, Values
from tests.serve.tensor_models import PLAIN, contract_of, plain_column, tensor_column

NUMERIC = sorted(name for name in DTYPES if name != "BYTES")
UNHURRIED = settings(deadline=None)
MORE = settings(UNHURRIED, max_examples=400)
REFUSED = (Malformed, TooLarge, ContractBroken)


def arrays(datatype: str, shape: tuple[int, ...]) -> st.SearchStrategy[np.ndarray[Any, Any]]:
    dtype = DTYPES[datatype]
    if dtype.kind == "f":
        return hnp.arrays(dtype, shape, elements={"allow_nan": False, "allow_infinity": False})
    if dtype.kind == "O":
        return hnp.arrays(dtype, shape, elements=st.text(st.characters(exclude_categories=["Cs"]), max_size=9))
    return hnp.arrays(dtype, shape)


def raw_of(array: np.ndarray[Any, Any]) -> bytes:
    """The protocol's raw form, by numpy and struct alone."""
    if array.dtype.kind != "O":
        return array.astype(array.dtype.newbyteorder("<")).tobytes()
    return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in array.reshape(-1))


@pytest.mark.parametrize("datatype", [*NUMERIC, "BYTES"])
@UNHURRIED
@given(data=st.data(), rows=st.integers(1, 3), width=st.integers(1, 40), depth=st.integers(0, 2))
def test_every_datatype_comes_through_in_json_typed_and_raw_as_numpy_holds_it(
    datatype: str, data: st.DataObject, rows: int, width: int, depth: int
) -> None:
    shape = (*((2,) * depth), width)
    reader = Tensors(contract_of([tensor_column("x", datatype, *shape)]))
    array = data.draw(arrays(datatype, (rows, *shape)))
    flat, whole = array.reshape(-1).tolist(), [rows, *shape]
    typed = [text.encode() for text in flat] if datatype == "BYTES" else flat
    forms = [
        reader.json("x", datatype, whole, json.dumps(flat).encode()),
        reader.json("x", datatype, whole, json.dumps(array.tolist(), indent=1).encode()),
        reader.typed("x", datatype, whole, typed),
        reader.raw("x", datatype, whole, memoryview(raw_of(array))),
    ]
    for form in forms:
        packed, count = reader.pack({"x": form})
        assert (count, packed.tensors, packed.shapes) == (rows, [raw_of(array)], [])
    back = Intake(reader.contract).columns(packed, rows)["x"]
    np.testing.assert_array_equal(back, array)


@MORE
@given(given_as=st.sampled_from(NUMERIC), held_as=st.sampled_from(NUMERIC), data=st.data())
def test_another_datatype_is_taken_where_and_only_where_every_element_stays_what_it_was(
    given_as: str, held_as: str, data: st.DataObject
) -> None:
    array = data.draw(arrays(given_as, (2, 3)))
    reader = Tensors(contract_of([tensor_column("x", held_as, 3)]))
    with np.errstate(all="ignore"):
        held = array.astype(DTYPES[held_as])
    exact = [a == b for a, b in zip(array.reshape(-1).tolist(), held.reshape(-1).tolist(), strict=True)]
    if all(exact):
        packed, _ = reader.pack({"x": reader.raw("x", given_as, [2, 3], raw_of(array))})
        assert packed.tensors == [raw_of(held)]
    else:
        with pytest.raises(ContractBroken, match=rf"row {exact.index(False) // 3}, column `x`.*send `{held_as}`"):
            reader.raw("x", given_as, [2, 3], raw_of(array))


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
@pytest.mark.parametrize("width", [3, 100])
@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused_but_a_nan_where_the_column_is_nullable(
    datatype: str, width: int, odd: float
) -> None:
    array = np.ones((2, width), dtype=DTYPES[datatype])
    array[1, 1] = odd
    strict = Tensors(contract_of([tensor_column("x", datatype, width)]))
    lax = Tensors(contract_of([tensor_column("x", datatype, width, nullable=True)]))

    def forms(reader: Tensors) -> list[Callable[[], Values]]:
        return [
            lambda: reader.raw("x", datatype, [2, width], raw_of(array)),
            lambda: reader.typed("x", datatype, [2, width], array.reshape(-1).tolist()),
        ]

    for form in forms(strict):
        with pytest.raises(ContractBroken, match=r"row 1, column `x`: saw (NaN|an infinity), wanted finite"):
            form()
    for form in forms(lax):
        if math.isnan(odd):
            assert lax.pack({"x": form()})[0].tensors == [raw_of(array)]
        else:
            with pytest.raises(ContractBroken):
                form()


@pytest.mark.parametrize("held_as", ["INT32", "UINT8", "INT64", "BOOL"])
@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, 0.5])
@pytest.mark.parametrize("width", [2, 100])
def test_what_no_whole_number_can_be_is_refused_by_a_column_of_them(held_as: str, odd: float, width: int) -> None:
    reader = Tensors(contract_of([tensor_column("x", held_as, width, nullable=True)]))
    array = np.ones((1, width))
    reader.raw("x", "FP64", [1, width], raw_of(array))
    array[0, 1] = odd
    with pytest.raises(ContractBroken, match=rf"row 0, column `x`.*cannot hold exactly; send `{held_as}`"):
        reader.raw("x", "FP64", [1, width], raw_of(array))


def test_null_is_nan_in_a_nullable_tensor_and_refused_in_another() -> None:
    lax = Tensors(contract_of([tensor_column("x", "FP32", 2, nullable=True)]))
    packed, _ = lax.pack({"x": lax.json("x", "FP32", [1, 2], b"[null, 2]")})
    np.testing.assert_array_equal(np.frombuffer(packed.tensors[0], "<f4"), [math.nan, 2])
    strict = Tensors(contract_of([tensor_column("x", "FP32", 2)]))
    with pytest.raises(Malformed, match="null"):
        strict.json("x", "FP32", [1, 2], b"[null, 2]")


@pytest.mark.parametrize(
    ("datatype", "largest", "beyond"),
    [
        ("FP32", "3.4028235e38", "3.4028236e38"),
        ("FP16", "65504", "65520"),
        ("FP64", "1.7976931348623157e308", "1e309"),
        ("INT8", "-128", "128"),
        ("UINT8", "255", "-1"),
        ("INT64", "9223372036854775807", "9223372036854775808"),
        ("UINT64", "18446744073709551615", "18446744073709551616"),
    ],
)
@pytest.mark.parametrize("width", [2, 200])
def test_json_beyond_the_datatype_is_refused_and_its_largest_is_taken(
    datatype: str, largest: str, beyond: str, width: int
) -> None:
    reader = Tensors(contract_of([tensor_column("x", datatype, width)]))
    fill = ["0"] * (width - 1)
    made = reader.json("x", datatype, [1, width], f"[{','.join([largest, *fill])}]".encode())
    assert np.isfinite(np.frombuffer(reader.pack({"x": made})[0].tensors[0], DTYPES[datatype])).all()
    with pytest.raises(Malformed, match=r"`x`.*datatype"):
        reader.json("x", datatype, [1, width], f"[{','.join([beyond, *fill])}]".encode())


@pytest.mark.parametrize("datatype", ["BF16", "WORDS", "", "fp32", "F" * 5_000])
@pytest.mark.parametrize("name", ["x", "stranger"])
def test_a_datatype_that_is_not_spoken_is_refused_in_few_words(datatype: str, name: str) -> None:
    reader = Tensors(contract_of([tensor_column("x", "FP32", 2)]))
    with pytest.raises(Malformed) as refused:
        reader.json(name, datatype, [1, 2], b"[1, 2]")
    assert datatype[:20] in str(refused.value)
    assert len(str(refused.value)) < 500


def test_a_size_that_varies_travels_with_the_rows() -> None:
    reader = Tensors(contract_of([tensor_column("ids", "INT64", -1), tensor_column("x", "FP32", 2)]))
    named = {
        "ids": reader.json("ids", "INT64", [2, 3], b"[1,2,3,4,5,6]"),
        "x": reader.json("x", "FP32", [2, 2], b"[[1,2],[3,4]]"),
    }
    packed, rows = reader.pack(named)
    assert packed.shapes == [[3]]
    columns = Intake(reader.contract).columns(packed, rows)
    assert columns["ids"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert columns["x"].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "shape", [[], [1], [1, 3], [1, 2, 1], [1, 0], [1, -2], [2, 2], [0, 2], [-1, 2], [1, 2**70], [2**70, 2], [1] * 40]
)
def test_a_shape_that_is_not_the_contracts_is_refused(shape: list[int]) -> None:
    reader = Tensors(contract_of([tensor_column("x", "FP32", 2)]))
    reads: list[Callable[[], Values]] = [
        lambda: reader.json("x", "FP32", shape, b"[1, 2]"),
        lambda: reader.raw("x", "FP32", shape, b"\0" * 8),
        lambda: reader.typed("x", "FP32", shape, [1.0, 2.0]),
    ]
    for read in reads:
        with pytest.raises(REFUSED) as refused:
            read()
        assert len(str(refused.value)) < 500


@UNHURRIED
@given(
    datatype=st.sampled_from([*NUMERIC, "BYTES", "BF16", "?"]),
    shape=st.lists(st.integers(-3, 5) | st.integers(-(2**70), 2**70), max_size=5),
    data=st.binary(max_size=80),
    column=st.sampled_from(["fixed", "free", "text", "plain", "stranger"]),
)
def test_hostile_tensors_raise_nothing_but_what_is_declared(
    datatype: str, shape: list[int], data: bytes, column: str
) -> None:
    columns = [
        tensor_column("fixed", "FP32", 2),
        tensor_column("free", "INT64", -1, -1),
        tensor_column("text", "BYTES", -1),
        plain_column("plain", Kind.NUMBER),
    ]
    reader = Tensors(contract_of(columns), most_rows=4)
    for read in (reader.raw, reader.json):
        with contextlib.suppress(*REFUSED):
            reader.pack({column: read(column, datatype, shape, data)})
    with contextlib.suppress(*REFUSED):
        elements.of_raw("x", datatype if datatype in DTYPES else "BYTES", len(shape), data)


@UNHURRIED
@given(st.lists(st.text(max_size=5), max_size=4), st.data())
def test_bytes_with_a_wrong_length_anywhere_are_refused(texts: list[str], data: st.DataObject) -> None:
    texts = [text.encode(errors="replace").decode() for text in texts]
    whole = elements.pack_texts(texts)
    assert elements.of_raw("x", "BYTES", len(texts), whole) == texts
    cut = data.draw(st.integers(0, len(whole)))
    if cut < len(whole):
        with pytest.raises(Malformed):
            elements.of_raw("x", "BYTES", len(texts), whole[:cut])
    for wrong in (len(texts) + 1, len(texts) + 2**40):
        with pytest.raises(Malformed):
            elements.of_raw("x", "BYTES", wrong, whole)
    with pytest.raises(Malformed):
        elements.of_raw("x", "BYTES", len(texts), whole + b"\0")


def test_bytes_that_are_not_utf8_and_bools_that_are_neither_are_refused() -> None:
    reader = Tensors(contract_of([tensor_column("x", "BYTES", 1), tensor_column("b", "BOOL", 2)]))
    with pytest.raises(Malformed, match="UTF-8"):
        reader.raw("x", "BYTES", [1, 1], b"\1\0\0\0\xff")
    with pytest.raises(Malformed, match="0 and 1"):
        reader.raw("b", "BOOL", [1, 2], b"\1\2")
    with pytest.raises(Malformed, match="`x`"):
        reader.json("x", "BYTES", [1, 1], b'["\\ud800"]')


VALUES = {
    Kind.INTEGER: st.integers(-(2**54), 2**54) | st.floats(-1e3, 1e3) | st.integers(-5, 5).map(float),
    Kind.NUMBER: st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**64), 2**64),
    Kind.BOOLEAN: st.booleans() | st.integers(-1, 2),
    Kind.CATEGORY: st.sampled_from(["Oslo", "Paris", "Rome", "NA", "<missing>", "Zürich", ""]),
    Kind.TEXT: st.text(max_size=6) | st.just("NA"),
    Kind.DATE: st.dates().map(str) | st.datetimes().map(str) | st.text(max_size=4),
    Kind.DATETIME: st.datetimes().map(str) | st.just("2026-01-31T12:00:00+05:30") | st.just("31/01/2026"),
}


@pytest.mark.parametrize("unknown_category", ["accept", "refuse"])
@UNHURRIED
@given(data=st.data(), rows=st.integers(1, 3))
def test_plain_columns_mean_what_the_check_says_they_mean(
    unknown_category: str, data: st.DataObject, rows: int
) -> None:
    columns = [*PLAIN, plain_column("written", Kind.DATE, format="%d/%m/%Y")]
    contract = contract_of(columns, missing_texts=("NA",))
    values = {
        column.name: data.draw(st.lists(VALUES[column.kind] | st.none(), min_size=rows, max_size=rows))
        for column in columns
        if data.draw(st.integers(0, 9))
    }
    reader = Tensors(contract, unknown_category=unknown_category)
    assume(values)
    try:
        wanted = Intake(contract).pack(check_values(contract, values, unknown_category=unknown_category))
    except ContractBroken as broken:
        with pytest.raises((ContractBroken, Malformed)) as raised:
            reader.pack(values)
        assert not isinstance(raised.value, ContractBroken) or raised.value.faults == broken.faults
    else:
        packed, count = reader.pack(values)
        assert (packed.numbers, packed.strings, count) == (wanted.numbers, wanted.strings, rows)


@pytest.mark.parametrize("datatype", ["FP64", "FP32", "INT16", "UINT8", "BOOL"])
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_plain_columns_take_raw_numbers_of_any_datatype_that_the_kind_can_hold(datatype: str, rows: int) -> None:
    kind = Kind.BOOLEAN if datatype == "BOOL" else Kind.NUMBER
    reader = Tensors(contract_of([plain_column("x", kind)]))
    array = (np.arange(rows) % 2).astype(DTYPES[datatype])
    for shape in ([rows], [rows, 1]):
        packed, count = reader.pack({"x": reader.raw("x", datatype, shape, raw_of(array))})
        assert count == rows
        np.testing.assert_array_equal(np.frombuffer(packed.numbers, np.float64), array.astype(np.float64))


def test_a_fault_in_a_long_raw_column_is_told_as_in_any_other_form() -> None:
    reader = Tensors(contract_of([plain_column("x", Kind.INTEGER)]))
    array = np.ones(100)
    array[7] = 1.5
    with pytest.raises(ContractBroken, match=r"row 7, column `x`: saw 1\.5, wanted a whole number"):
        reader.pack({"x": reader.raw("x", "FP64", [100], raw_of(array))})


def test_tensors_and_plain_columns_travel_together() -> None:
    reader = Tensors(contract_of([plain_column("age", Kind.INTEGER, nullable=False), tensor_column("x", "FP32", 2)]))
    x = reader.json("x", "FP32", [1, 2], b"[1, 2]")
    packed, rows = reader.pack({"x": x, "age": [40]})
    columns = Intake(reader.contract).columns(packed, rows)
    assert (columns["age"].tolist(), columns["x"].tolist()) == ([40.0], [[1.0, 2.0]])
    cases: list[tuple[dict[str, Values], str]] = [
        ({"age": [40]}, "`x`: is missing"),
        ({"x": x}, "row 0, column `age`: is missing"),
        ({"x": x, "age": [40, 41]}, "differ in length"),
        ({"x": x, "age": [40], "agee": None}, "unknown column `agee`, nearest `age`"),
    ]
    for named, words in cases:
        with pytest.raises(ContractBroken, match=words):
            reader.pack(named)
