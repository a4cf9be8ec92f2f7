"""What hosted platforms and MLflow's clients send, read and answered without a network."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.bundle.check import check_rows
from modelyard.core.metrics import Task
from modelyard.errors import ContractBroken
from modelyard.serve.batching import Settled
from modelyard.serve.doors import Malformed, Said, TooLarge
from modelyard.serve.forms.invocations import AskedInvocation, InvocationsDoor, hosted_paths
from modelyard.serve.messages import Limits
from modelyard.serve.model import Model
from modelyard.serve.request import Code
from tests.serve.tensor_models import PLAIN, asking, model_of, tensor_column

UNHURRIED = settings(deadline=None)
REFUSED = (Malformed, TooLarge, ContractBroken)
PLAIN_MODEL = model_of(PLAIN)
TENSOR = model_of([tensor_column("x", "FP32", 2, 2)])
ROWS: list[dict[str, Any]] = [
    {"note": "a, \"b\"\nc", "count": 3, "day": "2026-01-31", "score": 0.5, "city": "Oslo", "open": True,
     "seen": "2026-01-31T12:00:00Z", "age": 40},
    {"note": None, "count": None, "day": None, "score": -1e-7, "city": "Zürich", "open": False,
     "seen": None, "age": 41},
]  # fmt: skip
NAMES = [column.name for column in PLAIN]
LISTS = [[row[name] for name in NAMES] for row in ROWS]


def read(model: Model, body: Any, kind: bytes = b"application/json") -> AskedInvocation:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return InvocationsDoor().read(asking(data, content_type=kind), model)


def as_csv(rows: list[dict[str, Any]], names: list[str] = NAMES) -> bytes:
    """The rows by the standard library's writer."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(names)
    writer.writerows(["" if row[name] is None else row[name] for name in names] for row in rows)
    return text.getvalue().encode()


FORMS: list[tuple[Any, bytes]] = [
    ({"rows": ROWS}, b"application/json"),
    ({"rows": ROWS}, b""),
    ({"dataframe_records": ROWS}, b"application/json; charset=utf-8"),
    ({"dataframe_split": {"columns": NAMES, "data": LISTS}}, b"application/json"),
    ({"dataframe_split": {"columns": NAMES, "data": LISTS, "index": [0, 1]}}, b"application/json"),
    ({"instances": ROWS}, b"application/json"),
    ({"instances": LISTS}, b"Application/JSON"),
    ({"inputs": {name: [row[name] for row in ROWS] for name in NAMES}}, b"application/json"),
    ({"inputs": {name: [[row[name]] for row in ROWS] for name in NAMES}}, b"application/json"),
    ({"inputs": LISTS, "params": None}, b"application/json"),
    ("\n".join(map(json.dumps, ROWS)).encode() + b"\n", b"application/jsonlines"),
    ("\r\n".join(map(json.dumps, LISTS)).encode(), b"application/x-ndjson"),
    (as_csv(ROWS), b"text/csv"),
    (b"\xef\xbb\xbf" + as_csv(ROWS, NAMES[::-1]), b"text/csv; charset=utf-8"),
]


@pytest.mark.parametrize(("body", "kind"), FORMS)
def test_every_form_means_the_same_rows(body: Any, kind: bytes) -> None:
    wanted = PLAIN_MODEL.intake.pack(check_rows(PLAIN_MODEL.contract, ROWS))
    asked = read(PLAIN_MODEL, body, kind)
    assert (asked.rows, asked.packed) == (2, wanted)


def test_a_gap_that_pandas_wrote_as_nan_is_a_missing_value() -> None:
    lines = [{"age": 1, "score": math.nan, "city": math.nan}, {"age": 2, "score": 1.5, "city": "Oslo"}]
    wanted = read(PLAIN_MODEL, {"rows": [{"age": 1}, lines[1]]}).packed
    assert b"NaN" in json.dumps(lines).encode()
    assert read(PLAIN_MODEL, {"dataframe_records": lines}).packed == wanted
    assert read(PLAIN_MODEL, "\n".join(map(json.dumps, lines)).encode(), b"application/jsonlines").packed == wanted


@pytest.mark.parametrize(
    "data",
    [b'{"rows":[{"age":Infinity,"score":NaN}]}', b'{"rows":[NaN]}', b'{"rows":[{"age":NaN}', b'["NaN"', b"NaN" * 9,
     b'{"rows":[{"score":NaN,"age":' + b"9" * 5000 + b"}]}", b'{"rows":[{"score":NaN,"age":' + b"[" * 100_000],
)  # fmt: skip
def test_other_words_that_are_no_json_are_refused(data: bytes) -> None:
    with pytest.raises(REFUSED):
        read(PLAIN_MODEL, data)


@pytest.mark.parametrize("name", ["instances", "inputs"])
@pytest.mark.parametrize("is_named", [False, True])
def test_rows_of_the_only_tensor_need_no_name(name: str, is_named: bool) -> None:
    rows: Any = [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    if is_named:
        rows = {"x": rows} if name == "inputs" else [{"x": row} for row in rows]
    asked = read(TENSOR, {name: rows})
    assert asked.packed.tensors == [np.arange(1, 9, dtype="<f4").tobytes()]
    assert asked.rows == 2


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", b"application/json"),
        (b"{}", b"application/json"),
        (b"[]", b"application/json"),
        (b"\xff", b"application/json"),
        (b'{"rows":' + b"[" * 100_000, b"application/json"),
        ({"rows": ROWS, "instances": ROWS}, b"application/json"),
        ({"instances": []}, b"application/json"),
        ({"instances": LISTS, "parameters": {"confidence": 1}}, b"application/json"),
        ({"instances": [LISTS[0][:-1]]}, b"application/json"),
        ({"inputs": {}}, b"application/json"),
        ({"inputs": {"age": [[1], [2, 3]]}}, b"application/json"),
        ({"inputs": {"age": []}}, b"application/json"),
        ({"dataframe_split": {"columns": ["age", "age"], "data": [[1, 2]]}}, b"application/json"),
        ({"dataframe_split": {"columns": ["age"], "data": [[1, 2]]}}, b"application/json"),
        ({"rows": ROWS, "more": 1}, b"application/json"),
        (b"", b"text/csv"),
        (b"age\n", b"text/csv"),
        (b"age,age\n1,2\n", b"text/csv"),
        (b"age\n1,2\n", b"text/csv"),
        (b'age\n"1\n', b"text/csv"),
        (b"age\n\xff\n", b"text/csv"),
        (b"\n", b"application/jsonlines"),
        (b"{}\n{", b"application/jsonlines"),
        (b"age\n1\n", b"application/xml"),
    ],
)
def test_what_is_in_none_of_the_forms_is_malformed(body: Any, kind: bytes) -> None:
    with pytest.raises(Malformed) as refused:
        read(PLAIN_MODEL, body, kind)
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize(
    ("body", "kind"),
    [(as_csv(ROWS * 2), b"text/csv"), ({"instances": ROWS * 2}, b""), (b"{}\n" * 4, b"application/jsonl")],
)
def test_more_rows_than_are_taken_at_once_are_too_large(body: Any, kind: bytes) -> None:
    with pytest.raises(TooLarge):
        read(model_of(PLAIN, limits=Limits(most_rows=3)), body, kind)


def test_a_tensor_cannot_come_as_csv() -> None:
    with pytest.raises(Malformed, match="tensors, which CSV cannot hold"):
        read(TENSOR, b"x\n1\n", b"text/csv")


@pytest.mark.parametrize("text", ["x", "1_000", "٣", "1.5", "true", "inf"])
def test_text_that_is_no_whole_number_is_a_fault_of_its_column(text: str) -> None:
    with pytest.raises(ContractBroken, match="row 0, column `age`"):
        read(PLAIN_MODEL, f"age\n{text}\n".encode(), b"text/csv")


def test_a_text_that_means_missing_in_the_training_files_means_it_in_every_csv_column() -> None:
    model = model_of(PLAIN, missing_texts=("NA", "?"))
    asked = read(model, b"age,count,city,open\n1,NA,?,NA\n", b"text/csv")
    columns = model.columns(asked.packed, 1)
    assert np.isnan(columns["count"][0])
    assert np.isnan(columns["open"][0])
    assert columns["city"].tolist() == [None]


def test_a_classification_answers_labels_with_probabilities_and_says_who_served() -> None:
    settled = Settled(labels=["yes", "no"], probabilities=[[0.25, 0.75], [0.5, 0.5]])
    said = Said("shapes@3", "shapes@3 fallback:constant", "r1", "deadline")
    body, kind, lines = read(PLAIN_MODEL, {"instances": ROWS}).answer(settled, PLAIN_MODEL, said)
    assert (kind, lines) == (b"application/json", b"")
    assert json.loads(body) == {
        "predictions": [
            {"label": "yes", "probability no": 0.25, "probability yes": 0.75},
            {"label": "no", "probability no": 0.5, "probability yes": 0.5},
        ],
        "served_by": "shapes@3 fallback:constant",
        "degraded": True,
        "reason": "deadline",
        "request_id": "r1",
    }


def test_a_regression_answers_its_value() -> None:
    model = model_of(PLAIN, task=Task.REGRESSION)
    body, _, _ = read(model, {"instances": ROWS}).answer(
        Settled(values=[1.5, -2.0]), model, Said("shapes@3", "shapes@3", "r1", None)
    )
    assert json.loads(body)["predictions"] == [{"value": 1.5}, {"value": -2.0}]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*NAMES, "x"]), inner, max_size=3),
    max_leaves=12,
)


@settings(UNHURRIED, max_examples=300)
@given(form=st.sampled_from(["dataframe_split", "dataframe_records", "instances", "inputs", "rows"]), value=JSON_VALUES)
def test_hostile_json_raises_nothing_but_what_is_declared(form: str, value: Any) -> None:
    for model in (PLAIN_MODEL, TENSOR):
        for body in ({form: value}, {form: {"columns": NAMES, "data": value}}, {form: [value, value]}):
            with contextlib.suppress(*REFUSED):
                read(model, body)


@settings(UNHURRIED, max_examples=300)
@given(text=st.text(st.sampled_from('age,"\n\r\t 1.5é\0count'), max_size=40) | st.binary(max_size=40))
def test_hostile_csv_and_lines_raise_nothing_but_what_is_declared(text: str | bytes) -> None:
    data = text.encode() if isinstance(text, str) else text
    for kind in (b"text/csv", b"application/jsonlines"):
        for body in (data, b"age\n" + data):
            with contextlib.suppress(*REFUSED):
                read(PLAIN_MODEL, body, kind)


class Desk:
    """A service that notes what it is asked."""

    def __init__(self, ready: bool) -> None:
        self.ready, self.asked = ready, list[str]()

    def infer(self, request: Any, door: Any, release: str | None = None) -> None:
        self.asked.append(door.name)


class Answered:
    """A request that keeps its answer."""

    code: Code | None = None

    def answer(self, body: bytes, *, code: Code = Code.OK) -> None:
        self.body, self.code = body, code


@pytest.mark.parametrize(("ready", "code"), [(True, Code.OK), (False, Code.NOT_NOW)])
def test_ping_says_whether_the_service_is_ready(ready: bool, code: Code) -> None:
    desk, request = Desk(ready), Answered()
    paths = hosted_paths(desk, InvocationsDoor())
    paths[b"/ping"][b"GET"](request)  # type: ignore[arg-type]
    assert request.code is code
    paths[b"/invocations"][b"POST"](request)  # type: ignore[arg-type]
    assert desk.asked == ["invocations"]
