"""Rows are dealt as asked, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.arrays import Ints
from modelyard.core.contract import Part
from modelyard.core.data_plan import Split, SplitMethod
from modelyard.data.split import PARTS, deal
from modelyard.errors import CannotSplit

TRAIN, CALIBRATE, VALID, TEST = range(4)


def counts(parts: Ints) -> list[int]:
    return [int(count) for count in np.bincount(parts, minlength=4)]


def test_parts_stand_in_the_order_of_time() -> None:
    assert PARTS == (Part.TRAIN, Part.CALIBRATE, Part.VALID, Part.TEST)


def test_random_parts_have_the_sizes_asked_for() -> None:
    plan = Split(method=SplitMethod.RANDOM, test=0.25, calibrate=0.05, valid=0.1)
    assert counts(deal(plan, 1000, own_test=False)) == [600, 50, 100, 250]
    assert counts(deal(plan, 1000, own_test=True)) == [850, 50, 100, 0]


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 60), min_size=1, max_size=12), seed=st.integers(0, 5))
def test_each_class_is_dealt_in_the_same_shares_to_within_a_row(sizes: list[int], seed: int) -> None:
    classes = np.repeat(np.array([f"c{place}" for place in range(len(sizes))]), sizes)
    classes = np.concatenate([classes, np.repeat("many", 100)])
    parts = deal(Split(seed=seed), len(classes), own_test=False, key=classes)
    for label in np.unique(classes):
        got = np.array(counts(parts[classes == label]))
        exact = np.array([0.6, 0.1, 0.1, 0.2]) * (classes == label).sum()
        assert got[TRAIN] >= 1
        assert (np.abs(got - exact) <= 1.0 + 1e-9).all()


def test_a_class_of_one_row_stays_in_training() -> None:
    classes = np.array(["common"] * 99 + ["rare"])
    assert deal(Split(), 100, own_test=False, key=classes)[99] == TRAIN


@settings(max_examples=60, deadline=None)
@given(groups=st.lists(st.integers(0, 40), min_size=200, max_size=400), seed=st.integers(0, 5))
def test_no_group_stands_in_two_parts(groups: list[int], seed: int) -> None:
    key = np.array(groups)
    try:
        parts = deal(Split(method=SplitMethod.GROUP, seed=seed), len(key), own_test=False, key=key)
    except CannotSplit:
        assert len(set(groups)) < 8
        return
    for group in np.unique(key):
        assert len(np.unique(parts[key == group])) == 1


def test_group_parts_come_near_the_shares_asked_for() -> None:
    key = np.random.default_rng(0).integers(0, 500, 10_000)
    parts = deal(Split(method=SplitMethod.GROUP), len(key), own_test=False, key=key)
    assert np.array(counts(parts)) == pytest.approx([6000, 1000, 1000, 2000], abs=150)


def test_time_parts_follow_each_other_and_a_moment_is_never_cut() -> None:
    key = np.random.default_rng(0).integers(0, 300, 5_000)
    parts = deal(Split(method=SplitMethod.TIME), len(key), own_test=False, key=key)
    for earlier, later in ((TRAIN, CALIBRATE), (CALIBRATE, VALID), (VALID, TEST)):
        assert key[parts == earlier].max() < key[parts == later].min()
    assert np.array(counts(parts)) == pytest.approx([3000, 500, 500, 1000], abs=60)


def test_the_same_seed_deals_the_same_and_another_does_not() -> None:
    plan = Split(method=SplitMethod.RANDOM)
    assert (deal(plan, 500, own_test=False) == deal(plan, 500, own_test=False)).all()
    assert (
        deal(plan, 500, own_test=False) != deal(Split(method=SplitMethod.RANDOM, seed=1), 500, own_test=False)
    ).any()


def test_a_part_without_rows_is_an_error_in_words() -> None:
    with pytest.raises(CannotSplit, match=r"leaves no row for calibrate, valid: 4 rows"):
        deal(Split(method=SplitMethod.RANDOM), 4, own_test=False)
    with pytest.raises(CannotSplit, match="leave nothing for training"):
        deal(Split(test=0.5, calibrate=0.3, valid=0.2), 100, own_test=False)
    with pytest.raises(CannotSplit, match="1 distinct values to go by"):
        deal(Split(method=SplitMethod.TIME), 100, own_test=False, key=np.zeros(100))


def test_a_share_of_nothing_is_a_part_of_nothing() -> None:
    plan = Split(method=SplitMethod.RANDOM, calibrate=0.0)
    assert counts(deal(plan, 100, own_test=False)) == [70, 0, 10, 20]
