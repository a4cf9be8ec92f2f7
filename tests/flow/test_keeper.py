"""Whoever keeps a rollout may be killed at any point, and any change may fail: it ends in one state all the same."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from modelyard.core.codec import encode_pretty, write_atomic
from modelyard.core.evidence import RolloutEvidence
from modelyard.core.release import Traffic
from modelyard.core.requirement import Direction, Estimator, Inference, Requirement, Slice, Stage
from modelyard.core.rollout import ArmCounts, How, Policy, Step, Strategy, Window
from modelyard.errors import CourseUnreadable, DataError, ServiceError, StoreConflict, StoreError, UsageError
from modelyard.flow.rollout.beginning import Asked, start, told
from modelyard.flow.rollout.courses import Courses
from modelyard.flow.rollout.keeper import MOST_FAILURES, Keeper
from modelyard.rollout.course import Course, Order, Seen, ask
from modelyard.serve.keep import control
from modelyard.serve.keep.change import Changed
from modelyard.serve.messages import FrontReport, Routes, RunInfo, Status

STABLE, NEW = "income@1", "income@2"
ERRORS = Requirement(
    id="error_rate",
    metric="error_rate",
    direction=Direction.AT_MOST,
    bound=0.05,
    needs_labels=False,
    stages={Stage.ROLLOUT: Estimator(measure="", population="requests", inference=Inference.ALWAYS_VALID)},
)
CANARY = Policy(
    strategy=Strategy.CANARY, steps=(Step(share=0.1, least_s=1.0), Step(share=0.5)), most_s=20.0, keep_warm_s=3.0
)
MIRRORED = replace(CANARY, strategy=Strategy.SHADOW_CANARY, steps=(Step(share=0.0), *CANARY.steps))
FAULTS = ("killed before", "killed after", "conflict", "store", "refused", "put back")


class KilledError(BaseException):
    """The process ends here."""


class World:
    """A service's row, its fronts that follow at once, its clock and its callers."""

    def __init__(self, folder: Path, error_rate: float, faults: list[str]) -> None:
        self.folder, self.error_rate, self.faults = folder, error_rate, faults
        self.table = Traffic(epoch=7, shares={STABLE: 1.0}, previous="income@0")
        self.past: list[Traffic] = [self.table]
        self.time = 1_000_000.0
        self.requests = {STABLE: 0.0, NEW: 0.0}
        self.told: list[str] = []
        self.records: list[RolloutEvidence] = []
        self.lost_counts = False
        self.nan = 0

    # Clock

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time, UTC)

    def monotonic(self) -> float:
        return self.time

    def pass_time(self, seconds: float, rate: float = 400.0) -> None:
        self.time += seconds
        for name, share in self.table.shares.items():
            self.requests[name] += rate * seconds * (share or self.table.shadow.get(name, 0.0))

    # Traffics

    def current(self, name: str) -> Traffic:
        return self.table

    def set_traffic(self, name: str, shares: Mapping[str, float], **table: Any) -> Changed:
        if table["expect_epoch"] != self.table.epoch:
            raise StoreConflict("someone was quicker")
        made = Traffic(
            epoch=self.table.epoch + 1,
            shares=dict(shares),
            previous=table["previous"],
            shadow=dict(table["shadow"]),
            watch=table["watch"],
        )
        return self._change(lambda: made)

    def rollback(self, name: str) -> Changed:
        previous = self.table.previous
        if previous is None:
            raise UsageError("nothing before")
        return self._change(lambda: Traffic(epoch=self.table.epoch + 1, shares={previous: 1.0}))

    def _change(self, make: Callable[[], Traffic]) -> Changed:
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "killed before":
            raise KilledError
        if fault == "conflict":
            raise StoreConflict("someone was quicker, and gave up")
        if fault == "store":
            raise StoreError("no store")
        if fault == "refused":
            raise ServiceError("the release did not get ready")
        before = self.table
        self.put(make())
        if fault == "killed after":
            raise KilledError
        if fault == "put back":
            self.put(replace(before, epoch=self.table.epoch + 1))
            raise ServiceError("the fronts did not follow")
        return Changed(service="income", release=STABLE, previous=None, epoch=self.table.epoch, seconds=0.0,
                       store="written", fronts="follow")  # fmt: skip

    def put(self, table: Traffic) -> None:
        assert table.epoch == self.table.epoch + 1
        self.table = table
        self.past.append(table)

    # Observer

    def so_far(self, course: Course, now: float) -> dict[str, Window]:
        return {name: self._window(name, now) for name in (STABLE, NEW)}

    def seen(self, course: Course, now: float) -> dict[str, Seen]:
        return {name: Seen(window=one) for name, one in self.so_far(course, now).items()}

    def windows(self, course: Course, now: float) -> dict[str, Window]:
        if self.lost_counts:
            self.lost_counts = False
            raise DataError("the counts fell")
        return {name: self._less(one, course.since[name].window) for name, one in self.so_far(course, now).items()}

    def _window(self, name: str, now: float) -> Window:
        requests = int(self.requests[name])
        rate = self.error_rate if name == NEW else 0.002
        counts = ArmCounts(requests=requests, errors=int(rate * requests))
        return Window(release=name, seconds=now, counts=counts, not_finite_rows=self.nan if name == NEW else 0)

    def _less(self, now: Window, before: Window) -> Window:
        requests, errors = (getattr(now.counts, what) - getattr(before.counts, what) for what in ("requests", "errors"))
        counts = ArmCounts(requests=requests, errors=errors)
        return replace(now, seconds=now.seconds - before.seconds, counts=counts)

    def keeper(self) -> Keeper:
        return Keeper(
            courses=Courses(self.folder),
            traffics=self,
            observer=self,
            clock=self,
            tell=lambda event, facts: self.told.append(event),
            record=lambda release, evidence: self.records.append(evidence),
        )

    def status(self, folder: Path) -> Status:
        """Return what a supervisor would say whose fronts follow at once."""
        report = FrontReport(pid=1, epoch=self.table.epoch, ready=True, requests=0, degraded=0, workers={})
        run = RunInfo(service="income", pid=1, start_ticks=1, host="", port=1, started="")
        routes = Routes(traffic=self.table, bodies={})
        return Status(run=run, routes=routes, ready=True, draining=False, store="", fronts={"front.0": report})


def begun(world: World, policy: Policy = CANARY) -> None:
    asked = Asked(service="income", candidates=(NEW,), policy=policy, requirements=(ERRORS,), features=(), by="ann")
    start(asked, courses=Courses(world.folder), traffics=world, observer=world, clock=world)


def keep(world: World, *, orders: list[str] | None = None, most: int = 4000) -> Course:
    """Keep the rollout to its end, by a new keeper after each kill; give an order now and then."""
    courses, keeper, orders = Courses(world.folder), world.keeper(), orders or []
    for turn in range(most):
        world.pass_time(0.5)
        if orders and turn % 7 == 3:
            order(world, orders.pop(0))
        try:
            if keeper.look():
                return courses.need()
        except KilledError:
            keeper = world.keeper()
        except DataError as fault:
            keeper._begin_anew(fault)
    raise AssertionError(f"not ended after {most} looks: {courses.need()}")


def order(world: World, what: str) -> None:
    courses = Courses(world.folder)
    with courses.hold():
        course = courses.need()
        try:
            asked = {
                "pause": lambda: ask(course, paused=True),
                "resume": lambda: ask(course, paused=False),
                "promote": lambda: ask(course, order=Order.FORWARD),
                "full": lambda: ask(course, order=Order.FULL),
            }
            if what in asked:
                courses.write(asked[what]())
        except UsageError:
            return
    if what == "rollback" and world.table.previous is not None:
        world.put(Traffic(epoch=world.table.epoch + 1, shares={world.table.previous: 1.0}))
    if what == "restart":  # by whoever starts the service: the split goes on under a newer epoch
        world.put(replace(world.table, epoch=world.table.epoch + 1))
    if what == "lose":
        world.lost_counts = True


@pytest.fixture(autouse=True)
def followed(monkeypatch: pytest.MonkeyPatch) -> list[World]:
    """Have the supervisor of the world that was made last answer."""
    worlds: list[World] = []
    monkeypatch.setattr(control, "status", lambda folder: worlds[-1].status(folder))
    return worlds


def world_in(folder: Path, worlds: list[World], error_rate: float = 0.002, faults: list[str] | None = None) -> World:
    world = World(folder, error_rate, faults or [])
    worlds.append(world)
    return world


def test_a_good_release_goes_through_the_steps_and_ends_promoted(tmp_path: Path, followed: list[World]) -> None:
    world = world_in(tmp_path, followed)
    begun(world, MIRRORED)
    course = keep(world)
    assert course.ended is not None and course.ended.how is How.PROMOTED
    assert [one.shares.get(NEW, 0.0) for one in world.past] == [0.0, 0.0, 0.1, 0.5, 1.0, 1.0]
    assert [bool(one.shadow) for one in world.past] == [False, True, False, False, False, False]
    assert world.table.watch is None and world.table.previous == STABLE and not Courses(tmp_path).is_open
    assert [one.how for one in world.records] == [How.PROMOTED]


def test_a_bad_one_goes_back_and_it_is_on_record_why(tmp_path: Path, followed: list[World]) -> None:
    world = world_in(tmp_path, followed, 0.2)
    begun(world)
    course = keep(world)
    assert world.table.shares == {STABLE: 1.0}
    (record,) = world.records
    assert record.how is How.TAKEN_BACK and "error_rate" in record.reason and record.windows[NEW].counts.errors > 0
    assert course.ended is not None and "rollout_taken_back" in world.told


@settings(max_examples=60, deadline=None)
@given(
    error_rate=st.sampled_from((0.002, 0.3)),
    faults=st.lists(st.sampled_from(("", *FAULTS)), max_size=8),
    orders=st.lists(st.sampled_from(("pause", "resume", "promote", "full", "rollback", "lose", "restart")), max_size=6),
)
@example(error_rate=0.3, faults=["", "killed after"], orders=[])
@example(error_rate=0.002, faults=["", "put back", "killed after", "put back"], orders=[])
@example(error_rate=0.002, faults=["", "killed before"], orders=["rollback"])
def test_killed_refused_and_ordered_about_it_ends_in_one_state(
    error_rate: float, faults: list[str], orders: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        world = World(Path(folder), error_rate, [])
        patch.setattr(control, "status", world.status)
        begun(world)
        world.faults = faults
        course = keep(world, orders=[*orders, "resume"])  # a paused one waits for good
        assert course.ended is not None and not Courses(Path(folder)).is_open
        assert course.fits(world.table) or course.ended.how is How.TAKEN_OVER
        if course.ended.how is How.TAKEN_BACK:
            assert world.table.shares == {STABLE: 1.0} and world.table.previous is None
        else:
            assert world.table.shares == {NEW: 1.0} and world.table.previous == STABLE
        if error_rate > 0.05 and "full" not in orders and "promote" not in orders:
            assert course.ended.how is How.TAKEN_BACK
            assert max(one.shares.get(NEW, 0.0) for one in world.past) <= 0.5
        assert len(world.records) == 1


def test_a_service_that_is_started_again_before_its_table_is_changed_gets_it_then(
    tmp_path: Path, followed: list[World]
) -> None:
    world = world_in(tmp_path, followed)
    begun(world)
    keeper = world.keeper()
    world.faults = ["killed before"]
    with pytest.raises(KilledError):
        while True:
            world.pass_time(0.5)
            keeper.look()
    order(world, "restart")  # has the epoch now that the course is to have
    assert keep(world).fits(world.table)
    assert [one.shares.get(NEW, 0.0) for one in world.past] == [0.0, 0.1, 0.1, 0.5, 1.0, 1.0]


def test_a_release_whose_first_table_fails_leaves_nothing(tmp_path: Path, followed: list[World]) -> None:
    world = world_in(tmp_path, followed, faults=["refused"])
    with pytest.raises(ServiceError, match="did not get ready"):
        begun(world)
    assert world.past == [world.table] and Courses(tmp_path).read() is None and not Courses(tmp_path).is_open
    begun(world)  # and nothing is in the way
    with pytest.raises(UsageError, match="is open"):
        begun(world)
    ended = keep(world)
    world.faults = ["refused"]
    with pytest.raises(UsageError, match="has the most of the traffic"):
        begun(world)
    assert Courses(tmp_path).read() == ended and not Courses(tmp_path).is_open


def test_a_command_that_is_killed_after_it_wrote_the_course_is_followed_up(
    tmp_path: Path, followed: list[World]
) -> None:
    for fault in ("killed before", "killed after"):
        world = world_in(tmp_path, followed, faults=[fault])
        with pytest.raises(KilledError):
            begun(world)
        assert keep(world).fits(world.table)
        assert world.table.shares == {NEW: 1.0}


def test_nan_is_seen_though_it_came_before_the_step_began(tmp_path: Path, followed: list[World]) -> None:
    world = world_in(tmp_path, followed)
    begun(world)
    world.nan = 3  # at once, and none later
    course = keep(world)
    assert course.ended is not None and course.ended.how is How.TAKEN_BACK


def test_what_cannot_be_looked_at_for_long_goes_back(tmp_path: Path, followed: list[World]) -> None:
    world = world_in(tmp_path, followed)
    begun(world)
    keeper = world.keeper()
    keep_looking = world.windows

    def broken(course: Course, now: float) -> dict[str, Window]:
        raise UsageError("the requirements were changed")

    world.windows = broken  # type: ignore[method-assign]
    keeper.run(lambda seconds: world.pass_time(seconds))
    world.windows = keep_looking  # type: ignore[method-assign]
    assert world.table.shares == {STABLE: 1.0}
    assert world.told.count("rollout_look_failed") == MOST_FAILURES


def test_a_course_that_cannot_be_read_is_never_guessed_and_its_release_goes_back(
    tmp_path: Path, followed: list[World]
) -> None:
    folder = tmp_path / "income"
    folder.mkdir()
    world = world_in(folder, followed)
    begun(world)
    write_atomic(folder / "rollout.json", encode_pretty({"id": 1}))
    with pytest.raises(CourseUnreadable, match="modelyard rollback income"):
        Courses(folder).read()
    world.faults = ["store", "store"]
    world.keeper().run(lambda seconds: world.pass_time(seconds))
    assert world.table.shares == {STABLE: 1.0} and not Courses(folder).is_open
    assert (folder / "rollout.unreadable").exists() and Courses(folder).read() is None
    assert world.told.count("rollout_waits") == 1 and world.told[-1] == "rollout_unreadable"


PARITY = "demographic_parity_difference"
OF_SEX = Slice(column="sex", value="F")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (replace(ERRORS, metric=PARITY, group="sex", needs_labels=True), "waits for feedback that tells `sex`"),
        (replace(ERRORS, metric=PARITY, group="age"), ""),
        (replace(ERRORS, metric="accuracy", slice=OF_SEX, needs_labels=True), "waits for feedback that tells `sex`"),
        (replace(ERRORS, metric="recall", slice=OF_SEX, bound=0.1), "no request carries `sex`"),
        (replace(ERRORS, metric="f1", needs_labels=True), "over several classes"),
        (replace(ERRORS, metric="calibration_error", needs_labels=True), "no step goes forward by itself"),
    ],
)
def test_what_cannot_be_judged_is_said_at_the_beginning(
    tmp_path: Path, followed: list[World], asked: Requirement, words: str
) -> None:
    begun(world_in(tmp_path, followed))
    of = Asked(service="income", candidates=(NEW,), policy=CANARY, requirements=(asked,), features=("age",), by="ann")
    said = told(of, Courses(tmp_path).need())
    assert words in " ".join(said) and bool(said) == bool(words)
