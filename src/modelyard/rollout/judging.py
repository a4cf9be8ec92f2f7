"""The verdict of one claim on one candidate, from its tests."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from modelyard.core.requirement import Verdict
from modelyard.core.rollout import NO_HITS, Policy
from modelyard.measure.sequential import Evidence, share_level
from modelyard.measure.sequential_means import MeanState
from modelyard.measure.sequential_rates import RateState
from modelyard.rollout.claims import Against, Claim, Kind
from modelyard.rollout.look import EDGE, STABLE, WORSE, Pair, hits_of, key_of, pairs_of, sums_of
from modelyard.rollout.state import StepState

NOTHING = Evidence()


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Chances of a wrong fail and of a wrong pass of one claim on one candidate."""

    fail: float
    passing: float


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What the tests of a claim say."""

    verdict: Verdict
    incident: bool
    samples: int  # rows of the candidate; in the smallest group
    expected: int | None  # more of them until a verdict, projected
    against: Evidence  # that the candidate is worse than allowed, the strongest of its tests
    pair: Pair | None = None  # the groups it is about


@dataclass(frozen=True, kw_only=True)
class _Tests:
    """What is tested of one rate, mean or pair of groups, and its share of the level."""

    edge: RateState | MeanState | None
    stable: RateState | MeanState | None
    worse: RateState | MeanState | None
    pair: Pair | None
    weight: float = 1.0


def levels(found: tuple[Claim, ...], policy: Policy, candidates: int) -> dict[str, Levels]:
    """Return the level of each claim: all of them, on all candidates, have the policy's together."""
    shared = share_level(policy.level / candidates, {claim.key: 1.0 for claim in found})
    return {
        claim.key: Levels(
            fail=shared[claim.key],
            # Of several candidates one is picked as better, so that chance is shared out too.
            passing=policy.pass_level / (candidates if claim.against is Against.BETTER else 1),
        )
        for claim in found
    }


def judge_claim(claim: Claim, name: str, policy: Policy, state: StepState, level: Levels) -> Judged:
    """Return what the tests say of a claim after any number of looks."""
    samples = samples_of(claim, name, state)
    tests = list(_tests(claim, name, state))
    alone = policy.share_at(state.step) == 1 and not samples_of(claim, state.stable, state)
    failed = [one for one in tests if _fails(claim, one, level.fail * one.weight, alone=alone)]
    broken = [one for one in tests if _against(one.edge).refutes(level.fail * one.weight)]
    both = [one for one in broken if claim.against is Against.BOUND and _is_shared(one, level.fail * one.weight)]
    about = max(failed or both or tests, key=lambda one: _against(one.edge).now, default=None)
    enough = samples >= claim.requirement.least_samples
    if failed:
        verdict = Verdict.FAIL
    elif enough and tests and not broken and all(_passes(claim, one, level.passing) for one in tests):
        verdict = Verdict.PASS
    else:
        verdict = Verdict.INCONCLUSIVE
    return Judged(
        verdict=verdict,
        incident=bool(both) and not failed,
        samples=samples,
        expected=_expected(claim, tests, level, samples) if verdict is Verdict.INCONCLUSIVE else 0,
        against=_against(about.edge) if about else NOTHING,
        pair=about.pair if about else None,
    )


def samples_of(claim: Claim, name: str, state: StepState) -> int:
    """Return the rows of a release that a claim was tested on; in the smallest group."""
    counts = state.seen.get(name)
    if counts is None:
        return 0
    if claim.kind is Kind.MEAN:
        return sums_of(claim, counts).count
    if claim.kind is Kind.RATE:
        return hits_of(claim, counts).trials
    groups = state.groups.get(claim.key, ())
    rows = [counts.groups.get(key, {}).get(one, NO_HITS).trials for key in claim.counts for one in groups]
    return min(rows, default=0)


def is_compared(claim: Claim) -> bool:
    """Say whether a fail asks for a candidate worse than the stable release beside the broken edge."""
    return claim.against is Against.BOUND or claim.kind is Kind.GAP


def _tests(claim: Claim, name: str, state: StepState) -> Iterator[_Tests]:
    known: dict[str, RateState | MeanState] = {**state.rates, **state.means}

    def of(role: str, pair: Pair | None) -> RateState | MeanState | None:
        return known.get(key_of(name, claim, role, pair))

    if claim.kind is Kind.GAP:
        for pair in pairs_of(state, claim):
            yield _Tests(
                edge=of(EDGE, pair), stable=of(STABLE, pair), worse=of(WORSE, pair), pair=pair, weight=pair.weight
            )
    else:
        yield _Tests(edge=of(EDGE, None), stable=of(STABLE, None), worse=of(WORSE, None), pair=None)


def _against(test: RateState | MeanState | None) -> Evidence:
    return test.against if test is not None else NOTHING


def _cleared(test: RateState | MeanState | None) -> Evidence:
    return test.cleared if test is not None else NOTHING


def _fails(claim: Claim, tests: _Tests, level: float, *, alone: bool) -> bool:
    """Say whether the edge is broken, and the candidate worse than the stable release where that matters.

    Both must be shown, so each may take the whole level.
    """
    if not _against(tests.edge).refutes(level):
        return False
    if not is_compared(claim) or (alone and claim.against is Against.BOUND):
        return True
    return _against(tests.worse).refutes(level)


def _is_shared(tests: _Tests, level: float) -> bool:
    return _against(tests.stable).refutes(level) and not _against(tests.worse).refutes(level)


def _passes(claim: Claim, tests: _Tests, level: float) -> bool:
    if claim.kind is Kind.GAP and claim.against is Against.MARGIN:
        return any(_cleared(test).refutes(level / 2) for test in (tests.edge, tests.worse))
    return _cleared(tests.edge).refutes(level)


def _expected(claim: Claim, tests: list[_Tests], level: Levels, samples: int) -> int | None:
    """Return how many more samples a verdict needs if the stakes grow on as they have, in proportion to the rows."""
    fails, passes = [], []
    for one in tests:
        asked = (one.edge, one.worse) if is_compared(claim) else (one.edge,)
        to_fail = [_more(_against(test), level.fail * one.weight, samples) for test in asked]
        to_pass = _more(_cleared(one.edge), level.passing, samples)
        fails += [max(count for count in to_fail if count is not None)] if None not in to_fail else []
        passes += [to_pass] if to_pass is not None else []
    found = [min(fails)] if fails else []
    found += [max(passes)] if passes and len(passes) == len(tests) else []
    if not found:
        return None
    return max(math.ceil(min(found)), claim.requirement.least_samples - samples, 1)


def _more(evidence: Evidence, level: float, samples: int) -> float | None:
    if evidence.refutes(level):
        return 0.0
    return samples * (-math.log(level) / evidence.now - 1) if evidence.now > 0 and samples else None
