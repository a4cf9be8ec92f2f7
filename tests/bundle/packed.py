"""Packed bodies, made from a table with every kind of column."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from modelyard.adapters.lightgbm import LightGbmTrainer
from modelyard.adapters.onnx_engine import OnnxLoader
from modelyard.adapters.onnx_graph import whole
from modelyard.core.candidate import ParamValue
from modelyard.core.encoding import Head
from modelyard.core.metrics import Task
from modelyard.release.pack import Parts, json_rows, pack
from tests.adapters.making import PARAMS, Made, make


@cache
def made_parts(task: Task = Task.BINARY) -> Parts:
    """Return the parts of a small boosted model over every kind of column."""
    made: Made = make("tree", task, rows=500, missing=True)
    params: dict[str, ParamValue] = {**PARAMS["lightgbm"]}
    fitted = LightGbmTrainer().fit(made.training_set(), params, seed=1, threads=1)
    head = Head(raw=fitted.raw, classes=made.contract.classes, threshold=0.4 if task is Task.BINARY else None)
    return Parts(
        name="tiny",
        contract=replace(made.contract, columns=made.contract.columns),
        preprocess=made.steps,
        graph=whole(made.encoding, made.widths, fitted.graph, head),
        threshold=head.threshold,
        candidate="lightgbm",
        algorithm="lightgbm",
        params={**params, **fitted.facts},
        seed=1,
        spec_text="name: tiny\n",
        spec_canonical=b'{"name":"tiny"}',
        spec_digest="0" * 64,
        data_digest="1" * 64,
        code_version="0.1.0",
        libraries={"numpy": "2.4"},
        unknown_category="accept",
        fallback=({"kind": "constant", "value": 1.5},),
        golden=made.columns,
    )


def packed(folder: Path, task: Task = Task.BINARY) -> Path:
    """Pack a body into a new folder."""
    body = folder / "body"
    body.mkdir(parents=True)
    pack(made_parts(task), body, OnnxLoader())
    return body


def rows_of(task: Task = Task.BINARY, count: int = 5) -> list[dict[str, Any]]:
    """Return rows as a caller would send them."""
    parts = made_parts(task)
    return json_rows(parts.contract, parts.golden.take(slice(0, count)))
