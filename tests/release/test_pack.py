"""Packing: equal parts give equal bytes, in any process; golden rows are such as a caller may send."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as change

from modelyard.adapters import onnx_weights
from modelyard.adapters.onnx_engine import OnnxLoader
from modelyard.bundle.check import check_rows
from modelyard.bundle.format import GOLDEN, MANIFEST, REQUIRED, WEIGHTS
from modelyard.bundle.open import matches_golden, open_bundle, verify
from modelyard.core.arrays import Array, Columns
from modelyard.core.contract import Column, Contract, Kind, Role
from modelyard.core.metrics import Task
from modelyard.errors import BundleAltered, ContractBroken
from modelyard.release.pack import GOLDEN_ROWS, body_digest, json_rows, pack
from tests.bundle.packed import made_parts, packed

ROOT = Path(__file__).parent.parent.parent
IN_ANOTHER = """
import sys
from pathlib import Path
from modelyard.core.metrics import Task
from tests.bundle.packed import packed
packed(Path(sys.argv[1]), Task(sys.argv[2]))
"""


def contents(body: Path) -> dict[str, bytes]:
    return {path.relative_to(body).as_posix(): path.read_bytes() for path in body.rglob("*") if path.is_file()}


@pytest.mark.parametrize("task", tuple(Task))
def test_equal_parts_give_equal_bytes_in_another_process_too(task: Task, tmp_path: Path) -> None:
    here = packed(tmp_path / "here", task)
    command = [sys.executable, "-c", IN_ANOTHER, str(tmp_path / "there"), task.value]
    subprocess.run(command, check=True, cwd=ROOT, env={"PYTHONHASHSEED": "77", "PYTHONPATH": str(ROOT)})
    assert contents(here) == contents(tmp_path / "there" / "body")
    assert body_digest(here) == body_digest(tmp_path / "there" / "body")


def test_a_body_is_data_and_its_manifest_names_every_file(tmp_path: Path) -> None:
    body = packed(tmp_path)
    verify(body, wanted=body_digest(body))
    manifest = msgspec.json.decode((body / MANIFEST).read_bytes())
    assert set(manifest["files"]) | {MANIFEST} == set(contents(body)) and set(REQUIRED) <= set(manifest["files"])
    assert {Path(name).suffix for name in contents(body)} <= {".json", ".onnx", ".yaml", ""}
    assert all(
        manifest["files"][name]["size"] == len(data) for name, data in contents(body).items() if name != MANIFEST
    )


@pytest.mark.parametrize("field", ["threshold", "candidate", "spec_text", "code_version", "seed"])
def test_another_part_is_another_body(tmp_path: Path, field: str) -> None:
    one = packed(tmp_path / "one")
    other = tmp_path / "other"
    other.mkdir()
    changed = {"threshold": 0.41, "candidate": "other", "spec_text": "# other\n", "code_version": "9", "seed": 2}[field]
    pack(replace(made_parts(), **{field: changed}), other, OnnxLoader())  # type: ignore[arg-type]
    assert body_digest(one) != body_digest(other)


def test_golden_rows_are_the_first_that_keep_the_contract(tmp_path: Path) -> None:
    parts = made_parts()
    strict = change(
        parts.contract,
        columns=tuple(change(one, nullable=one.name != "plain", categories=("red",)) for one in parts.contract.columns),
    )
    body = tmp_path / "body"
    body.mkdir()
    pack(replace(parts, contract=strict, unknown_category="refuse"), body, OnnxLoader())
    bundle = open_bundle(body, OnnxLoader())
    golden = bundle.body.golden
    assert 1 <= len(golden.rows) <= GOLDEN_ROWS
    assert all(row["plain"] is not None and row["colour"] in (None, "red", "<missing>") for row in golden.rows)
    assert matches_golden(bundle.predict(golden.rows), golden)
    assert msgspec.json.decode((body / GOLDEN).read_bytes())["rows"] == [dict(row) for row in golden.rows]


@pytest.mark.parametrize("rows", [0, 5])
def test_without_a_row_that_keeps_the_contract_nothing_is_packed(tmp_path: Path, rows: int) -> None:
    parts = made_parts()
    strict = change(parts.contract, columns=tuple(change(one, nullable=False) for one in parts.contract.columns))
    with pytest.raises(ContractBroken):
        pack(replace(parts, contract=strict, golden=parts.golden.take(slice(0, rows))), tmp_path, OnnxLoader())


def column_of(kind: Kind, values: list[object]) -> Array:
    if kind is Kind.TENSOR:
        return np.array(values, dtype=np.float32).reshape(len(values), 3)
    if kind.is_string:
        out = np.empty(len(values), dtype=object)
        out[:] = values
        return out
    if kind.is_time:
        return np.array(["NaT" if value is None else value for value in values], dtype="datetime64[us]")
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


TEXTS = st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: text != "<missing>")
VALUES = {
    Kind.INTEGER: st.integers(-(2**53), 2**53),
    Kind.NUMBER: st.floats(allow_nan=False, allow_infinity=False),
    Kind.BOOLEAN: st.booleans(),
    Kind.CATEGORY: TEXTS,
    Kind.TEXT: TEXTS,
    Kind.DATE: st.datetimes().map(lambda when: datetime(when.year, when.month, when.day)),
    Kind.DATETIME: st.datetimes(),
    Kind.TENSOR: st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3),
}


@given(data=st.data(), kind=st.sampled_from(list(Kind)))
def test_rows_written_as_json_are_read_back_bit_by_bit(data: st.DataObject, kind: Kind) -> None:
    tensor = kind is Kind.TENSOR
    values: list[object] = data.draw(st.lists(VALUES[kind] if tensor else st.none() | VALUES[kind], max_size=4))
    column = Column(name="c", kind=kind, role=Role.FEATURE, nullable=True)
    if tensor:
        column = change(column, datatype="FP32", shape=(3,))
    asked = Contract(task=Task.BINARY, target="y", columns=(column,))
    columns = Columns({"c": column_of(kind, values)})
    sent = msgspec.json.decode(msgspec.json.encode(json_rows(asked, columns)))
    back = check_rows(asked, sent)["c"]
    assert back.dtype == columns["c"].dtype
    if kind.is_string:
        assert back.tolist() == columns["c"].tolist()
    else:
        assert np.array_equal(back, columns["c"], equal_nan=True)


def test_a_large_graphs_weights_are_a_file_of_the_body(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_weights, "LEAST_BYTES", 0)
    monkeypatch.setattr(onnx_weights, "LEAST_TENSOR_BYTES", 1)
    parts = made_parts()
    graph, weights = onnx_weights.split(parts.graph, WEIGHTS)
    whole, apart = tmp_path / "whole", tmp_path / "apart"
    for body, made in ((whole, parts), (apart, replace(parts, graph=graph, weights=weights))):
        body.mkdir()
        pack(made, body, OnnxLoader())
    assert weights and open_bundle(apart, OnnxLoader()).manifest.files[WEIGHTS].size == len(weights)
    assert (apart / GOLDEN).read_bytes() == (whole / GOLDEN).read_bytes()
    (apart / WEIGHTS).write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(BundleAltered, match=WEIGHTS):
        verify(apart)
