"""Orders of fallbacks to test with, in bodies made of records only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from modelyard.bundle.check import check_rows
from modelyard.bundle.format import Body, Golden, Manifest
from modelyard.core.contract import Contract
from modelyard.core.metrics import Task
from modelyard.errors import BundleFormat
from modelyard.serve.batching import Settled
from modelyard.serve.guard.fallback import Answering, order
from tests.serve.bodies import GOLDEN_ROWS, contract

YES: dict[str, Any] = {"label": ">50K", "probabilities": {"<=50K": 0.125, ">50K": 0.875}}
NO: dict[str, Any] = {"label": "<=50K", "probabilities": {"<=50K": 0.75, ">50K": 0.25}}
VARIANT = {"kind": "variant", "release": "small@3"}
PREVIOUS = {"kind": "previous"}
MISSING = {"column": "age", "is": "missing"}


def body(*fallback: Mapping[str, Any], task: Task = Task.BINARY, given: Contract | None = None) -> Body:
    """Return a body that is made of records only; no step looks at a file."""
    found = given or contract(task)
    manifest = Manifest(
        format=1, name="income", task=task, target="target", classes=found.classes, threshold=None, candidate="c",
        algorithm="a", params={}, seed=0, spec_digest="0" * 64, data_digest="0" * 64, code_version="0", libraries={},
        unknown_category="accept", fallback=tuple(dict(entry) for entry in fallback), files={},
    )  # fmt: skip
    return Body(manifest=manifest, contract=found, golden=Golden(rows=GOLDEN_ROWS), digest="0" * 64)


def rule(*cases: tuple[Sequence[Mapping[str, Any]], Mapping[str, Any]], otherwise: Mapping[str, Any] = NO) -> Any:
    return {
        "kind": "rule",
        "cases": [{"when": list(when), "then": then} for when, then in cases],
        "otherwise": otherwise,
    }


def asked(entry: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], *, task: Task = Task.BINARY) -> Settled:
    """Return what a step answers to rows, held against the contract first as every request is."""
    made = body(entry, task=task)
    (step,) = order(made, None)
    assert isinstance(step, Answering)
    return step.answer(check_rows(made.contract, rows), len(rows))


def told(*fallback: Mapping[str, Any], task: Task = Task.BINARY) -> str:
    with pytest.raises(BundleFormat) as caught:
        order(body(*fallback, task=task), None)
    return str(caught.value)
