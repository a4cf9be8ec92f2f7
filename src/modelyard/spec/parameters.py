"""The parameters of the built-in algorithms: what they may be, and how they are searched."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from modelyard.core.candidate import ParamValue
from modelyard.core.space import Choice, Dimension, Fixed, Range

LAYERS = re.compile(r"[1-9][0-9]{0,3}(x[1-9][0-9]{0,3}){0,3}")


class Algorithm(StrEnum):
    """How a model is fitted."""

    BASELINE = "baseline"
    LINEAR = "linear"
    LIGHTGBM = "lightgbm"
    RANDOM_FOREST = "random_forest"
    MLP = "mlp"
    FUNCTION = "function"


BUILT_IN = tuple(algorithm for algorithm in Algorithm if algorithm is not Algorithm.FUNCTION)


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of an algorithm: its bounds, and what is searched where the spec says nothing.

    `low` and `high` are None for layer sizes, which are text such as "64x32".
    """

    meaning: str
    search: Dimension
    low: float | None = None
    high: float | None = None
    whole: bool = False
    none: str = ""  # what null means, where it is allowed

    @property
    def wanted(self) -> str:
        """What a single value may be, in words."""
        if self.low is None or self.high is None:
            return 'layer sizes in quotes, such as "64" or "64x32"'
        kind = "a whole number" if self.whole else "a number"
        return f"{kind} from {self.low:.15g} to {self.high:.15g}" + (f", or null ({self.none})" if self.none else "")

    def allows(self, value: ParamValue) -> bool:
        """Say whether the parameter may have this value."""
        if value is None:
            return bool(self.none)
        if self.low is None or self.high is None:
            return isinstance(value, str) and LAYERS.fullmatch(value) is not None
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return self.low <= value <= self.high and (not self.whole or float(value).is_integer())


def _log(low: float, high: float, default: float, *, integer: bool = False) -> Range:
    return Range(low=low, high=high, log=True, integer=integer, default=default)


def _even(low: float, high: float, default: float, *, integer: bool = False) -> Range:
    return Range(low=low, high=high, integer=integer, default=default)


_LEARNING_RATE = "step of each round; smaller is slower and often better"
_FEATURE_SHARE = "share of the features that each tree or split may look at"

PARAMETERS: Mapping[Algorithm, Mapping[str, Parameter]] = {
    Algorithm.BASELINE: {},
    Algorithm.FUNCTION: {},
    Algorithm.LINEAR: {
        "strength": Parameter(
            meaning="regularisation: alpha of ridge, 1/C of logistic regression",
            low=1e-6, high=1e6, search=_log(1e-3, 1e3, 1.0),
        ),
    },
    Algorithm.LIGHTGBM: {
        "learning_rate": Parameter(meaning=_LEARNING_RATE, low=1e-6, high=1.0, search=_log(0.02, 0.2, 0.1)),
        "num_leaves": Parameter(
            meaning="leaves of each tree", low=2, high=4096, whole=True, search=_log(6, 96, 16, integer=True)
        ),
        "max_trees": Parameter(
            meaning="most trees; fewer where more stop helping", low=1, high=10_000, whole=True, search=Fixed(value=600)
        ),
        "min_leaf_rows": Parameter(
            meaning="least rows in a leaf", low=1, high=1_000_000, whole=True, search=_log(5, 100, 20, integer=True)
        ),
        "feature_share": Parameter(meaning=_FEATURE_SHARE, low=0.01, high=1.0, search=_even(0.3, 1.0, 0.6)),
        "row_share": Parameter(
            meaning="share of the rows that each tree sees", low=0.01, high=1.0, search=_even(0.5, 1.0, 0.9)
        ),
        "l2": Parameter(meaning="penalty on large leaf values", low=0.0, high=1e6, search=_log(1e-3, 10.0, 0.1)),
        "bags": Parameter(
            meaning="models averaged, each stopped early on other rows", low=1, high=10, whole=True,
            search=Choice(values=(3, 1)),
        ),
    },
    Algorithm.RANDOM_FOREST: {
        "trees": Parameter(meaning="number of trees", low=1, high=5000, whole=True, search=Fixed(value=100)),
        "max_depth": Parameter(
            meaning="most levels of a tree", low=1, high=100, whole=True, none="no bound",
            search=_even(6, 16, 12, integer=True),
        ),
        "min_leaf_rows": Parameter(
            meaning="least rows in a leaf", low=1, high=1_000_000, whole=True, search=_log(1, 50, 5, integer=True)
        ),
        "feature_share": Parameter(meaning=_FEATURE_SHARE, low=0.01, high=1.0, search=_even(0.1, 1.0, 0.4)),
    },
    Algorithm.MLP: {
        "hidden": Parameter(
            meaning="sizes of the hidden layers", search=Choice(values=("64", "32", "128", "64x32"))
        ),
        "learning_rate": Parameter(meaning=_LEARNING_RATE, low=1e-6, high=1.0, search=_log(1e-4, 1e-2, 1e-3)),
        "batch_size": Parameter(meaning="rows in each step", low=1, high=10_000, whole=True, search=Fixed(value=256)),
        "epochs": Parameter(
            meaning="most passes over the rows; fewer where more stop helping", low=1, high=10_000, whole=True,
            search=Fixed(value=50),
        ),
        "l2": Parameter(meaning="penalty on large weights", low=0.0, high=1e6, search=_log(1e-6, 1e-2, 1e-4)),
    },
}  # fmt: skip


ENCODINGS: Mapping[Algorithm, str] = {
    Algorithm.BASELINE: "tree",
    Algorithm.LINEAR: "dense",
    Algorithm.LIGHTGBM: "tree",
    Algorithm.RANDOM_FOREST: "tree",
    Algorithm.MLP: "dense",
    Algorithm.FUNCTION: "dense",
}
"""The features that each algorithm is given: one column each ("tree"), or numbers all of a size ("dense")."""
