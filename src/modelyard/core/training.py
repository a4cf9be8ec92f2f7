"""What a trainer is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from modelyard.core.arrays import Array, Floats, Singles
from modelyard.core.candidate import ParamValue


@dataclass(frozen=True)
class TrainingSet:
    """Features as the graph makes them, and what to learn.

    `features` is float32 (rows, features). `target` is int64 in [0, classes) for classification,
    float64 with mean 0 and deviation 1 for regression, where `classes` is 0. `weight` is positive,
    (rows,), or None for equal weights.
    """

    features: Singles
    target: Array
    weight: Floats | None
    classes: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Fitted:
    """A fitted estimator as a graph from `features` to `raw`, with its own answers to compare.

    `raw` is one of Head.raw. `predict` gives the library's own answer, float64 (rows, outputs), in
    the meaning of `raw`; it lives and dies in the process that fitted. With a `refusal`, which says why
    the estimator cannot be told as a graph, `graph` is empty: it is compared, and cannot be sealed.
    """

    graph: bytes
    raw: str
    predict: Callable[[Singles], Floats]
    facts: Mapping[str, ParamValue] = field(default_factory=dict)
    refusal: str = ""


class Trainer(Protocol):
    """Fits one kind of estimator. The same arguments give the same graph, byte for byte."""

    encoding: str  # "tree" or "dense": the features it wants

    def fit(self, data: TrainingSet, params: Mapping[str, ParamValue], *, seed: int, threads: int) -> Fitted:
        """Fit; raises NotConvertible where the result cannot be told as a graph."""
        ...


HOLDOUT_SHARE = 0.1  # of the training rows, kept apart for early stopping
LEAST_HOLDOUT = 100  # rows; with fewer nothing is kept apart and nothing stops early
