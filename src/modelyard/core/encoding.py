"""How the graph turns its raw named inputs into one feature matrix, as data."""

from __future__ import annotations

import msgspec

LEAST_PROBABILITY = 1e-3  # where a forest says 0 or 1, its margin stops here
FARTHEST = 1e8  # beyond every row of a training part, and no sum of features overflows float32
MISSING = "<missing>"  # what a missing string is inside the graph; a value spelt so counts as missing


class NumberFeature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="number"):
    """The columns of float64 inputs, side by side: shifted and scaled in float64, then cast to float32.

    feature[j] = float32((input[j] - shift[j]) * scale[j]), at most `FARTHEST` from zero. Where `fill` is
    given, a missing value becomes fill[j] after scaling, and for each place in `flags` a column that is
    1.0 where that value was missing follows the numbers. Without `fill` missing stays NaN.
    """

    sources: tuple[str, ...]
    shift: tuple[float, ...]
    scale: tuple[float, ...]
    fill: tuple[float, ...] | None = None
    flags: tuple[int, ...] = ()
    names: tuple[str, ...]


class CategoryFeature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="category"):
    """A string input: each key has a row of numbers; what is not a key gets `other`."""

    source: str
    keys: tuple[str, ...]
    table: tuple[tuple[float, ...], ...]
    other: tuple[float, ...]
    names: tuple[str, ...]


class BlockFeature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="block"):
    """A float32 input that is a block of features already, such as TF-IDF weights."""

    source: str
    names: tuple[str, ...]


class IndicatorFeature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="indicator"):
    """A column of a float64 input that has few values: for each of `values` a column that is 1.0 where it is met."""

    source: str
    place: int  # of the column in the input
    values: tuple[float, ...]
    names: tuple[str, ...]


Feature = NumberFeature | CategoryFeature | BlockFeature | IndicatorFeature


class Encoding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The features of one kind of estimator, in matrix order."""

    kind: str  # "tree": orders and NaN kept; "dense": filled, scaled, one-hot
    features: tuple[Feature, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for feature in self.features for name in feature.names)


class Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What follows the estimator in the graph: calibration, link, threshold, labels.

    `raw` says what the estimator gives: "margin" (binary (n, 1), multiclass (n, classes) before
    softmax), "probability" ((n, classes)) or "value" ((n, 1), in units of the standardised target).
    Binary: p = sigmoid(slope * margin + intercept). Multiclass: p = softmax(slope * margin).
    Regression: value = estimate * slope + intercept, in float64.
    """

    raw: str
    slope: float = 1.0
    intercept: float = 0.0
    classes: tuple[str, ...] = ()
    threshold: float | None = None  # binary only: positive when p >= threshold
