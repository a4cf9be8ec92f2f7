"""Whether a change may be made: only where the way back from it was rehearsed, here and not too long ago. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from modelyard.core.drill import DrillEvidence, Outcome
from modelyard.core.evidence import Evidence
from modelyard.core.machine import Machine

SANDBOX = "sandbox"  # the one environment in which a change without a proven way back is made, and logged


def why_unproven(
    evidence: Iterable[Evidence], kind: str, machine: Machine, max_age_s: float, now: datetime
) -> str | None:
    """Return why the way back from a kind of change is not proven; None where it is.

    It is, where the newest drill `rollback_KIND` that could be tried on this very machine passed, and is not older
    than `max_age_s`. A drill on another machine, or with other versions of the libraries, says nothing of this one.

    Args:
        evidence: of the release that is to answer, in any order.
    """
    wanted = f"rollback_{kind}"
    tried = [
        (datetime.fromisoformat(drilled.began), drilled, record.payload.machine == machine)
        for record in evidence
        if isinstance(record.payload, DrillEvidence)
        for drilled in record.payload.drills
        if drilled.kind == wanted and drilled.outcome is not Outcome.NOT_TRIED
    ]
    here = [(began, drilled) for began, drilled, is_here in tried if is_here]
    if not here:
        if not tried:
            return f"its way back, `{wanted}`, was never rehearsed"
        return (
            f"its way back, `{wanted}`, was rehearsed only on another machine, or with other versions of its libraries"
        )
    began, last = max(here, key=lambda one: one[0])
    if last.outcome is not Outcome.PASSED:
        return f"its way back, `{wanted}`, did not pass its last drill: {last.why}"
    days = (now - began).total_seconds() / 86_400
    if days * 86_400 > max_age_s:
        return f"its way back, `{wanted}`, was rehearsed {days:.0f} days ago, more than {max_age_s / 86_400:g}"
    return None


def check_way_back(
    evidence: Iterable[Evidence], kind: str, machine: Machine, max_age_s: float, environment: str, now: datetime
) -> str | None:
    """Return why a change must not be made in an environment; None where it may.

    Every environment but the sandbox refuses what is not proven. In the sandbox the change goes on, and whoever
    makes it says and logs what `why_unproven` has to say.
    """
    return None if environment == SANDBOX else why_unproven(evidence, kind, machine, max_age_s, now)
