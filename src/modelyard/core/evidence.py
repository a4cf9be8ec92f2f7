"""What was measured of a bundle, in the shapes that the report, the card and the gates read."""

from __future__ import annotations

from typing import Any

import msgspec

from modelyard.core.candidate import Scored, Trial
from modelyard.core.contract import Histogram, Prepared
from modelyard.core.drill import DrillEvidence
from modelyard.core.machine import Machine
from modelyard.core.requirement import Judgement, Observation, Requirement
from modelyard.core.rollout import How, Noted, Policy, Ruling, Window
from modelyard.core.sweep import SweepEvidence


class Curve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line to draw, at most 500 points: x and y of equal length."""

    name: str  # "roc", "precision_recall", "calibration", "residuals", "predicted_actual", "latency"
    series: str  # the class or the group; "" when there is one
    x: tuple[float, ...]
    y: tuple[float, ...]
    weight: tuple[float, ...] = ()  # rows behind each point, where that matters


class SliceScore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One slice's metrics."""

    column: str
    value: str
    rows: int
    observations: tuple[Observation, ...]


class Confusion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Counts: row = true class, column = predicted class, both in `classes` order."""

    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


class ParityRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row answered otherwise than the reference, with its columns."""

    row: int
    difference: float
    columns: dict[str, Any]


class Parity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far two ways to answer the same rows are apart."""

    between: str  # "pipeline and bundle", "bundle and endpoint"
    rows: int
    largest_difference: float
    tolerance: float
    labels_changed: int  # beyond the allowed margin
    passed: bool
    worst: tuple[ParityRow, ...] = ()


class PassedOver(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A requirement of which a build can see nothing, and why: it was neither met nor broken."""

    requirement: Requirement
    reason: str


class Evaluation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that was measured of one packed bundle on the test rows."""

    rows: int
    observations: tuple[Observation, ...]
    judgements: tuple[Judgement, ...]
    passed_over: tuple[PassedOver, ...] = ()  # not judged here; records from before there was such a list have none
    slices: tuple[SliceScore, ...]
    fairness: tuple[Observation, ...]
    curves: tuple[Curve, ...]
    confusion: Confusion | None = None
    score_histogram: Histogram | None = None
    importance: tuple[tuple[str, float], ...] = ()  # permutation loss of the objective, by raw column


class Lineage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a release came from."""

    spec_digest: str
    data_digest: str
    code_version: str
    run: str
    started: str
    finished: str
    machine: Machine
    test_rows_seen_by: tuple[str, ...]  # every use of the test rows, in order
    stages: dict[str, str]  # stage -> "built" | "cached", with seconds in words


class BuildEvidence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="build"):
    """The record of a build: everything the report shows."""

    prepared: Prepared
    candidates: tuple[Scored, ...]
    trials: tuple[Trial, ...]
    budget: str
    chosen: str
    threshold: float | None
    threshold_reason: str
    evaluation: Evaluation
    parity: tuple[Parity, ...]
    lineage: Lineage


class StepTried(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step of the order of fallbacks, as it was tried."""

    kind: str  # "previous" | "variant" | "rule" | "constant" | "refuse"
    release: str | None = None  # that was asked
    answered: bool | None  # as it should; None: it was passed over, since there is nobody to ask
    seconds: float
    detail: str


class FallbackEvidence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="fallback"):
    """The record of a way back that was tried, step by step; records from before there were steps have none.

    `kind` names the kinds in their order, `answered` says whether every step did as it should, `seconds` is theirs
    together.
    """

    kind: str
    answered: bool
    seconds: float
    detail: str
    steps: tuple[StepTried, ...] = ()


class RolloutEvidence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="rollout"):
    """The record of how a release took over, or was taken back, and on what that was decided."""

    rollout: str  # its id
    service: str
    stable: str
    policy: Policy
    began: str  # RFC 3339
    ended: str
    how: How
    reason: str
    rulings: tuple[Ruling, ...] = ()  # of the last look
    windows: dict[str, Window] = {}  # of the last step
    history: tuple[Noted, ...] = ()


Payload = BuildEvidence | FallbackEvidence | SweepEvidence | DrillEvidence | RolloutEvidence


class Evidence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One record that points to a body; appended, never changed."""

    release: str
    body: str  # digest
    recorded: str  # RFC 3339
    payload: Payload
