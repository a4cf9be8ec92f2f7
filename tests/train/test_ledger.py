"""The ledger: seconds of trials, and of attempts that were cut off, counted once and kept across kills."""

from __future__ import annotations

from pathlib import Path

from modelyard.train.ledger import UNSEEN_S, Ledger
from tests.train.making import SteppingClock


def clock() -> SteppingClock:
    return SteppingClock(step_s=0.0)


def test_an_attempt_cut_off_is_lost_time_at_the_next_start(tmp_path: Path) -> None:
    time = clock()
    first = Ledger(tmp_path / "spent.json", time)
    first.begin(3)
    time.now_s = 7.0
    first.tick()
    time.now_s = (
        8.0  # killed here: what passed since the last tick is not known, so the most it is meant to be is charged
    )
    second = Ledger(tmp_path / "spent.json", time)
    assert second.lost_before(3) == 7.0 + UNSEEN_S and second.lost_before(9) == 7.0 + UNSEEN_S
    assert Ledger(tmp_path / "spent.json", time).lost_before(3) == 7.0 + UNSEEN_S


def test_what_is_lost_later_changes_no_earlier_decision(tmp_path: Path) -> None:
    time = clock()
    ledger = Ledger(tmp_path / "spent.json", time)
    ledger.begin(3)
    time.now_s = 7.0
    ledger.tick()
    assert Ledger(tmp_path / "spent.json", time).lost_before(2) == 0.0


def test_losses_of_many_kills_add_up(tmp_path: Path) -> None:
    time = clock()
    for number in range(5):
        ledger = Ledger(tmp_path / "spent.json", time)
        ledger.begin(number)
        time.now_s += 2.0
        ledger.tick()
    one = 2.0 + UNSEEN_S
    lost = [Ledger(tmp_path / "spent.json", time).lost_before(number) for number in (0, 2, 4)]
    assert lost == [one, 3 * one, 5 * one]


def test_an_attempt_that_ended_is_not_lost(tmp_path: Path) -> None:
    time = clock()
    ledger = Ledger(tmp_path / "spent.json", time)
    ledger.begin(0)
    time.now_s = 2.0
    ledger.tick()
    assert ledger.close() == 2.0
    ledger.end()
    assert Ledger(tmp_path / "spent.json", time).lost_before(99) == 0.0


def test_an_attempt_that_closed_and_was_never_kept_is_lost(tmp_path: Path) -> None:
    time = clock()
    ledger = Ledger(tmp_path / "spent.json", time)
    time.now_s = 2.0
    ledger.tick()
    ledger.close()
    assert Ledger(tmp_path / "spent.json", time).lost_before(0) == 2.0 + UNSEEN_S


def test_no_second_falls_between_two_attempts(tmp_path: Path) -> None:
    time = clock()
    ledger = Ledger(tmp_path / "spent.json", time)
    spent = []
    for number in range(4):
        time.now_s += 1.0  # proposing
        ledger.begin(number)
        time.now_s += 1.0  # fitting
        spent.append(ledger.close())
        time.now_s += 0.5  # keeping
        ledger.end()
    assert spent == [2.0, 2.5, 2.5, 2.5]
