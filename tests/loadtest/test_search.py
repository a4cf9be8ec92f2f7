"""The search for a rate, against services whose highest rate is known."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modelyard.loadtest.search import CONFIRMATIONS, LEAST_RATE, MOST_STEPS, PRECISION, Search


def found(search: Search, highest: float) -> list[tuple[str, float]]:
    tried = []
    while (following := search.next()) is not None:
        tried.append((following.phase, following.rate))
        search.tell(following, following.rate <= highest)
    return tried


@given(st.floats(1, 150_000), st.floats(0.01, 200_000))
def test_finds_the_highest_rate_within_its_precision_and_few_steps(highest: float, first: float) -> None:
    search = Search(first, most_rate=200_000)
    tried = found(search, highest)
    assert search.low is not None and search.high is not None and search.is_confirmed
    assert search.low <= highest < search.high <= (1 + PRECISION) * search.low * 1.001
    assert len(tried) <= MOST_STEPS
    assert [phase for phase, _ in tried[-CONFIRMATIONS:]] == ["confirm"] * CONFIRMATIONS


@given(st.lists(st.booleans(), min_size=MOST_STEPS, max_size=MOST_STEPS), st.floats(1, 10_000))
def test_ends_whatever_is_seen_and_keeps_its_two_ends_apart(seen: list[bool], first: float) -> None:
    search = Search(first, most_rate=100_000)
    outcomes = iter(seen)
    while (following := search.next()) is not None:
        assert LEAST_RATE <= following.rate <= 100_000
        search.tell(following, next(outcomes))
        assert search.low is None or search.high is None or search.low < search.high
    assert search.steps <= MOST_STEPS


def test_says_at_least_where_the_most_is_met() -> None:
    search = Search(100, most_rate=1000)
    found(search, 1e9)
    assert (search.low, search.high, search.is_confirmed) == (1000, None, True)


def test_finds_nothing_where_nothing_is_met() -> None:
    search = Search(64, most_rate=1000)
    tried = found(search, 0)
    assert search.low is None and tried[-1] == ("halve", LEAST_RATE)


def test_backs_off_from_a_rate_that_is_not_confirmed() -> None:
    search = Search(100, most_rate=200)
    for met in (True, True, False):
        following = search.next()
        assert following is not None
        search.tell(following, met)
    following = search.next()
    assert following is not None and (following.phase, following.rate) == ("halve", 180)
