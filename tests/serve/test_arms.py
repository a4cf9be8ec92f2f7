"""What is counted of each release for the verdicts of a rollout: exactly what callers got, no more and no less."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from modelyard.core.arrays import Columns
from modelyard.core.contract import Column, Contract, Kind, Role
from modelyard.core.metrics import Task
from modelyard.core.release import HeaderRule, Traffic
from modelyard.core.requirement import Slice
from modelyard.core.rollout import ArmCounts, Counted, Hits, Totals, Watch, Watched, Window
from modelyard.errors import DataError
from modelyard.evaluate.outcomes import group_values, rows_of
from modelyard.serve.batching import Settled
from modelyard.serve.call import Call
from modelyard.serve.forms.rows import RowsDoor
from modelyard.serve.model import Model
from modelyard.serve.request import Code
from modelyard.serve.routing import choose, spread
from modelyard.serve.shadow.copies import Mirrored
from modelyard.serve.told.arm import Answer
from modelyard.serve.told.arm_families import ArmFamilies
from modelyard.serve.told.arms import arm_counts, window
from modelyard.serve.told.board import Board
from modelyard.serve.told.metrics import Metrics
from modelyard.serve.told.units import Units
from modelyard.serve.told.watched import all_in, groups_of
from tests.serve.bodies import CONSTANT, REFUSE, write_body
from tests.serve.scripted import ROW_US, Bodies, Caller, run, settled, share, stage, until

ONE, TWO = "income@1", "income@2"
WATCH = Watch(
    items=(
        Watched(counts="slow", what=Counted.SLOWER, above_ms=10_000.0),
        Watched(counts="any", what=Counted.SLOWER, above_ms=0.0),
        Watched(counts="old", what=Counted.SLOWER, above_ms=0.0, slice=Slice(column="age", value="60")),
        Watched(counts="positive", what=Counted.POSITIVE),
        Watched(counts="by age", what=Counted.POSITIVE, group="age"),
        Watched(counts="by sex", what=Counted.POSITIVE, group="sex"),  # which requests need not have
        Watched(counts="cost", what=Counted.COST, price_per_cpu_hour=3600.0),
    ),
    positive=">50K",
)


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> Bodies:
    """A release that refuses where it cannot answer, and one with a constant answer."""
    folder = tmp_path_factory.mktemp("bodies")
    made = {ONE: write_body(folder / ONE, fallback=[REFUSE]), TWO: write_body(folder / TWO, fallback=[CONSTANT])}
    return {name: (folder / name, digest) for name, digest in made.items()}


def split(share: float, **more: object) -> Traffic:
    shares = {ONE: 1 - share, TWO: share}
    return Traffic(epoch=1, shares=shares, ranges=spread(None, shares), watch=WATCH, **more)  # type: ignore[arg-type]


def board(folder: Path) -> Metrics:
    folder.mkdir(exist_ok=True)
    return Metrics(Board(folder / "front.0.board"))


def labels(*ages: float) -> dict[str, int]:
    positive = sum(share(age) > 0.5 for age in ages)
    return {">50K": positive, "<=50K": len(ages) - positive}


class Kept:
    """What an answers ledger would get."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, str, list[str]]] = []

    def follow(self, watch: Watch | None) -> None: ...

    def take_copies(self, release: str, model: Model, copies: Sequence[Mirrored]) -> None: ...

    def take(self, release: str, answers: Sequence[Answer]) -> None:
        for call, batch, start in answers:
            assert batch.labels is not None
            self.taken.append((release, call.request.id, batch.labels[start : start + call.rows]))


class Broken:
    def follow(self, watch: Watch | None) -> None: ...

    def take_copies(self, release: str, model: Model, copies: Sequence[Mirrored]) -> None: ...

    def take(self, release: str, answers: Sequence[Answer]) -> None:
        raise OSError("its disk is full")


def test_answers_are_counted_with_what_is_watched_in_them_and_handed_on(bodies: Bodies, tmp_path: Path) -> None:
    ages = [(20.0,), (60.0,), (60.0, 60.0), (60.0, 20.0), tuple(range(30, 40))]  # the last goes in pieces
    only = Traffic(epoch=1, shares={ONE: 1.0}, watch=WATCH)

    async def main() -> Kept:
        kept = Kept()
        async with stage(tmp_path, bodies, traffic=only, metrics=board(tmp_path)) as played:
            played.desk.arms.sinks += [Broken(), kept]
            await settled(played, *[played.ask(*some, id=f"r-{place}") for place, some in enumerate(ages)])
        return kept

    kept = run(main())
    counts = arm_counts(tmp_path, ONE)
    every = [age for some in ages for age in some]
    assert (counts.requests, counts.errors, counts.degraded, counts.units) == (5, 0, 0, None)
    assert counts.classes == labels(*every)
    assert counts.rates == {
        "any": Hits(trials=5, hits=5),
        "slow": Hits(trials=5, hits=0),
        "old": Hits(trials=2, hits=2),
        "positive": Hits(trials=len(every), hits=labels(*every)[">50K"]),
    }
    by_age = {
        f"{age:g}": Hits(trials=every.count(age), hits=every.count(age) * labels(age)[">50K"]) for age in set(every)
    }
    assert counts.groups == {"by age": by_age}
    cost = [ROW_US / 1e6 * 1000 * len(some) for some in ages]
    assert counts.means["cost"].count == 5
    assert counts.means["cost"].total == pytest.approx(sum(cost))
    assert counts.means["cost"].squares == pytest.approx(sum(one**2 for one in cost))
    assert sorted(kept.taken) == [
        (ONE, f"r-{place}", [">50K" if share(age) > 0.5 else "<=50K" for age in some])
        for place, some in enumerate(ages)
    ]
    assert arm_counts(tmp_path, TWO) == ArmCounts()


def test_each_request_is_counted_by_what_its_caller_got(bodies: Bodies, tmp_path: Path) -> None:
    table = split(0.5, key_header="x-user", rules=(HeaderRule(header="x-beta", value="yes", release=TWO),))
    users = {
        release: next(f"u{n}" for n in range(99) if choose(table, f"u{n}")[0] == release) for release in (ONE, TWO)
    }

    async def main() -> None:
        async with stage(tmp_path, bodies, traffic=table, metrics=board(tmp_path), pin_versions=True) as played:
            for release, user in users.items():
                worker = played.workers[f"{release}.0"]
                await settled(played, played.ask(20, X_User=user), played.ask(30, X_User=user))
                worker.acts.append("all bad")
                failed = played.ask(40, X_User=user)
                await failed.replied()
                broken = Caller(body=b'{"rows": [{"age": "x"}]}', X_User=user)  # its caller's own fault
                played.desk.handle(broken)
                assert (await broken.replied()).code is Code.BROKEN_CONTRACT
                worker.acts.append("hold")
                gone = played.ask(50, X_User=user)
                await until(lambda worker=worker: worker.batches[-1] == [50])  # type: ignore[misc]
                gone.leave()
                worker.go.set()
            ruled = played.ask(20, X_Beta="yes", X_User=users[ONE])
            named = Caller(20, path=b"/v2/models/income/versions/1/infer", body=V2)
            played.desk.handle(named)
            await until(lambda: ruled.replies and named.replies)
            assert ruled.reply.served_by == TWO.encode() and named.reply.code is Code.OK

    run(main())
    one, two = arm_counts(tmp_path, ONE), arm_counts(tmp_path, TWO)
    assert (one.requests, one.errors, one.degraded, one.units) == (3, 1, 0, 1)
    assert (two.requests, two.errors, two.degraded, two.units) == (3, 0, 1, 1)
    assert one.rates["any"] == Hits(trials=2, hits=2) and two.rates["any"] == Hits(trials=3, hits=3)
    assert one.classes == two.classes == labels(20, 30)  # what a fallback says is not the release's


V2 = (
    b'{"inputs": [{"name": "age", "datatype": "INT64", "shape": [1], "data": [20]},'
    b'{"name": "score", "datatype": "FP64", "shape": [1], "data": [1.5]},'
    b'{"name": "city", "datatype": "BYTES", "shape": [1], "data": ["Paris"]},'
    b'{"name": "seen", "datatype": "BYTES", "shape": [1], "data": ["2026-01-31T12:00:00Z"]}]}'
)


def test_keys_are_units_once_and_requests_without_one_are_each_their_own(bodies: Bodies, tmp_path: Path) -> None:
    table = split(0.5, key_header="x-user")
    users = [f"user-{number}" for number in range(30)]

    async def main() -> None:
        async with stage(tmp_path, bodies, traffic=table, metrics=board(tmp_path)) as played:
            for turn in range(3):
                callers = [played.ask(20, X_User=user) for user in users[: 15 * (turn + 1)]]
                await until(lambda callers=callers: all(caller.replies for caller in callers))  # type: ignore[misc]
            own = [played.ask(20, id=f"r-{number}") for number in range(7)]
            await until(lambda: all(caller.replies for caller in own))

    run(main())
    everyone = [*users, *(f"r-{number}" for number in range(7))]
    for release in (ONE, TWO):
        assert arm_counts(tmp_path, release).units == sum(choose(table, one)[0] == release for one in everyone)


def test_nothing_is_counted_while_nothing_is_watched(bodies: Bodies, tmp_path: Path) -> None:
    metrics = board(tmp_path)

    async def main() -> None:
        async with stage(tmp_path, bodies, shares={ONE: 0.5, TWO: 0.5}, metrics=metrics) as played:
            await settled(played, *[played.ask(20, id=f"r-{number}") for number in range(10)])
            assert all(lane.arm is None for lane in played.desk.lanes.values())
            watched = replace(split(0.5), epoch=2)
            refs = played.desk.routes
            assert refs is not None
            played.desk.adopt(replace(refs, traffic=watched))
            played.desk.switch_if_ready()
            assert len(list(tmp_path.glob("*.keys"))) == 1
            played.desk.adopt(replace(refs, traffic=replace(refs.traffic, epoch=3)))
            played.desk.switch_if_ready()
            assert all(lane.arm is None for lane in played.desk.lanes.values())

    run(main())
    assert arm_counts(tmp_path, ONE) == ArmCounts(
        classes=dict.fromkeys(labels(), 0),
        rates={name: Hits() for name in ("any", "slow", "old", "positive")},
        means={"cost": Totals()},
    )
    assert list(tmp_path.glob("*.keys")) == []


def test_numbers_are_counted_with_their_squares(tmp_path: Path) -> None:
    """The scripted workers classify, so that an answer of numbers is handed to the arm itself."""
    digest = write_body(tmp_path / "body", task=Task.REGRESSION, fallback=[REFUSE])

    async def main() -> None:
        table = Traffic(epoch=1, shares={ONE: 1.0}, watch=WATCH)
        bodies = {ONE: (tmp_path / "body", digest)}
        async with stage(tmp_path / "run", bodies, traffic=table, metrics=board(tmp_path / "run"), missing=[ONE]) as on:
            lane = on.desk.lanes[ONE]
            assert lane.arm is not None
            caller = Caller(20, 30)
            asked = RowsDoor().read(caller, lane.model)
            call = Call(caller, RowsDoor(), asked, lane, 0.0, 0, on.desk, None)
            call.ended = caller.arrived + 0.001
            lane.arm.answered([call], Settled(values=[1.5, -4.0]))

    run(main())
    assert arm_counts(tmp_path / "run", ONE).outputs == Totals(count=2, total=-2.5, squares=18.25)


# reading


def test_what_is_read_is_of_one_moment_while_it_is_written(tmp_path: Path) -> None:
    families = ArmFamilies(Board(tmp_path / "front.0.board"))
    steps, requests = families.steps(), families.requests.series(ONE)
    classes = [families.classes.series(ONE, name) for name in ("a", "b", "c")]
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            steps.add()
            requests.add()
            for series in classes:
                series.add()
            steps.add()
            stop.wait(0.0001)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        seen = [arm_counts(tmp_path, ONE) for _ in range(100)]
    finally:
        stop.set()
        thread.join()
    assert all(set(counts.classes.values()) <= {counts.requests} for counts in seen)
    assert seen[-1].requests > 0


def test_a_front_goes_on_from_an_update_in_which_its_predecessor_was_killed(tmp_path: Path) -> None:
    first = Board(tmp_path / "front.0.board")
    families = ArmFamilies(first)
    families.steps().add()
    families.requests.series(ONE).add()
    first.close()
    second = ArmFamilies(Board(tmp_path / "front.0.board"))
    assert second.steps().value == 2
    second.requests.series(ONE).add()
    assert arm_counts(tmp_path, ONE).requests == 2


def test_boards_of_all_fronts_are_added_up_and_a_release_that_left_is_forgotten(tmp_path: Path) -> None:
    metrics = [Metrics(Board(tmp_path / f"front.{number}.board")) for number in range(2)]
    for number, one in enumerate(metrics):
        one.arms.steps()
        for release in (ONE, TWO):
            one.arms.requests.series(release).add(number + 1)
            one.arms.groups.series(release, "by sex", "F").add(2)
            one.arms.groups.series(release, "by sex", "F").cells[
                one.arms.groups.series(release, "by sex", "F").last
            ] += 1
    assert arm_counts(tmp_path, ONE).requests == 3
    assert arm_counts(tmp_path, ONE).groups == {"by sex": {"F": Hits(trials=4, hits=2)}}
    for one in metrics:
        one.retire(ONE)
    assert arm_counts(tmp_path, ONE) == ArmCounts()
    assert arm_counts(tmp_path, TWO).requests == 3
    assert b"arm_" not in metrics[0].text(tmp_path)


def test_a_window_has_what_came_since_another(tmp_path: Path) -> None:
    metrics = Metrics(Board(tmp_path / "front.0.board"))
    requests, outputs = metrics.arms.requests.series(TWO), metrics.arms.outputs.series(TWO)
    requests.add(5)
    metrics.restarts.add(TWO, "hung")
    began = window(tmp_path, TWO, None, 100.0)
    assert (began.seconds, began.counts.requests, began.hung) == (100.0, 5, 1)
    requests.add(3)
    outputs.add(2)
    for why in ("hung", "memory", "memory", "ended"):
        metrics.restarts.add(TWO, why)
    metrics.not_finite.add(TWO, by=4)
    metrics.not_finite.add(ONE, by=9)
    since = window(tmp_path, TWO, began, 130.0)
    assert since == Window(
        release=TWO,
        seconds=30.0,
        counts=ArmCounts(requests=3, outputs=Totals(count=2)),
        restarts={"hung": 1, "memory": 2, "ended": 1},
        hung=1,
        memory_replaced=2,
        not_finite_rows=4,
    )
    ahead = replace(began, counts=replace(began.counts, requests=99))
    with pytest.raises(DataError, match="`requests` fell from 99 to 8"):
        window(tmp_path, TWO, ahead, 130.0)


def test_fronts_know_each_others_keys(tmp_path: Path) -> None:
    one, two = Units(tmp_path / "x.keys"), Units(tmp_path / "x.keys")
    assert one.meet("ann") and not two.meet("ann") and not one.meet("ann") and two.meet("bob")
    assert Units(None).meet("ann") and Units(tmp_path / "no folder" / "x.keys").meet("ann")


# what is in rows

VALUES = {
    Kind.CATEGORY: st.sampled_from(["a", "b", None]),
    Kind.BOOLEAN: st.sampled_from([1.0, 0.0, float("nan")]),
    Kind.NUMBER: st.sampled_from([-2.5, 0.0, 3.0, float("nan")]),
    Kind.DATETIME: st.sampled_from(["2025-12-31T23:59:59", "2026-01-31T12:00:00", "NaT"]),
}
DTYPES: dict[Kind, Any] = {Kind.CATEGORY: object, Kind.DATETIME: "datetime64[us]"}


@given(
    st.data(),
    st.sampled_from(list(VALUES)),
    st.sampled_from(["a", "true", "0", "3", "-2.5", "2026", "2026-01-31", "x"]),
)
def test_slices_and_groups_are_those_of_the_evaluation(data: st.DataObject, kind: Kind, wanted: str) -> None:
    column = Column(name="c", kind=kind, role=Role.FEATURE, nullable=True)
    values = data.draw(st.lists(VALUES[kind], min_size=1, max_size=5))
    columns = Columns({"c": np.array(values, dtype=DTYPES.get(kind, np.float64))})
    contract = Contract(task=Task.BINARY, target="t", columns=(column,))
    slice = Slice(column="c", value=wanted)
    assert all_in(slice, column, columns) == rows_of(slice, contract, columns).all()
    assert groups_of(column, columns) == group_values(column, columns).tolist()
