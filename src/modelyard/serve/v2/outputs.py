"""The outputs of a model as tensors: `label` (BYTES) and `probabilities` (FP32), or `value` (FP64)."""

from __future__ import annotations

from itertools import chain
from typing import Any

from modelyard.bundle.format import Body
from modelyard.core.metrics import Task
from modelyard.serve.batching import Settled
from modelyard.serve.v2 import elements

OUTPUT_TYPES = {"label": "BYTES", "probabilities": "FP32", "value": "FP64"}


def output_names(body: Body) -> tuple[str, ...]:
    """Return the names of a model's outputs."""
    return ("value",) if body.manifest.task is Task.REGRESSION else ("label", "probabilities")


def output_shape(name: str, rows: int, body: Body) -> list[int]:
    """Return an output's shape for so many rows; -1 for any number."""
    return [rows, len(body.manifest.classes)] if name == "probabilities" else [rows]


def output_values(name: str, settled: Settled) -> list[Any]:
    """Return an output's elements, flat: str or float."""
    if name == "value":
        return settled.values or []
    if name == "label":
        return settled.labels or []
    table = settled.probabilities or []
    return table[0] if len(table) == 1 else list(chain.from_iterable(table))


def output_bytes(name: str, settled: Settled) -> bytes:
    """Return an output's elements as raw bytes."""
    return elements.pack(name, OUTPUT_TYPES[name], output_values(name, settled))
