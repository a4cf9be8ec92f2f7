"""The rollouts of a release as the report shows them: how each ended, why, and on what that was decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from modelyard.core.evidence import Evidence, RolloutEvidence
from modelyard.core.release import EvidenceRef
from modelyard.core.requirement import Verdict
from modelyard.core.rollout import How, Policy, Ruling, beside

MOST_SHOWN = 10  # the newest
_ORDER = {Verdict.FAIL: 0, Verdict.INCONCLUSIVE: 1, Verdict.PASS: 2}


@dataclass(frozen=True, kw_only=True)
class WindowRow:
    """What one release answered during the last step."""

    release: str
    requests: int
    errors: int
    degraded: int
    restarts: int
    not_finite_rows: int


@dataclass(frozen=True, kw_only=True)
class NotedRow:
    """A decision that differed from the one before."""

    at: str
    step: str
    outcome: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class RolloutView:
    """One rollout. `reason` leaves out what the rulings say, which are those not kept first."""

    record: RolloutEvidence
    strategy: str
    how: str
    verdict: Verdict
    reason: str
    rulings: tuple[Ruling, ...]
    windows: tuple[WindowRow, ...]
    history: tuple[NotedRow, ...]

    @property
    def is_of_several(self) -> bool:
        """Say whether more than one release was judged."""
        return len({one.release for one in self.rulings}) > 1

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (_moment(self.record.ended) - _moment(self.record.began)).total_seconds()


def views(evidence: Sequence[tuple[EvidenceRef, Evidence]]) -> list[RolloutView]:
    """Return the newest rollouts on record, the newest first. `evidence` is oldest first."""
    records = [e.payload for _, e in evidence if isinstance(e.payload, RolloutEvidence)]
    return [_view(record) for record in records[: -MOST_SHOWN - 1 : -1]]


def _view(record: RolloutEvidence) -> RolloutView:
    windows = tuple(
        WindowRow(
            release=name,
            requests=window.counts.requests,
            errors=window.counts.errors,
            degraded=window.counts.degraded,
            restarts=sum(window.restarts.values()),
            not_finite_rows=window.not_finite_rows,
        )
        for name, window in record.windows.items()
    )
    history = tuple(
        NotedRow(
            at=f"{datetime.fromtimestamp(one.at, UTC):%H:%M:%S}",
            step=_step(record.policy, one.step),
            outcome=one.outcome.replace("_", " "),
            reason=beside(one.reason, record.rulings),
        )
        for one in record.history
    )
    return RolloutView(
        record=record,
        strategy=record.policy.strategy.replace("_", " "),
        how=record.how.replace("_", " ").capitalize(),
        verdict={How.PROMOTED: Verdict.PASS, How.TAKEN_BACK: Verdict.FAIL}.get(record.how, Verdict.INCONCLUSIVE),
        reason=beside(record.reason, record.rulings),
        rulings=tuple(sorted(record.rulings, key=lambda one: _ORDER[one.verdict])),
        windows=windows,
        history=history,
    )


def _step(policy: Policy, step: int) -> str:
    """Return the share of the traffic that a step gives, in words."""
    share = policy.share_at(step)
    if step >= len(policy.steps):
        return "100 %, watched"
    return f"{100 * share:g} %" if share else "mirrored"


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
