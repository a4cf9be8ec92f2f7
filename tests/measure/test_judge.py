"""The judge: verdicts, their reasons, and the laws they obey."""

from __future__ import annotations

import math
import sys
from subprocess import run

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modelyard.core.requirement import (
    Direction,
    Estimator,
    Inference,
    Observation,
    Requirement,
    Slice,
    Stage,
    Verdict,
)
from modelyard.measure import judge, worst

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
AT_LEAST, AT_MOST = Direction.AT_LEAST, Direction.AT_MOST

AUC = Observation(
    metric="roc_auc",
    value=0.927,
    low=0.922,
    high=0.931,
    confidence=0.95,
    samples=16_281,
    unit="share",
    method="percentile bootstrap of rows, 1000 resamples",
)
WANTED = Requirement(id="auc", metric="roc_auc", direction=AT_LEAST, bound=0.92)
SIZE = Observation(
    metric="size_mb", value=8.2, low=8.2, high=8.2, confidence=1.0, samples=1, unit="MB", method="weighed"
)
SMALL = Requirement(id="size", metric="size_mb", direction=AT_MOST, bound=10.0)


def wanted(**changed: object) -> Requirement:
    return msgspec.structs.replace(WANTED, **changed)


def seen(**changed: object) -> Observation:
    return msgspec.structs.replace(AUC, **changed)


def between(low: float, high: float, *, samples: int = 1000) -> Observation:
    return seen(value=(low + high) / 2, low=low, high=high, samples=samples)


@pytest.mark.parametrize(
    ("direction", "bound", "verdict"),
    [
        (AT_LEAST, 0.920, PASS),
        (AT_LEAST, 0.922, PASS),  # the edge itself is good enough
        (AT_LEAST, 0.925, INCONCLUSIVE),
        (AT_LEAST, 0.931, INCONCLUSIVE),
        (AT_LEAST, 0.932, FAIL),
        (AT_MOST, 0.932, PASS),
        (AT_MOST, 0.931, PASS),
        (AT_MOST, 0.925, INCONCLUSIVE),
        (AT_MOST, 0.922, INCONCLUSIVE),
        (AT_MOST, 0.921, FAIL),
    ],
)
def test_the_interval_decides_against_a_bound(direction: Direction, bound: float, verdict: Verdict) -> None:
    assert judge(wanted(direction=direction, bound=bound), AUC).verdict is verdict


def test_the_reason_can_be_read_at_night() -> None:
    assert judge(WANTED, AUC).reason == (
        "roc_auc is 0.927 (95 % interval 0.922 to 0.931, 16 281 rows): at least 0.920 is wanted, "
        "and the whole interval keeps it."
    )


def test_the_reason_shows_enough_digits_to_tell_the_edge_from_the_bound() -> None:
    reason = judge(wanted(bound=0.9222), seen(low=0.92218)).reason
    assert "0.92218 to 0.93100" in reason
    assert "at least 0.92220 is wanted" in reason


def test_the_reason_names_slice_and_group() -> None:
    where = Slice(column="sex", value="Female")
    assert judge(wanted(slice=where), seen(slice=where)).reason.startswith("roc_auc of sex=Female is 0.927")


def test_the_judgement_carries_what_it_judged() -> None:
    judgement = judge(WANTED, AUC)
    assert (judgement.requirement, judgement.observation, judgement.reference) == (WANTED, AUC, None)


@pytest.mark.parametrize(
    ("observation", "words"),
    [
        (seen(value=None, low=None, high=None, method="undefined: no rows"), "was not measured: undefined: no rows"),
        (seen(samples=29), "29 rows): at least 30 are needed"),
        (seen(confidence=0.9), "at 90 %: 95 % is required"),
        (seen(low=None, high=None, method="one measurement"), "has no interval: one measurement"),
        (seen(value=float("nan")), "such numbers judge nothing"),
        (seen(low=float("-inf")), "such numbers judge nothing"),
        (seen(low=0.94, high=0.93), "such numbers judge nothing"),
        (seen(metric="accuracy"), "The metric observed is accuracy"),
        (seen(slice=Slice(column="sex", value="Male")), "The slice observed is sex=Male"),
        (seen(group="race"), "The group observed is race"),
    ],
)
def test_what_cannot_be_judged_is_inconclusive_and_says_why(observation: Observation, words: str) -> None:
    judgement = judge(WANTED, observation)
    assert judgement.verdict is INCONCLUSIVE
    assert words in judgement.reason


def test_exactly_the_least_samples_are_enough() -> None:
    assert judge(WANTED, seen(samples=30)).verdict is PASS


def test_a_requirement_that_asks_nothing_is_inconclusive() -> None:
    assert judge(wanted(bound=None), AUC).verdict is INCONCLUSIVE


def test_a_size_is_judged_from_one_weighing() -> None:
    assert judge(SMALL, SIZE).verdict is PASS
    assert judge(SMALL, SIZE).reason == "size_mb is 8.2 MB: at most 10.0 MB is wanted."
    assert judge(msgspec.structs.replace(SMALL, bound=8.0), SIZE).verdict is FAIL


def test_a_quality_without_spread_still_needs_its_samples() -> None:
    point = seen(value=1.0, low=1.0, high=1.0, samples=3)
    assert judge(WANTED, point).verdict is INCONCLUSIVE


def test_an_unknown_edge_is_as_far_as_can_be() -> None:
    p99 = Observation(
        metric="latency_p99_ms",
        value=5.0,
        low=4.0,
        high=None,
        confidence=0.95,
        samples=100,
        unit="ms",
        method="order statistics",
    )
    slow = Requirement(id="slow", metric="latency_p99_ms", direction=AT_MOST, bound=3.0)
    assert judge(slow, p99).verdict is FAIL
    assert judge(msgspec.structs.replace(slow, bound=9.0), p99).verdict is INCONCLUSIVE
    assert "4.00 to unbounded, 100 timings" in judge(slow, p99).reason


def test_the_proxy_of_a_stage_may_stand_for_the_metric() -> None:
    live = Estimator(measure="roc_auc", population="labelled requests", inference=Inference.ALWAYS_VALID)
    requirement = wanted(metric="average_precision", stages={Stage.LIVE: live})
    assert judge(requirement, AUC).verdict is PASS


@pytest.mark.parametrize(
    ("reference", "verdict"),
    [
        (between(0.930, 0.930), PASS),  # 0.922 - 0.930 >= -0.01
        (between(0.930, 0.934), INCONCLUSIVE),
        (between(0.942, 0.943), FAIL),  # 0.931 - 0.942 < -0.01
        (between(0.932, 0.932), PASS),  # to the last digit, whatever the rounding
    ],
)
def test_a_margin_is_judged_by_the_widest_difference(reference: Observation, verdict: Verdict) -> None:
    assert judge(wanted(bound=None, margin=0.01), AUC, reference).verdict is verdict


def test_a_margin_is_mirrored_where_less_is_better() -> None:
    requirement = Requirement(id="loss", metric="roc_auc", direction=AT_MOST, margin=0.01)
    assert judge(requirement, between(0.50, 0.51), between(0.505, 0.51)).verdict is PASS
    assert judge(requirement, between(0.50, 0.52), between(0.505, 0.51)).verdict is INCONCLUSIVE
    assert judge(requirement, between(0.53, 0.54), between(0.505, 0.51)).verdict is FAIL


def test_a_paired_difference_decides_what_the_widest_leaves_open() -> None:
    requirement = wanted(bound=None, margin=0.01)
    reference = between(0.920, 0.935)
    paired = seen(value=-0.001, low=-0.004, high=0.002)
    assert judge(requirement, AUC, reference).verdict is INCONCLUSIVE
    judgement = judge(requirement, AUC, reference, difference=paired)
    assert judgement.verdict is PASS
    assert judgement.reason == (
        "roc_auc is 0.927 and the reference's 0.927, a difference of -0.0010 (95 % interval -0.0040 to 0.0020): "
        "a drop of at most 0.0100 is allowed, and the whole interval keeps it."
    )


def test_a_margin_without_a_reference_is_inconclusive() -> None:
    judgement = judge(wanted(margin=0.01), AUC)
    assert judgement.verdict is INCONCLUSIVE
    assert "there is none" in judgement.reason


@pytest.mark.parametrize("changed", [{"samples": 3}, {"confidence": 0.5}, {"value": None}, {"metric": "f1"}])
def test_a_weak_reference_is_no_reference(changed: dict[str, object]) -> None:
    judgement = judge(wanted(bound=None, margin=0.5), AUC, seen(**changed))
    assert judgement.verdict is INCONCLUSIVE
    assert judgement.reason.startswith("The reference cannot be judged by.")


def test_a_difference_of_few_rows_is_not_judged_by() -> None:
    few = seen(value=0.0, low=0.0, high=0.0, samples=3)
    assert judge(wanted(bound=None, margin=0.5), AUC, AUC, difference=few).verdict is INCONCLUSIVE


@pytest.mark.parametrize(
    ("bound", "reference", "verdict"),
    [
        (0.92, between(0.920, 0.930), PASS),
        (0.94, between(0.920, 0.930), FAIL),
        (0.92, between(0.950, 0.960), FAIL),
        (0.925, between(0.920, 0.930), INCONCLUSIVE),
        (0.925, between(0.950, 0.960), FAIL),
    ],
)
def test_of_bound_and_margin_the_worse_counts(bound: float, reference: Observation, verdict: Verdict) -> None:
    assert judge(wanted(bound=bound, margin=0.01), AUC, reference).verdict is verdict


@pytest.mark.parametrize(
    ("given_verdicts", "verdict"),
    [
        ([], INCONCLUSIVE),
        ([PASS, PASS], PASS),
        ([PASS, INCONCLUSIVE], INCONCLUSIVE),
        ([INCONCLUSIVE, FAIL, PASS], FAIL),
    ],
)
def test_the_worst_verdict_counts(given_verdicts: list[Verdict], verdict: Verdict) -> None:
    assert worst(given_verdicts) is verdict


numbers = st.floats(-1e6, 1e6)
edges = st.tuples(numbers, numbers).map(lambda pair: (min(pair), max(pair)))
_GOOD = {FAIL: 0, INCONCLUSIVE: 1, PASS: 2}


@given(edges=edges, bounds=st.tuples(numbers, numbers).map(sorted))
def test_asking_for_more_never_makes_the_verdict_better(edges: tuple[float, float], bounds: list[float]) -> None:
    easy, hard = (judge(wanted(bound=bound), between(*edges)).verdict for bound in bounds)
    assert _GOOD[hard] <= _GOOD[easy]


@given(edges=edges, bound=numbers)
def test_the_directions_mirror_each_other(edges: tuple[float, float], bound: float) -> None:
    least = judge(wanted(bound=bound), between(*edges)).verdict
    most = judge(wanted(direction=AT_MOST, bound=-bound), between(-edges[1], -edges[0])).verdict
    assert least is most


@given(edges=edges, bound=numbers)
def test_at_least_and_at_most_both_pass_only_where_the_interval_is_the_bound(
    edges: tuple[float, float], bound: float
) -> None:
    verdicts = [judge(wanted(direction=each, bound=bound), between(*edges)).verdict for each in Direction]
    if verdicts == [PASS, PASS]:
        assert edges == (bound, bound)
    assert verdicts != [FAIL, FAIL]


@given(edges=edges, wider=st.tuples(st.floats(0, 1e3), st.floats(0, 1e3)), bound=numbers)
def test_a_wider_interval_decides_nothing_that_the_narrower_did_not(
    edges: tuple[float, float], wider: tuple[float, float], bound: float
) -> None:
    narrow = judge(wanted(bound=bound), between(*edges)).verdict
    wide = judge(wanted(bound=bound), between(edges[0] - wider[0], edges[1] + wider[1])).verdict
    assert wide in (narrow, INCONCLUSIVE)


@given(ours=edges, theirs=edges, margins=st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)).map(sorted))
def test_a_larger_margin_never_makes_the_verdict_worse(
    ours: tuple[float, float], theirs: tuple[float, float], margins: list[float]
) -> None:
    verdicts = [judge(wanted(bound=None, margin=m), between(*ours), between(*theirs)).verdict for m in margins]
    assert _GOOD[verdicts[0]] <= _GOOD[verdicts[1]]


@given(
    numbers=st.tuples(*[st.none() | st.floats()] * 4),
    samples=st.integers(0, 10**9),
    confidence=st.floats(0, 1),
    margin=st.none() | st.floats(),
    has_reference=st.booleans(),
)
@example(numbers=(0.0, 0.0, None, None), samples=30, confidence=1.0, margin=math.inf, has_reference=True)
def test_the_judge_answers_whatever_it_is_shown(
    numbers: tuple[float | None, ...], samples: int, confidence: float, margin: float | None, has_reference: bool
) -> None:
    value, low, high, bound = numbers
    observation = seen(value=value, low=low, high=high, samples=samples, confidence=confidence)
    judgement = judge(wanted(bound=bound, margin=margin), observation, observation if has_reference else None)
    assert judgement.reason.endswith(".")
    undecided = value is None or samples < 30 or confidence < 0.95 or (low is None and high is None)
    assert judgement.verdict is INCONCLUSIVE or not undecided


def test_the_judge_needs_neither_numpy_nor_scipy() -> None:
    code = "import sys, modelyard.measure; sys.exit(any(m in sys.modules for m in ('numpy', 'scipy', 'sklearn')))"
    assert run([sys.executable, "-c", code], check=False).returncode == 0
