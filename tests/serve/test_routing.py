"""Which release a request meets: by rules, keys and shares; and how few keys change theirs when shares do."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare

from modelyard.core.release import HeaderRule, KeyRange, Traffic
from modelyard.errors import UsageError
from modelyard.serve.checking import check_traffic
from modelyard.serve.routing import choose, meet, mirrored, point, spread

NAMES = [f"income@{number}" for number in range(8, 12)]  # 10 is newer than 9, whatever their letters say
KEYS = [f"key-{number}" for number in range(20_000)]


@st.composite
def shares(draw: st.DrawFn, least: int = 1) -> dict[str, float]:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=least, max_size=4, unique=True))
    weights = draw(
        st.lists(st.integers(0, 1000), min_size=len(names), max_size=len(names)).filter(lambda some: sum(some) > 0)
    )
    return {name: weight / sum(weights) for name, weight in zip(names, weights, strict=True)}


def table(split: dict[str, float], before: Traffic | None = None, **more: object) -> Traffic:
    made = Traffic(epoch=1, shares=split, ranges=spread(before, split), **more)  # type: ignore[arg-type]
    check_traffic(made)
    return made


def moved(before: Traffic, after: Traffic) -> Fraction:
    """How many keys change their release, exactly."""
    edges = sorted({Fraction(edge) for one in (before, after) for part in one.ranges for edge in (part.low, part.high)})
    edges = sorted({Fraction(0), *edges, Fraction(1)})
    return sum(
        (high - low for low, high in pairwise(edges) if owner(before, low) != owner(after, low)),
        Fraction(0),
    )


def owner(traffic: Traffic, place: Fraction) -> str:
    for part in traffic.ranges:
        if place < Fraction(part.high):
            return part.release
    (lone,) = (release for release, share in traffic.shares.items() if share > 0)
    return lone


@given(st.lists(shares(), min_size=1, max_size=6))
def test_as_few_keys_as_possible_change_their_release(steps: list[dict[str, float]]) -> None:
    before = table(steps[0])
    for split in steps[1:]:
        after = table(split, before)
        least = sum(max(0.0, share - split.get(release, 0.0)) for release, share in before.shares.items())
        assert float(moved(before, after)) == pytest.approx(least, abs=1e-10)
        before = after


@given(shares(), st.text(max_size=20))
def test_a_table_whose_shares_stay_keeps_its_ranges(split: dict[str, float], key: str) -> None:
    first = table(split)
    assert spread(first, split) == first.ranges
    assert choose(first, key)[0] == choose(Traffic(epoch=1, shares=split), key)[0]


@given(shares(least=2), st.text(max_size=20))
def test_a_release_is_met_with_its_share_as_the_probability(split: dict[str, float], key: str) -> None:
    release, chance = choose(table(split), key)
    assert chance == split[release] > 0


def test_one_candidate_of_several_is_taken_back_and_only_its_keys_move() -> None:
    wide = table({"income@8": 0.7, "income@9": 0.2, "income@10": 0.1}, table({"income@8": 1.0}))
    back = table({"income@8": 0.9, "income@10": 0.1}, wide)
    for key in KEYS[:2000]:
        before, after = choose(wide, key)[0], choose(back, key)[0]
        assert after == ("income@8" if before == "income@9" else before)


def test_keys_meet_releases_by_their_shares_also_after_many_changes() -> None:
    split = {"income@8": 0.55, "income@9": 0.3, "income@10": 0.15}
    before = table({"income@8": 1.0})
    for step in ({"income@8": 0.9, "income@9": 0.1}, {"income@8": 0.5, "income@9": 0.3, "income@10": 0.2}, split):
        before = table(step, before)
    met = [choose(before, key)[0] for key in KEYS]
    counts = [met.count(name) for name in split]
    assert chisquare(counts, [len(KEYS) * share for share in split.values()]).pvalue > 1e-4
    pairs = [
        [sum(choose(before, str(n))[0] == one and n % 2 == odd for n in range(6000)) for one in split] for odd in (0, 1)
    ]
    assert chi2_contingency(pairs).pvalue > 1e-4  # what is in a key says nothing of its release


def test_the_first_rule_that_fits_decides_then_the_key_then_the_request() -> None:
    rules = (
        HeaderRule(header="x-team", value="blue", release="income@9"),
        HeaderRule(header="x-team", value="blue", release="income@8"),
        HeaderRule(header="x-beta", value="Zürich", release="income@10"),
    )
    split = {"income@8": 0.5, "income@9": 0.5, "income@10": 0.0}
    traffic = table(split, key_header="x-user", rules=rules)
    ruled = meet(traffic, {b"x-team": b"blue", b"x-user": b"ann"}, "r-1")
    assert (ruled.release, ruled.probability, ruled.rule, ruled.drawn) == ("income@9", 1.0, rules[0], False)
    assert meet(traffic, {b"x-beta": "Zürich".encode()}, "r-1").release == "income@10"
    for number in range(50):
        keyed = meet(traffic, {b"x-team": b"red", b"x-user": b"ann"}, f"r-{number}")
        assert (keyed.release, keyed.probability) == choose(traffic, "ann") and keyed.key == "ann" and keyed.drawn
        own = meet(traffic, {b"x-user": b""}, f"r-{number}")
        assert (own.release, own.probability) == choose(traffic, f"r-{number}") and own.key is None


def test_copies_are_drawn_apart_from_releases_and_from_each_other() -> None:
    split = {"income@8": 0.5, "income@9": 0.5, "income@10": 0.0, "income@11": 0.0}
    traffic = table(split, shadow={"income@10": 0.3, "income@11": 0.6})
    draws = [(choose(traffic, key)[0] == "income@8", *_copied(traffic, key)) for key in KEYS]
    for place, share in ((1, 0.3), (2, 0.6)):
        copied = sum(draw[place] for draw in draws)
        assert chisquare([copied, len(KEYS) - copied], [len(KEYS) * share, len(KEYS) * (1 - share)]).pvalue > 1e-4
    for one, two in ((0, 1), (0, 2), (1, 2)):
        pairs = [
            [sum(draw[one] is a and draw[two] is b for draw in draws) for a in (True, False)] for b in (True, False)
        ]
        assert chi2_contingency(pairs).pvalue > 1e-4
    everything = table({"income@8": 1.0, "income@9": 0.0}, shadow={"income@9": 1.0})
    assert all(mirrored(everything, key) == ("income@9",) for key in KEYS[:100])


def _copied(traffic: Traffic, key: str) -> tuple[bool, bool]:
    copies = mirrored(traffic, key)
    return "income@10" in copies, "income@11" in copies


@given(st.text())
def test_points_lie_in_the_half_open_unit_interval(text: str) -> None:
    assert 0 <= point(text) < 1


HALVES = {"income@8": 0.5, "income@9": 0.5}


@pytest.mark.parametrize(
    ("traffic", "why"),
    [
        (Traffic(epoch=1, shares={}), "sum to 0, wanted 1"),
        (Traffic(epoch=1, shares={"income@8": 0.5, "income@9": 0.6}), "sum to 1.1, wanted 1"),
        (Traffic(epoch=1, shares={"income@8": 1.5, "income@9": -0.5}), r"share 1.5, wanted .* share -0.5, wanted"),
        (Traffic(epoch=1, shares={"income@8": float("nan")}), "share nan"),
        (Traffic(epoch=1, shares={"income@8": 0.5, "churn@9": 0.5}), "of churn, income"),
        (Traffic(epoch=1, shares={"income": 1.0}), "names no number"),
        (Traffic(epoch=1, shares={"Income@x": 1.0}), "cannot be a name"),
        (Traffic(epoch=1, shares=HALVES, shadow={"income@9": 0.1}), "has the share 0.5, wanted 0"),
        (Traffic(epoch=1, shares=HALVES, shadow={"income@11": 0.1}), "wanted one in the shares"),
        (Traffic(epoch=1, shares=HALVES, key_header="X-User"), "header in lower case"),
        (
            Traffic(epoch=1, shares=HALVES, rules=(HeaderRule(header="a", value="b", release="income@11"),)),
            "a rule on `a` names `income@11`",
        ),
    ],
)
def test_a_table_that_makes_no_sense_is_refused_in_words(traffic: Traffic, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        check_traffic(traffic)


@pytest.mark.parametrize(
    ("cuts", "why"),
    [
        ([(0.0, 0.4, "income@8"), (0.5, 1.0, "income@9")], "keys from 0.4 to 0.5 belong to none"),
        ([(0.0, 0.6, "income@8"), (0.5, 1.0, "income@9")], "keys from 0.5 to 0.6 belong to two ranges"),
        ([(0.1, 0.5, "income@8"), (0.5, 1.0, "income@9")], "keys from 0 to 0.1 belong to none"),
        ([(0.0, 0.5, "income@8"), (0.5, 0.9, "income@9")], "keys from 0.9 to 1 belong to none"),
        ([(0.0, 0.4, "income@8"), (0.4, 1.0, "income@9")], "are 0.4 of all, wanted its share 0.5"),
        ([(0.0, 0.5, "income@7"), (0.5, 1.0, "income@9")], "meet `income@7`, wanted one in the shares"),
        ([(0.0, 0.5, "income@8"), (0.5, 0.5, "income@8"), (0.5, 1.0, "income@9")], "wanted a rising range"),
    ],
)
def test_ranges_that_do_not_hold_every_key_once_are_refused(cuts: list[tuple[float, float, str]], why: str) -> None:
    ranges = tuple(KeyRange(low=low, high=high, release=release) for low, high, release in cuts)
    with pytest.raises(UsageError, match=why):
        check_traffic(Traffic(epoch=1, shares=HALVES, ranges=ranges))
