"""Requests that wait: until when, in which order, and when there is no more room. The workers are played."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from modelyard.serve.request import Code
from tests.serve.bodies import REFUSE, write_body
from tests.serve.scripted import LIMITS, Bodies, run, settled, stage, until

RELEASE = "income@1"


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> Bodies:
    """A release that has no fallback."""
    folder = tmp_path_factory.mktemp("bodies") / RELEASE
    return {RELEASE: (folder, write_body(folder, fallback=[REFUSE]))}


@pytest.mark.parametrize("where", ["queued", "in the worker", "waiting for a replacement", "waiting for quarantine"])
def test_a_deadline_is_kept_wherever_the_rows_are(bodies: Bodies, tmp_path: Path, where: str) -> None:
    async def main() -> None:
        limits = replace(LIMITS, progress_timeout_s=5.0)
        async with stage(tmp_path, bodies, limits=limits) as played:
            worker = played.workers["income@1.0"]
            wanted = Code.TOO_LATE
            if where == "queued":
                worker.acts.append("hold")
                held = played.ask(20)
                await until(lambda: worker.batches)
            elif where == "in the worker":
                worker.acts.append("hold")
            elif where == "waiting for a replacement":
                worker.stop()
                await asyncio.sleep(0.01)
            else:
                worker.acts.append("close")
                wanted = Code.NOT_NOW  # the worker failed, and no other came in time
            caller = played.ask(30, X_Deadline_Ms="120")
            reply = await caller.replied()
            assert reply.code is wanted
            assert 0.09 < reply.at - caller.arrived < 0.2
            worker.go.set()
            if where == "queued":
                await settled(played, held)
            await settled(played, caller)
            assert [30] not in worker.batches or where != "queued"

    run(main())


def test_rows_whose_deadline_the_worker_saw_pass_are_late_and_not_at_fault(bodies: Bodies, tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(tmp_path, bodies) as played:
            played.workers["income@1.0"].acts.append("late")
            await settled(played, caller := played.ask(20))
            assert caller.reply.code is Code.TOO_LATE

    run(main())


def test_a_batch_carries_the_deadline_of_the_last_of_its_callers(bodies: Bodies, tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(tmp_path, bodies) as played:
            callers = [played.ask(20, X_Deadline_Ms=text) for text in ("900", "1700", "300")]
            await settled(played, *callers)
            (frame,) = played.workers["income@1.0"].frames
            assert frame.deadline == pytest.approx(callers[1].due, abs=1e-6)

    run(main())


@pytest.mark.parametrize("rows", [1, 6])
def test_what_a_caller_left_behind_does_not_run(bodies: Bodies, tmp_path: Path, rows: int) -> None:
    async def main() -> None:
        async with stage(tmp_path, bodies) as played:
            worker = played.workers["income@1.0"]
            worker.acts.append("hold")
            first = played.ask(20)
            await until(lambda: worker.batches)
            gone, stays = played.ask(*range(30, 30 + rows)), played.ask(50)
            gone.leave()
            assert played.desk.lanes[RELEASE].queue.rows == 1
            worker.go.set()
            await settled(played, first, stays)
            assert worker.batches == [[20], [50]] and gone.replies == []
            assert played.desk.metrics.dropped.total == rows

    run(main())


def test_the_urgent_leave_first_and_the_patient_are_turned_away_first(bodies: Bodies, tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(tmp_path, bodies) as played:
            worker = played.workers["income@1.0"]
            worker.acts.append("hold")
            first = played.ask(20)
            await until(lambda: worker.batches)
            low = [played.ask(30 + number, X_Priority="low") for number in range(12)]
            assert [caller.reply.code for caller in low if caller.replies] == [Code.NOT_NOW] * 2  # half is for others
            high = [played.ask(60, 61, X_Priority="high") for _ in range(2)]
            normal = played.ask(50)
            worker.go.set()
            await settled(played, first, *low, *high, normal)
            assert worker.batches[1] == [60, 61, 60, 61]
            assert worker.batches[2][0] == 50
            assert played.desk.metrics.overloads.total == 2

    run(main())


def test_a_full_queue_refuses_at_once_and_says_when_to_come_again(bodies: Bodies, tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(tmp_path, bodies) as played:
            worker = played.workers["income@1.0"]
            worker.acts.append("hold")
            first = played.ask(20)
            await until(lambda: worker.batches)
            large = played.ask(*range(30, 48))
            turned_away = played.ask(50, 51, 52)
            assert (turned_away.reply.code, turned_away.reply.retry_after_s) == (Code.NOT_NOW, 1)
            worker.go.set()
            await settled(played, first, large, turned_away)

    run(main())


def test_with_a_delay_several_wait_for_company_and_a_lone_caller_does_not(bodies: Bodies, tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(tmp_path, bodies, limits=replace(LIMITS, max_delay_ms=60.0)) as played:
            worker = played.workers["income@1.0"]
            await settled(played, lone := played.ask(20))
            assert lone.reply.at - lone.arrived < 0.05
            two = [played.ask(30), played.ask(31)]
            await asyncio.sleep(0.02)
            assert worker.batches == [[20]]
            third = played.ask(32)
            await settled(played, *two, third)
            assert worker.batches[1:] == [[30, 31, 32]]
            assert 0.055 < two[0].reply.at - two[0].arrived < 0.2
            full = [played.ask(40 + number) for number in range(4)]
            await settled(played, *full)
            assert full[0].reply.at - full[0].arrived < 0.05
            assert worker.batches[2:] == [[40, 41, 42, 43]]

    run(main())


def test_a_short_delay_ends_by_itself_each_time(bodies: Bodies, tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(tmp_path, bodies, limits=replace(LIMITS, max_delay_ms=0.4, batch_rows=8)) as played:
            for age in range(20, 60):
                pair = [played.ask(age), played.ask(age + 1)]
                await pair[0].replied()
                await pair[1].replied()
                assert max(one.reply.at - one.arrived for one in pair) < 0.5

    run(main())
