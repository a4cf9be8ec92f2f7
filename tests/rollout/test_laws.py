"""What holds for any counts."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.requirement import Verdict
from modelyard.core.rollout import ArmCounts, Decision, Hits, Outcome, Window
from modelyard.rollout import StepState, begin, decide
from tests.rollout.worlds import ACCURACY, CANARY, CANDIDATE, ERRORS, LATENCY, STABLE, policy_of, requirement, window

POLICY = policy_of(CANARY, most_s=25.0)
REQUIREMENTS = (ERRORS, LATENCY, ACCURACY, requirement("recall", bound=0.5, at_least=True, labels=True))
counts = st.integers(0, 400)
shares = st.sampled_from([0.0, 0.01, 0.03, 0.1, 0.5, 0.9, 1.0])


@st.composite
def blocks(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """Draw requests, errors, slow and right ones between two looks."""
    rows = draw(counts)
    return (rows, *(int(rows * draw(shares)) for _ in range(3)))  # type: ignore[return-value]


Block = tuple[int, int, int, int]
Looks = list[tuple[Block, Block]]
many = st.lists(st.tuples(blocks(), blocks()), min_size=1, max_size=30)


def summed(seen: list[Block], *, worse_by: int = 0) -> ArmCounts:
    """Return counts, with so many right answers of each look that are wrong, and more errors, than said."""
    rows, errors, slow, right = (sum(block[place] for block in seen) for place in range(4))
    more = sum(min(worse_by, block[0] - block[1]) for block in seen)
    wrong = sum(min(worse_by, block[3]) for block in seen)
    slower = sum(min(worse_by, block[0] - block[2]) for block in seen)
    hits = Hits(trials=rows, hits=right - wrong)
    return ArmCounts(
        requests=rows,
        errors=errors + more,
        rates={"latency_p95_ms": Hits(trials=rows, hits=slow + slower), "accuracy": hits, "recall": hits},
    )


def decisions(looks: Looks, *, worse_by: int = 0) -> list[tuple[Decision, StepState]]:
    state, made = begin(STABLE, [CANDIDATE], now=0.0), []
    for place in range(1, len(looks) + 1):
        ours, theirs = ([pair[arm] for pair in looks[:place]] for arm in (0, 1))
        windows: dict[str, Window] = {
            STABLE: window(STABLE, summed(theirs)),
            CANDIDATE: window(CANDIDATE, summed(ours, worse_by=worse_by)),
        }
        decision, state = decide(windows, REQUIREMENTS, POLICY, state, float(place))
        made.append((decision, state))
    return made


@settings(max_examples=40, deadline=None)
@given(many)
def test_nothing_goes_forward_with_a_verdict_that_is_no_pass(looks: Looks) -> None:
    for decision, _ in decisions(looks):
        if decision.outcome is Outcome.FORWARD:
            assert {one.verdict for one in decision.rulings} == {Verdict.PASS}


@settings(max_examples=40, deadline=None)
@given(many)
def test_back_is_final(looks: Looks) -> None:
    outcomes = [decision.outcome for decision, _ in decisions(looks)]
    if Outcome.BACK in outcomes:
        assert set(outcomes[outcomes.index(Outcome.BACK) :]) == {Outcome.BACK}


@settings(max_examples=40, deadline=None)
@given(many, st.integers(1, 50))
def test_more_bad_outcomes_never_turn_a_back_into_a_forward(looks: Looks, worse_by: int) -> None:
    before, after = decisions(looks), decisions(looks, worse_by=worse_by)
    for (first, _), (second, _) in zip(before, after, strict=True):
        if first.outcome is Outcome.BACK:
            assert second.outcome is Outcome.BACK


@settings(max_examples=40, deadline=None)
@given(many)
def test_no_step_outlasts_its_time(looks: Looks) -> None:
    for place, (decision, _) in enumerate(decisions(looks), start=1):
        if place >= POLICY.most_s:
            assert decision.outcome in (Outcome.BACK, Outcome.FORWARD)
