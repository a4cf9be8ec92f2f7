"""The table of bodies that ended a worker, against a plain record of every blame."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from modelyard.serve.guard.poison import Poison, digest_of


def test_a_body_is_named_by_its_blake2b_digest() -> None:
    assert digest_of(b'{"rows": []}') == hashlib.blake2b(b'{"rows": []}', digest_size=16).digest()
    assert digest_of(b"a") != digest_of(b"b")


def test_nothing_is_looked_up_until_somebody_is_blamed() -> None:
    poison = Poison()
    assert not poison.suspects
    poison.blame(b"a", 0.0)
    assert poison.suspects


def test_one_blame_may_be_bad_luck_and_two_are_refused_for_a_while() -> None:
    poison = Poison(block_s=60.0)
    poison.blame(b"a", 0.0)
    assert poison.blocked(b"a", 1.0) is None
    poison.blame(b"a", 10.0)
    assert poison.blocked(b"a", 20.0) == 50.0
    assert poison.blocked(b"b", 20.0) is None
    assert poison.count(20.0) == 1
    assert poison.blocked(b"a", 70.0) is None
    assert poison.count(70.0) == 0


def test_after_its_time_a_body_has_one_more_try() -> None:
    poison = Poison(block_s=60.0)
    poison.blame(b"a", 0.0)
    poison.blame(b"a", 0.0)
    assert poison.blocked(b"a", 61.0) is None
    poison.blame(b"a", 62.0)
    assert poison.blocked(b"a", 62.0) == 60.0


def test_whoever_is_answered_well_is_cleared() -> None:
    poison = Poison()
    for digest in (b"a", b"b"):
        poison.blame(digest, 0.0)
    poison.clear(b"a")
    poison.clear(b"unknown")
    poison.blame(b"a", 1.0)
    poison.blame(b"b", 1.0)
    assert (poison.blocked(b"a", 1.0), poison.blocked(b"b", 1.0)) == (None, 60.0)


def test_whoever_is_not_blamed_for_long_is_forgotten_and_the_table_is_empty_again() -> None:
    poison = Poison(block_s=60.0, forget_s=100.0)
    poison.blame(b"a", 0.0)
    assert poison.blocked(b"x", 99.0) is None
    assert poison.suspects
    assert poison.blocked(b"x", 100.0) is None
    assert not poison.suspects
    poison.blame(b"a", 101.0)
    assert poison.blocked(b"a", 101.0) is None


def test_a_full_table_loses_whoever_was_blamed_least_recently() -> None:
    poison = Poison(most=2)
    for number, digest in enumerate([b"a", b"b", b"a", b"c"]):
        poison.blame(digest, number)
    assert set(poison.suspects) == {b"a", b"c"}
    assert poison.blocked(b"a", 4.0) == 58.0


@pytest.mark.parametrize("wrong", [{"most": 0}, {"block_s": 0.0}, {"block_s": 60.0, "forget_s": 59.0}])
def test_a_table_that_could_not_work_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="table of suspects"):
        Poison(**wrong)  # type: ignore[arg-type]


DIGESTS = st.sampled_from([b"a", b"b", b"c", b"d", b"e"])
MOST, BLOCK_S, FORGET_S = 3, 60, 100


class AgainstRecord(RuleBasedStateMachine):
    """Every blame that still counts is kept, body by body; what counts is worked out anew each time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.ours = Poison(most=MOST, block_s=BLOCK_S, forget_s=FORGET_S)
        self.blames: list[tuple[int, bytes]] = []

    def known(self) -> dict[bytes, list[int]]:
        found: dict[bytes, list[int]] = {}
        for when, digest in self.blames:
            found.setdefault(digest, []).append(when)
        return {digest: times for digest, times in found.items() if self.now - times[-1] < FORGET_S}

    def drop(self, digest: bytes) -> None:
        self.blames = [one for one in self.blames if one[1] != digest]

    @rule(seconds=st.sampled_from([1, 20, 59, 60, 99, 100, 300]))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        for digest in {digest for _, digest in self.blames} - self.known().keys():
            self.drop(digest)

    @rule(digest=DIGESTS)
    def blame(self, digest: bytes) -> None:
        self.ours.blame(digest, self.now)
        self.blames.append((self.now, digest))
        known = self.known()
        if len(known) > MOST:
            places = {one: max(i for i, blame in enumerate(self.blames) if blame[1] == one) for one in known}
            self.drop(min(places, key=lambda one: places[one]))

    @rule(digest=DIGESTS)
    def clear(self, digest: bytes) -> None:
        self.ours.clear(digest)
        self.drop(digest)

    @rule(digest=DIGESTS)
    def ask(self, digest: bytes) -> None:
        times = self.known().get(digest, [])
        left_s = times[-1] + BLOCK_S - self.now if len(times) >= 2 else 0
        assert self.ours.blocked(digest, self.now) == (left_s if left_s > 0 else None)
        assert self.ours.suspects.keys() == self.known().keys()

    @invariant()
    def it_is_bounded_and_counts_right(self) -> None:
        assert len(self.ours.suspects) <= MOST
        refused = [one for one in self.known().values() if len(one) >= 2 and one[-1] + BLOCK_S > self.now]
        assert self.ours.count(self.now) == len(refused)


TestAgainstRecord = AgainstRecord.TestCase
TestAgainstRecord.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
