"""A long body with more values than any request has is refused before any of them is read."""

from __future__ import annotations

import doctest
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.contract import Kind
from modelyard.errors import ContractBroken
from modelyard.serve import doors
from modelyard.serve.doors import QUICK_BYTES, Door, Malformed, TooLarge, pieces
from modelyard.serve.forms import rows as rows_form
from modelyard.serve.forms.invocations import InvocationsDoor
from modelyard.serve.forms.rows import RowsDoor
from modelyard.serve.messages import Limits
from tests.serve.tensor_models import asking, model_of, plain_column, tensor_column
from tests.serve.v2_requests import body, entry, read

COLUMNS = [plain_column("age", Kind.NUMBER), plain_column("note", Kind.TEXT), plain_column("city", Kind.CATEGORY)]
MODEL = model_of(COLUMNS, limits=Limits(most_rows=50))
DOORS: list[Door] = [RowsDoor(), InvocationsDoor()]
HARD = '],[{"\\'
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from(HARD + "aé\n\u2028"), max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.sampled_from(HARD + "ab"), max_size=3), inner, max_size=4)
    ),
    max_leaves=20,
)


def count(value: Any) -> int:
    """Count lists, objects and commas as the grammar has them."""
    if not isinstance(value, list | dict):
        return 0
    inner = list(value.values()) if isinstance(value, dict) else value
    return 1 + max(0, len(inner) - 1) + sum(count(one) for one in inner)


@given(value=JSON, as_ascii=st.booleans(), indent=st.none() | st.integers(0, 2))
def test_pieces_are_counted_as_the_grammar_has_them(value: Any, as_ascii: bool, indent: int | None) -> None:
    assert pieces(json.dumps(value, ensure_ascii=as_ascii, indent=indent).encode()) == count(value)


FILLS = {
    "lists": (b'{"rows":[{"age":[', b"[],", b"1]}]}"),
    "rows": (b'{"rows":[', b"{},", b"{}]}"),
    "values": (b'{"rows":[{"age":[', b'"\\n",', b"1]}]}"),
    "keys": (b'{"rows":[{', b'"k\\"[":1,', b'"age":1}]}'),
    "unfinished": (b'{"rows":[', b"[", b""),
}


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
@pytest.mark.parametrize("fill", FILLS)
def test_a_long_body_of_too_many_values_is_too_large_whatever_they_are(door: Door, fill: str) -> None:
    head, part, tail = FILLS[fill]
    with pytest.raises(TooLarge, match="more values than 50 rows of 4 columns"):
        door.read(asking(head + part * (QUICK_BYTES // len(part) + 1) + tail), MODEL)


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_the_most_rows_are_taken_and_brackets_in_strings_are_no_values(door: Door) -> None:
    row = {"age": 1.5, "note": HARD * 1500, "city": "[" * 9}
    data = json.dumps({"rows": [row] * 50}).encode()
    assert len(data) > QUICK_BYTES and data.count(b"[") > 10_000
    assert door.read(asking(data), MODEL).rows == 50


@pytest.mark.parametrize("form", ["inputs", "dataframe_split", "instances"])
def test_every_form_of_the_most_rows_is_taken(form: str) -> None:
    text = "long, [words] " * 600
    forms: dict[str, Any] = {
        "inputs": {"age": [[1.5]] * 50, "note": [[text]] * 50, "city": [["Oslo"]] * 50},
        "dataframe_split": {
            "columns": ["age", "note", "city"], "index": list(range(50)), "data": [[1, text, "Oslo"]] * 50
        },
        "instances": [{"age": 1, "note": text, "city": "Oslo"}] * 50,
    }  # fmt: skip
    data = json.dumps({form: forms[form]}).encode()
    assert len(data) > QUICK_BYTES
    assert InvocationsDoor().read(asking(data), MODEL).rows == 50


def test_a_body_of_escapes_that_cannot_be_read_is_not_read_again_for_its_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    class NotAgain:
        def decode(self, _: bytes) -> Any:
            raise AssertionError("The body was read once more.")

    monkeypatch.setattr(rows_form, "_ANY_DECODER", NotAgain())
    escapes = b"\\n" * QUICK_BYTES
    for data in (
        b'{"' + escapes + b'":1}',
        b'{"rows":[{"note":"' + escapes,
        b'{"rows":[{"age":' + b"1" * 9999 + b"}]}",
    ):
        with pytest.raises(Malformed) as refused:
            RowsDoor().read(asking(data), MODEL)
        assert len(str(refused.value)) < 400
    with pytest.raises(ContractBroken, match="column `note`: saw a string of 262144 characters"):
        RowsDoor().read(asking(b'{"rows":[{"age":1,"note":"' + escapes + b'"}]}'), MODEL)


@pytest.mark.parametrize("data", ["[[],[]]", "[[1,2],[3,4],[]]", "[[1,[2]],[3,4]]", "[" + "[]," * 9999 + "[]]"])
def test_a_nested_tensor_with_other_lists_than_its_shape_has_is_malformed(data: str) -> None:
    model = model_of([tensor_column("x", "FP32", 2)])
    sent = body(entry("x", "FP32", [2, 2], "HERE")).replace(b'"HERE"', data.encode())
    with pytest.raises(Malformed, match=r"neither flat nor nested as its shape \[2, 2\]"):
        read(model, sent)
    assert read(model, body(entry("x", "FP32", [2, 2], [[1, 2], [3, 4]]))).rows == 2


def test_the_examples_run() -> None:
    assert doctest.testmod(doors).failed == 0
