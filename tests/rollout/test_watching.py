"""What fronts are asked to count for claims."""

from __future__ import annotations

import pytest

from modelyard.core.requirement import Direction, Requirement, Slice
from modelyard.core.rollout import ArmCounts, Counted, Hits, Policy, Strategy, Watched
from modelyard.errors import UsageError
from modelyard.rollout.claims import Claim, claims
from modelyard.rollout.watching import as_claimed, kept_columns, watch


def asked(*requirements: Requirement) -> tuple[Claim, ...]:
    return claims(requirements, Policy(strategy=Strategy.BLUE_GREEN))


def at_most(metric: str, *, bound: float | None = None, margin: float | None = None, **more: object) -> Requirement:
    name = metric + ("" if bound is not None else "~stable")
    facts = {"id": name, "needs_labels": False, **more}
    return Requirement(metric=metric, direction=Direction.AT_MOST, bound=bound, margin=margin, **facts)  # type: ignore[arg-type]


FEMALE = Slice(column="sex", value="Female")
PARITY = at_most("demographic_parity_difference", bound=0.1, group="sex")


def test_bounds_on_latency_cost_and_shares_are_counted_by_fronts() -> None:
    found = watch(
        asked(at_most("latency_p95_ms", bound=50.0, slice=FEMALE), at_most("cost_per_thousand", bound=0.2), PARITY),
        positive=">50K",
        price_per_cpu_hour=0.04,
    )
    assert found.items == (
        Watched(counts="latency_p95_ms", what=Counted.SLOWER, above_ms=50.0, slice=FEMALE),
        Watched(counts="cost_per_thousand", what=Counted.COST, price_per_cpu_hour=0.04),
        Watched(counts="demographic_parity_difference", what=Counted.POSITIVE, group="sex"),
    )
    assert found.positive == ">50K" and not found.keeps_answers


def test_each_watched_thing_stands_under_the_counts_of_a_claim() -> None:
    found = asked(at_most("latency_p95_ms", bound=50.0, margin=5.0), PARITY)
    names = {name for claim in found for name in claim.counts}
    assert {item.counts for item in watch(found, stable_ms={"latency_p95_ms~stable": 40.0}).items} <= {
        *names,
        "latency_p95_ms~stable of candidates",
    }


def test_a_margin_on_latency_has_a_threshold_for_each_release() -> None:
    found = asked(at_most("latency_p95_ms", margin=5.0))
    assert watch(found).items == ()
    items = watch(found, stable_ms={"latency_p95_ms~stable": 40.0}).items
    assert {item.counts: item.above_ms for item in items} == {
        "latency_p95_ms~stable": 40.0,
        "latency_p95_ms~stable of candidates": 45.0,
    }
    seen = ArmCounts(rates={items[0].counts: Hits(trials=9, hits=3), items[1].counts: Hits(trials=9, hits=1)})
    assert as_claimed(seen, is_stable=True).rates == {"latency_p95_ms~stable": Hits(trials=9, hits=3)}
    assert as_claimed(seen, is_stable=False).rates == {"latency_p95_ms~stable": Hits(trials=9, hits=1)}


def test_answers_are_kept_where_a_claim_needs_labels_and_with_the_columns_it_is_about() -> None:
    accuracy = Requirement(
        id="accuracy@sex=Female", metric="accuracy", direction=Direction.AT_LEAST, bound=0.8, slice=FEMALE
    )
    odds = at_most("equalized_odds_difference", bound=0.1, group="race", needs_labels=True)
    found = asked(accuracy, odds, PARITY)
    assert watch(found).keeps_answers
    assert kept_columns(found) == ("sex", "race")
    assert not watch(asked(PARITY)).keeps_answers and kept_columns(asked(PARITY)) == ()


def test_more_than_fronts_count_is_refused() -> None:
    many = [at_most("latency_p95_ms", bound=float(bound), id=f"latency {bound}") for bound in range(1, 66)]
    with pytest.raises(UsageError, match="65 counts"):
        watch(asked(*many))
