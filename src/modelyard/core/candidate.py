"""Candidates, their trials, and how they fared."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from modelyard.core.requirement import Judgement, Observation

ParamValue = bool | int | float | str | None


class TrialState(StrEnum):
    """How a trial ended."""

    DONE = "done"
    CRASHED = "crashed"  # exception, signal
    OUT_OF_MEMORY = "out_of_memory"
    TIMED_OUT = "timed_out"
    REFUSED = "refused"  # fitted, but not convertible, or parity broken


class Trial(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fit of one candidate with one set of parameters."""

    number: Annotated[int, msgspec.Meta(ge=0)]  # over all candidates of the run
    candidate: str  # its name in the spec
    params: dict[str, ParamValue]
    state: TrialState
    value: float | None = None  # the objective on validation rows
    fit_s: float = 0.0
    spent_s: float = 0.0  # wall time that counts against the budget, lost attempts included
    reason: str = ""
    facts: dict[str, ParamValue] = {}  # what the fit found, such as the trees it stopped at


class Scored(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A candidate's best trial with interval, next to the chosen one: a row of the candidate table."""

    candidate: str
    algorithm: str
    trials: int
    failed: int
    params: dict[str, ParamValue]
    objective: Observation | None
    gap: Observation | None = None  # paired difference from the chosen candidate, with interval
    fit_s: float = 0.0
    latency_p95_ms: float | None = None
    size_mb: float | None = None
    judgements: tuple[Judgement, ...] = ()  # on validation rows
    chosen: bool = False
    reason: str = ""  # why chosen, or why not
