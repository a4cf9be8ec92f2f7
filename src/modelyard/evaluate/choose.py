"""Which candidate goes on: judged on the validation rows, by the objective among those that keep the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from modelyard.bundle.open import Answers
from modelyard.core.arrays import Columns
from modelyard.core.candidate import ParamValue, Scored
from modelyard.core.metrics import METRICS
from modelyard.core.requirement import Observation, Verdict
from modelyard.evaluate.evaluation import CONFIDENCE, Question, judged
from modelyard.evaluate.outcomes import outcome_of
from modelyard.evaluate.timing import Timings, observe_timings
from modelyard.measure.intervals import observe, paired_difference


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A candidate's best trial, packed: its answers to the validation rows and its timings."""

    candidate: str
    algorithm: str
    params: dict[str, ParamValue]
    trials: int
    failed: int
    fit_s: float
    answers: Answers
    timings: Timings


def choose(question: Question, valid: Columns, contenders: Sequence[Contender]) -> tuple[Scored, ...]:
    """Return the candidate table, best first; the first is the one to go on with.

    Those that break no requirement on the validation rows come first, then by the objective. Ties go
    to the earlier in the spec.
    """
    rows = [_score(question, valid, contender) for contender in contenders]
    order = sorted(range(len(rows)), key=lambda place: (_fails(rows[place]), -_worth(question, rows[place])))
    best = contenders[order[0]]
    table = [_against(question, valid, rows[place], contenders[place], best) for place in order]
    return (replace(table[0], chosen=True, gap=None, reason=_why(table, question)), *table[1:])


def _score(question: Question, valid: Columns, contender: Contender) -> Scored:
    rng = np.random.default_rng(question.seed)
    outcome = outcome_of(question.contract, valid, contender.answers)
    seen = observe_timings(contender.timings, confidence=CONFIDENCE, price_per_cpu_hour=question.price_per_cpu_hour)
    timed = {observation.metric: observation.value for observation in seen}
    return Scored(
        candidate=contender.candidate,
        algorithm=contender.algorithm,
        trials=contender.trials,
        failed=contender.failed,
        params=contender.params,
        objective=observe(question.objective, outcome, confidence=CONFIDENCE, rng=rng),
        fit_s=contender.fit_s,
        latency_p95_ms=timed["latency_p95_ms"],
        size_mb=timed["size_mb"],
        judgements=judged(question, valid, contender.answers, contender.timings, rng=rng),
    )


def _fails(row: Scored) -> bool:
    return any(judgement.verdict is Verdict.FAIL for judgement in row.judgements)


def _worth(question: Question, row: Scored) -> float:
    if row.objective is None or row.objective.value is None:
        return float("-inf")
    return row.objective.value if METRICS[question.objective].higher_is_better else -row.objective.value


def _against(question: Question, valid: Columns, row: Scored, contender: Contender, best: Contender) -> Scored:
    """Add the paired difference from the best, and what it says, in words."""
    if contender is best:
        return row
    gap = paired_difference(
        question.objective,
        outcome_of(question.contract, valid, contender.answers),
        outcome_of(question.contract, valid, best.answers),
        confidence=CONFIDENCE,
        rng=np.random.default_rng(question.seed),
    )
    broken = [judgement for judgement in row.judgements if judgement.verdict is Verdict.FAIL]
    reason = (
        f"breaks a requirement on the validation rows: {broken[0].reason}" if broken else _told(gap, best.candidate)
    )
    return replace(row, gap=gap, reason=reason)


def _told(gap: Observation, best: str) -> str:
    if gap.low is None or gap.high is None:
        return f"not better than `{best}`; too few rows to say by how much"
    if gap.low <= 0.0 <= gap.high:
        return f"behind `{best}` by no more than these rows can tell apart"
    return f"clearly behind `{best}`"


def _why(table: Sequence[Scored], question: Question) -> str:
    first = table[0]
    others = [row.candidate for row in table[1:] if row.gap is not None and _indistinct(row.gap) and not _fails(row)]
    text = f"best {question.objective} on the validation rows"
    if _fails(first):
        text += "; every candidate breaks a requirement there"
    elif any(_fails(row) and _worth(question, row) > _worth(question, first) for row in table[1:]):
        text += " among those that break no requirement"
    return text + (f"; these rows cannot tell it from {', '.join(f'`{name}`' for name in others)}" if others else "")


def _indistinct(gap: Observation) -> bool:
    return gap.low is not None and gap.high is not None and gap.low <= 0.0 <= gap.high
