"""Who is let into a queue and in which order it empties, against three plain lists."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from modelyard.serve.guard.priority import (
    HIGH,
    LOW,
    NORMAL,
    SHARES,
    SWEEP_FROM,
    TURNS,
    PriorityQueues,
    Shed,
    read,
    room,
)
from modelyard.serve.messages import Limits

LIMITS = Limits(queue_rows=100, queue_bytes=1000, batch_rows=8)


class Work:
    """A work as a queue sees it."""

    def __init__(
        self, name: int = 0, *, priority: int = NORMAL, rows: int = 1, size_bytes: int = 0, deadline: float = 100.0
    ) -> None:
        self.name, self.priority, self.rows, self.size_bytes = name, priority, rows, size_bytes
        self.deadline = deadline
        self.queued = self.dead = False

    def __repr__(self) -> str:
        return f"{self.name}"


def queue(limits: Limits = LIMITS) -> PriorityQueues[Work]:
    return PriorityQueues(limits)


def names(works: list[Work]) -> list[int]:
    return [work.name for work in works]


# the header


@pytest.mark.parametrize(
    ("given_header", "number"),
    [(None, NORMAL), (b"high", HIGH), (b"normal", NORMAL), (b"low", LOW), (b" Low\t", LOW), (b"HIGH", HIGH)],
)
def test_the_header_names_a_class(given_header: bytes | None, number: int) -> None:
    assert read(given_header) == number


@pytest.mark.parametrize("given_header", [b"", b"urgent", b"0", b"high,low", b"\xff"])
def test_another_word_in_the_header_is_told(given_header: bytes) -> None:
    with pytest.raises(ValueError, match="must be one of high, normal and low"):
        read(given_header)


# room


@pytest.mark.parametrize(
    ("priority", "rows", "size_bytes", "why"),
    [
        (LOW, 49, 499, None),
        (LOW, 50, 0, Shed.LOW),
        (LOW, 0, 500, Shed.LOW),
        (NORMAL, 89, 899, None),
        (NORMAL, 90, 0, Shed.NORMAL),
        (NORMAL, 0, 900, Shed.NORMAL),
        (HIGH, 99, 999, None),
        (HIGH, 100, 0, Shed.FULL),
        (LOW, 100, 0, Shed.FULL),
    ],
)
def test_low_work_is_turned_away_first_and_high_last(
    priority: int, rows: int, size_bytes: int, why: Shed | None
) -> None:
    assert room(priority, rows, size_bytes, LIMITS) is why


def test_nobody_is_let_in_beyond_the_bound_and_an_empty_queue_takes_what_fits() -> None:
    assert room(LOW, 0, 0, LIMITS, rows=100, size_bytes=1000) is None
    assert room(HIGH, 0, 0, LIMITS, rows=101) is Shed.FULL
    assert room(HIGH, 0, 0, LIMITS, size_bytes=1001) is Shed.FULL
    assert room(HIGH, 98, 0, LIMITS, rows=3) is Shed.FULL


@given(
    priority=st.sampled_from([HIGH, NORMAL, LOW]), rows=st.integers(0, 110), size_bytes=st.integers(0, 1100),
    of=st.integers(1, 8),
)  # fmt: skip
def test_a_more_urgent_request_finds_room_wherever_a_less_urgent_one_does(
    priority: int, rows: int, size_bytes: int, of: int
) -> None:
    if room(priority, rows, size_bytes, LIMITS, of) is None:
        assert all(room(other, rows, size_bytes, LIMITS, of) is None for other in range(priority))


@given(
    priority=st.sampled_from([HIGH, NORMAL, LOW]), waiting=st.integers(0, 100), size=st.integers(0, 1000),
    rows=st.integers(1, 8), size_bytes=st.integers(0, 300),
)  # fmt: skip
def test_the_queue_lets_in_whom_the_pure_function_lets_in(
    priority: int, waiting: int, size: int, rows: int, size_bytes: int
) -> None:
    found = queue()
    found.rows, found.size_bytes = waiting, size
    work = Work(priority=priority, rows=rows, size_bytes=size_bytes)
    expected = room(priority, waiting, size, LIMITS, rows, size_bytes)
    assert found.put([work]) is expected
    assert work.queued is (expected is None)
    assert (found.rows - waiting, found.size_bytes - size) == ((rows, size_bytes) if work.queued else (0, 0))


# the queue


def test_what_waits_leaves_together_and_in_order() -> None:
    found = queue()
    for name in range(12):
        assert found.put([Work(name)]) is None
    assert names(found.take(0.0)) == list(range(8))
    assert names(found.take(0.0)) == [8, 9, 10, 11]
    assert found.take(0.0) == []


def test_the_works_of_a_request_are_taken_all_or_none() -> None:
    found = queue()
    pieces = [Work(name, rows=8) for name in range(13)]
    assert found.put(pieces) is Shed.FULL
    assert (len(found), found.rows, any(piece.queued for piece in pieces)) == (0, 0, False)
    assert found.put(pieces[:12]) is None
    assert (len(found), found.rows) == (12, 96)


def test_a_work_above_the_cap_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="above the cap of 8"):
        queue().put([Work(rows=9)])


def test_a_work_that_does_not_fit_keeps_its_place() -> None:
    found = queue()
    for name, rows in enumerate([5, 4, 1]):
        found.put([Work(name, rows=rows)])
    assert names(found.take(0.0)) == [0]
    assert names(found.take(0.0)) == [1, 2]


def test_works_that_are_dead_or_late_do_not_run() -> None:
    found = queue()
    works = [Work(name, deadline=1.0 if name == 1 else 100.0, size_bytes=10) for name in range(4)]
    for work in works:
        found.put([work])
    found.forget(works[2])
    assert (found.rows, found.size_bytes) == (3, 30)
    assert names(found.take(1.0)) == [0, 3]
    assert (found.rows, found.size_bytes, len(found)) == (0, 0, 0)
    assert not works[1].queued
    assert works[2].dead


def test_to_forget_a_work_twice_or_after_it_left_is_harmless() -> None:
    found = queue()
    first, second = Work(0), Work(1)
    found.put([first])
    found.put([second])
    found.forget(first)
    found.forget(first)
    (left,) = found.take(0.0)
    found.forget(left)
    assert (found.rows, len(found)) == (0, 0)


def test_works_forgotten_behind_one_that_waits_do_not_pile_up() -> None:
    found = queue(Limits(batch_rows=1))
    found.put([Work(-1)])
    for name in range(10 * SWEEP_FROM):
        work = Work(name, priority=name % 3)
        found.put([work])
        found.forget(work)
    assert len(found) <= SWEEP_FROM + 2
    assert found.rows == 1


def test_to_clear_gives_back_what_is_alive() -> None:
    found = queue()
    works = [Work(name, priority=name % 3) for name in range(6)]
    for work in works:
        found.put([work])
    found.forget(works[0])
    assert sorted(names(found.clear())) == [1, 2, 3, 4, 5]
    assert (found.rows, len(found), any(work.queued for work in works)) == (0, 0, False)


def fill(found: PriorityQueues[Work], priority: int, count: int) -> None:
    for name in range(count):
        assert found.put([Work(name, priority=priority)]) is None


def test_classes_leave_by_weight_where_all_wait() -> None:
    found = queue(Limits(batch_rows=1))
    for priority in (HIGH, NORMAL, LOW):
        fill(found, priority, 24)
    left = [found.take(0.0)[0].priority for _ in range(2 * len(TURNS))]
    assert [left.count(priority) for priority in (HIGH, NORMAL, LOW)] == [14, 8, 2]


def test_room_that_a_class_leaves_in_a_batch_goes_to_the_others_the_urgent_first() -> None:
    found = queue()
    for priority, count in ((LOW, 6), (NORMAL, 3), (HIGH, 2)):
        fill(found, priority, count)
    assert [work.priority for work in found.take(0.0)] == [HIGH, HIGH, NORMAL, NORMAL, NORMAL, LOW, LOW, LOW]


def test_low_work_leaves_within_one_round_however_much_high_work_comes() -> None:
    found = queue()
    fill(found, HIGH, 16)
    low = Work(99, priority=LOW, rows=8)
    found.put([low])
    batches = 0
    while low.queued:
        fill(found, HIGH, 8)
        found.take(0.0)
        batches += 1
    assert batches <= len(TURNS)


def test_shares_and_turns_favour_the_urgent() -> None:
    assert SHARES[HIGH] == 1.0 > SHARES[NORMAL] > SHARES[LOW]
    assert TURNS.count(HIGH) > TURNS.count(NORMAL) > TURNS.count(LOW) >= 1


class AgainstLists(RuleBasedStateMachine):
    """Three lists of works that are alive, in the order they came."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = Limits(queue_rows=40, queue_bytes=400, batch_rows=6)
        self.ours: PriorityQueues[Work] = PriorityQueues(self.limits)
        self.waiting: list[list[Work]] = [[], [], []]
        self.waited: dict[int, int] = {}  # batches that left while a work stood at the head of its class
        self.now = 0.0
        self.count = 0

    @property
    def alive(self) -> list[Work]:
        return [work for works in self.waiting for work in works]

    @rule(
        priority=st.sampled_from([HIGH, NORMAL, NORMAL, LOW]),
        sizes=st.lists(st.tuples(st.integers(1, 6), st.integers(0, 60)), min_size=1, max_size=3),
        left_s=st.sampled_from([1, 3, 1000]),
    )
    def put(self, priority: int, sizes: list[tuple[int, int]], left_s: float) -> None:
        works = []
        for rows, size_bytes in sizes:
            self.count += 1
            works.append(
                Work(self.count, priority=priority, rows=rows, size_bytes=size_bytes, deadline=self.now + left_s)
            )
        rows, size_bytes = sum(work.rows for work in self.alive), sum(work.size_bytes for work in self.alive)
        more, more_bytes = sum(work.rows for work in works), sum(work.size_bytes for work in works)
        expected = room(priority, rows, size_bytes, self.limits, more, more_bytes)
        assert self.ours.put(works) is expected
        if expected is None:
            self.waiting[priority] += works

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        work = data.draw(st.sampled_from(self.alive))
        self.ours.forget(work)
        self.waiting[work.priority].remove(work)

    @rule()
    def wait(self) -> None:
        self.now += 1

    @rule()
    def take(self) -> None:
        due = [[work for work in works if work.deadline > self.now] for works in self.waiting]
        heads = [works[0] for works in due if works]
        batch = self.ours.take(self.now)
        assert sum(work.rows for work in batch) <= self.limits.batch_rows
        assert bool(batch) is bool(heads)
        for priority, works in enumerate(due):
            left = [work for work in batch if work.priority == priority]
            assert left == works[: len(left)]  # in order, none passed over
            stay = works[len(left) :]
            room_left = self.limits.batch_rows - sum(work.rows for work in batch)
            assert not stay or stay[0].rows > room_left  # nothing stays that would have fitted
            late = [work for work in self.waiting[priority] if work.deadline <= self.now and work.queued]
            self.waiting[priority] = [work for work in self.waiting[priority] if work in stay or work in late]
        for head in heads:
            self.waited[head.name] = self.waited.get(head.name, 0) + 1
            assert self.waited[head.name] <= len(TURNS)

    @rule()
    def clear(self) -> None:
        assert sorted(names(self.ours.clear())) == sorted(names(self.alive))
        self.waiting = [[], [], []]

    @invariant()
    def rows_and_bytes_are_those_of_what_is_alive(self) -> None:
        assert self.ours.rows == sum(work.rows for work in self.alive)
        assert self.ours.size_bytes == sum(work.size_bytes for work in self.alive)
        assert all(work.queued and not work.dead for work in self.alive)
        assert len(self.ours) >= len(self.alive)


TestAgainstLists = AgainstLists.TestCase
TestAgainstLists.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)


# buckets


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 8), st.sampled_from([HIGH, NORMAL, LOW])), max_size=40),
    st.sets(st.integers(0, 39)),
)
def test_a_batch_holds_one_bucket_and_order_is_kept_within_each(
    given_works: list[tuple[str, int, int]], gone: set[int]
) -> None:
    kinds = {name: kind for name, (kind, _, _) in enumerate(given_works)}
    waiting = PriorityQueues[Work](Limits(queue_rows=10_000, batch_rows=8), lambda work: kinds[work.name])
    works = [Work(name, priority=priority, rows=rows) for name, (_, rows, priority) in enumerate(given_works)]
    for work in works:
        assert waiting.put([work]) is None
    for work in works:
        if work.name in gone:
            waiting.forget(work)
    left: list[Work] = []
    while batch := waiting.take(0.0):
        assert len({kinds[work.name] for work in batch}) == 1
        assert sum(work.rows for work in batch) <= 8
        left.extend(batch)
    assert sorted(names(left)) == [work.name for work in works if work.name not in gone]
    assert (waiting.rows, waiting.size_bytes, len(waiting)) == (0, 0, 0)
    for kind in "abc":
        for priority in (HIGH, NORMAL, LOW):
            some = [work.name for work in left if kinds[work.name] == kind and work.priority == priority]
            assert some == sorted(some)


# several workers


@given(
    st.lists(st.integers(1, 8), min_size=1, max_size=30),
    st.integers(1, 5),
)
def test_workers_that_are_idle_share_what_waits_and_leave_nothing_that_fits(sizes: list[int], sharers: int) -> None:
    waiting = queue()
    for name, rows in enumerate(sizes):
        if waiting.put_one(Work(name, rows=rows)) is not None:
            break
    before, taken = waiting.rows, []
    for idle in range(sharers, 0, -1):
        share = -(-waiting.rows // idle)
        batch = waiting.take(0.0, idle)
        rows = sum(work.rows for work in batch)
        assert rows <= LIMITS.batch_rows
        assert rows <= share or batch[0].rows > share
        assert batch or not waiting.rows
        taken += names(batch)
    assert taken == list(range(len(taken)))  # in order
    assert waiting.rows == 0 or before > LIMITS.batch_rows or max(sizes) > 1


def test_two_idle_workers_take_half_each() -> None:
    waiting = queue()
    for name in range(6):
        waiting.put_one(Work(name))
    assert names(waiting.take(0.0, 2)) == [0, 1, 2]
    assert names(waiting.take(0.0, 1)) == [3, 4, 5]
