"""What is required, what was observed, and what follows from both."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec


class Direction(StrEnum):
    """Which side of the bound is good."""

    AT_LEAST = "at_least"
    AT_MOST = "at_most"


class Stage(StrEnum):
    """Where a requirement is checked."""

    BUILD = "build"
    ROLLOUT = "rollout"
    LIVE = "live"


class Inference(StrEnum):
    """How samples are turned into an interval."""

    FIXED = "fixed"  # one look at a sample whose size was set before
    ALWAYS_VALID = "always_valid"  # holds under any number of looks


class Verdict(StrEnum):
    """What a requirement says of an observation. Inconclusive means hold, never promote."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class Slice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rows where a column has a value; written `sex=Female`."""

    column: str
    value: str

    def __str__(self) -> str:
        return f"{self.column}={self.value}"


class Estimator(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is measured at one stage, and on whom."""

    measure: str  # the metric, or the proxy where the metric cannot be seen at this stage
    population: str  # "test rows", "requests", "labelled requests", "packed bundle"
    inference: Inference


class Requirement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of the spec: gate at build, verdict on the canary, alert in production.

    `bound` is absolute, in the metric's unit; `margin` is the allowed loss against the stable
    release; at least one is set. `group` is the column a fairness metric compares.
    """

    id: str
    metric: str
    direction: Direction
    bound: float | None = None
    margin: float | None = None
    slice: Slice | None = None
    group: str | None = None
    confidence: Annotated[float, msgspec.Meta(gt=0.5, lt=1.0)] = 0.95
    least_samples: Annotated[int, msgspec.Meta(ge=1)] = 30
    window_s: Annotated[float, msgspec.Meta(gt=0)] | None = None
    needs_labels: bool = True
    accept_inconclusive: bool = False  # at build only, and shown in the report
    stages: dict[Stage, Estimator] = {}


class Observation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A measured number: value, interval, sample size and method.

    `low` and `high` bound the value at `confidence` (two-sided); both equal `value` for a number
    that has no sampling error, such as a size in bytes. NaN never appears: what could not be
    measured has `value` None and a `method` that says why.
    """

    metric: str
    value: float | None
    low: float | None
    high: float | None
    confidence: float
    samples: int
    unit: str
    method: str
    slice: Slice | None = None
    group: str | None = None


class Judgement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The verdict of one requirement on one observation, with its reason in words."""

    requirement: Requirement
    verdict: Verdict
    reason: str
    observation: Observation
    reference: Observation | None = None
