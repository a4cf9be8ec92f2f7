"""What is answered when no worker can: the release's own fallback list, in order, never silently."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from modelyard.bundle.format import Body
from modelyard.core.metrics import Task
from modelyard.errors import BundleFormat
from modelyard.serve.batching import Settled


class Reason(StrEnum):
    """Why an answer is degraded, as body, header and metrics say it."""

    WORKER_DOWN = "worker_down"  # no process of the release can be reached
    WORKER_FAILED = "worker_failed"  # it went away with the rows
    WORKER_HUNG = "worker_hung"  # it has had work for too long
    MODEL_ERROR = "model_error"  # the model fails on these rows
    DEADLINE = "deadline"  # no answer in time


def answer(body: Body, rows: int) -> Settled | None:
    """Return the first answer that the fallback list has for `rows` rows; None where it says refuse, or is empty.

    Raises: BundleFormat where an entry cannot be read.
    """
    for entry in body.manifest.fallback:
        if entry.get("kind") == "refuse":
            return None
        if entry.get("kind") == "constant":
            return _constant(body, entry, rows)
        raise BundleFormat(f"The fallback `{entry.get('kind')}` is not known. Known: constant, refuse.")
    return None


def kind(body: Body) -> str:
    """Return the kind of fallback that would answer: "constant" or "refuse"."""
    return str(body.manifest.fallback[0].get("kind")) if body.manifest.fallback else "refuse"


def _constant(body: Body, entry: Mapping[str, Any], rows: int) -> Settled:
    if body.manifest.task is Task.REGRESSION:
        value = entry.get("value")
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise BundleFormat(f"The constant fallback's `value` is {value!r}, wanted a finite number.")
        return Settled(values=[float(value)] * rows)
    classes = body.manifest.classes
    label = entry.get("label")
    if label not in classes:
        raise BundleFormat(f"The constant fallback's `label` is {label!r}, wanted one of {', '.join(classes)}.")
    shares = _shares(entry.get("probabilities"), str(label), classes)
    return Settled(labels=[str(label)] * rows, probabilities=[shares] * rows)


def _shares(given: object, label: str, classes: Sequence[str]) -> list[float]:
    """Return a probability for each class; where none are given, all of it is on the label."""
    if given is None:
        return [1.0 if name == label else 0.0 for name in classes]
    if isinstance(given, Mapping):
        given = [given.get(name) for name in classes] if given.keys() == set(classes) else None
    if (
        not isinstance(given, Sequence)
        or len(given) != len(classes)
        or not all(isinstance(share, int | float) and 0 <= share <= 1 for share in given)
        or not math.isclose(math.fsum(given), 1.0, abs_tol=1e-6)
    ):
        raise BundleFormat("The constant fallback's `probabilities` must have a share for each class, 1 in sum.")
    return [float(share) for share in given]
