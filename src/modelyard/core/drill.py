"""What was rehearsed of a release before it was needed: failures, ways back, and what callers saw meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, NamedTuple

import msgspec

from modelyard.core.machine import Machine

Count = Annotated[int, msgspec.Meta(ge=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]


DEFAULT_DRILLS = (
    "worker_killed",
    "worker_hung",
    "worker_slow",
    "out_of_memory",
    "nan_outputs",
    "wrong_outputs",
    "store_unavailable",
    "disk_full",
    "controller_killed",
    "rollback_service",
)
WAY_BACK = "rollback_service"  # the drill that proves the way back of a deploy
DRILL_MAX_AGE_DAYS = 30.0  # where the spec says nothing


class Became(StrEnum):
    """What became of a request."""

    ANSWERED = "answered"
    DEGRADED = "degraded"  # answered by a fallback, and marked so
    FAILED = "failed"  # answered with anything but 2xx
    LOST = "lost"  # no whole answer in time


class Asked(NamedTuple):
    """One request of a drill's own caller; moments of one monotonic clock, in seconds."""

    due: float
    ended: float
    became: Became


class Sign(NamedTuple):
    """The first thing by which whoever watches could see that something was wrong."""

    at: float  # on the same clock as requests
    what: str


class Sight(NamedTuple):
    """How a service looks from outside at one moment."""

    sign: Sign | None  # the first since it was harmed
    whole: bool  # ready, supervised, every worker at work, the right release answering
    why: str = ""  # it is not whole


class Kept(NamedTuple):
    """What became of the changes of traffic that were acknowledged."""

    acknowledged: int
    lost: int


class Outcome(StrEnum):
    """How a drill ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_TRIED = "not tried"


class Drilled(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One drill. Requests are those that were due from the harm to the end; times are None where there is none."""

    kind: str  # "worker_killed", ..., "rollback_service"
    outcome: Outcome
    why: str  # what was seen, or why it did not pass or was not tried
    began: str  # RFC 3339
    limit_s: Positive  # in which it had to recover
    detection_s: NotNegative | None = None  # to the first sign on status or log
    recovery_s: NotNegative | None = None  # to the last answer that was degraded, failed or late: the RTO
    sent: Count = 0
    lost: Count = 0
    degraded: Count = 0
    failed: Count = 0
    worst_ms: NotNegative | None = None  # of the answered, from when each was due
    changes: Count = 0  # of traffic, that were acknowledged
    changes_lost: Count = 0  # of these, that were not in force at the end: the RPO


class DrillEvidence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="drill"):
    """The record of drills on a copy of the service: where, under which load, and what came of each."""

    machine: Machine
    rate: Positive  # requests a second, open loop
    way_back: str  # the release that stood behind this one
    left_out: tuple[str, ...] = ()  # of the release's own settings, in the copy
    drills: tuple[Drilled, ...]


def last_of_each(records: Iterable[DrillEvidence]) -> dict[str, tuple[DrillEvidence, Drilled]]:
    """Return the newest drill of each kind, in the order in which kinds first came; `records` are oldest first."""
    found: dict[str, tuple[DrillEvidence, Drilled]] = {}
    for record in records:
        for drilled in record.drills:
            found[drilled.kind] = (record, drilled)
    return found
