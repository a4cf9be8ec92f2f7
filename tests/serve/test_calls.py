"""What becomes of requests, whatever their worker does. The workers are played by the test, over real sockets."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from modelyard.serve.batching import Said, Settled
from modelyard.serve.doors import Asked
from modelyard.serve.forms.rows import AskedRows, RowsDoor
from modelyard.serve.model import Model
from modelyard.serve.request import Code, Request
from tests.serve.bodies import REFUSE, write_body
from tests.serve.scripted import LIMITS, Bodies, Caller, run, settled, stage, until

RELEASE = "income@1"


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> Bodies:
    """A release that has no fallback."""
    folder = tmp_path_factory.mktemp("bodies") / RELEASE
    return {RELEASE: (folder, write_body(folder, fallback=[REFUSE]))}


def test_what_comes_in_one_turn_leaves_as_one_batch_and_all_get_their_own(bodies: Bodies, tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(tmp_path, bodies) as played:
            callers = [played.ask(age) for age in (20, 30)] + [played.ask(50, 60)]
            await settled(played, *callers)
            assert played.workers["income@1.0"].batches == [[20, 30, 50, 60]]

    run(main())


def test_what_comes_while_the_worker_is_busy_waits_and_leaves_together_in_order(bodies: Bodies, tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(tmp_path, bodies) as played:
            worker = played.workers["income@1.0"]
            worker.acts.append("hold")
            first = played.ask(20)
            await until(lambda: worker.batches)
            rest = [played.ask(age) for age in range(30, 36)]
            await asyncio.sleep(0.02)
            assert played.desk.lanes[RELEASE].queue.rows == 6
            worker.go.set()
            await settled(played, first, *rest)
            assert worker.batches == [[20], [30, 31, 32, 33], [34, 35]]

    run(main())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_large_request_is_cut_and_comes_back_whole_and_in_order(bodies: Bodies, tmp_path: Path, workers: int) -> None:
    async def main() -> None:
        async with stage(tmp_path, bodies, workers=workers) as played:
            before, large, after = played.ask(20), played.ask(*range(30, 44)), played.ask(60)
            await settled(played, before, large, after)
            every = [batch for worker in played.workers.values() for batch in worker.batches]
            assert max(map(len, every)) == LIMITS.batch_rows
            assert sorted(age for batch in every for age in batch) == [20, *range(30, 44), 60]

    run(main())


@pytest.mark.parametrize("act", ["all bad", "last bad"])
def test_one_bad_row_fails_its_request_only_and_a_large_one_as_a_whole(
    bodies: Bodies, tmp_path: Path, act: str
) -> None:
    async def main() -> None:
        async with stage(tmp_path, bodies) as played:
            worker = played.workers["income@1.0"]
            worker.default = lambda frame: act if 77 in worker.ages(frame) else "answer"
            good, bad = played.ask(20), played.ask(30, 77)
            await settled(played, good, bad)
            assert (good.reply.code, bad.reply.code) == ((Code.OK if act == "last bad" else Code.FAILED), Code.FAILED)
            large, other = played.ask(*range(66, 78)), played.ask(21)
            await settled(played, large, other)
            assert (large.reply.code, other.reply.code) == (Code.FAILED, Code.OK)

    run(main())


WRONG = ["wrong id", "wrong rows", "wrong shape", "wrong label", "nan", "garbage", "huge", "close"]


@pytest.mark.parametrize("act", WRONG)
def test_rows_lost_with_a_worker_are_tried_again_once_each_alone_in_a_worker_of_their_own(
    bodies: Bodies, tmp_path: Path, act: str
) -> None:
    async def main() -> None:
        async with stage(tmp_path, bodies) as played:
            worker = played.workers["income@1.0"]
            worker.acts.append(act)
            callers = [played.ask(age) for age in (20, 30, 40)]
            await until(lambda: played.desk.suspects)
            quarantine = await played.worker(RELEASE, None)
            await settled(played, *callers)
            assert {caller.reply.code for caller in callers} == {Code.OK}
            assert {caller.reply.degraded for caller in callers} == {None}
            assert worker.batches == [[20, 30, 40]]
            assert quarantine.batches == [[20], [30], [40]]
            assert played.desk.metrics.retries.total == 3
            await played.good(50)
            assert worker.batches[1:] == [[50]]
            assert not played.desk.poison.suspects  # all of them were answered

    run(main())


@pytest.mark.parametrize("act", ["wrong id", "nan", "huge"])
def test_a_worker_that_speaks_nonsense_counts_as_wrong_until_it_is_replaced(
    bodies: Bodies, tmp_path: Path, act: str
) -> None:
    async def main() -> None:
        async with stage(tmp_path, bodies, limits=replace(LIMITS, progress_timeout_s=0.6)) as played:
            worker = played.workers["income@1.0"]
            worker.acts.append(act)
            played.ask(20)
            lane = played.desk.lanes[RELEASE]
            await until(lambda: not lane.ready)
            state = lane.states["income@1.0"]  # by this the supervisor ends it
            assert state.connected and state.golden is False
            waits = played.ask(30)
            await asyncio.sleep(0.05)
            assert worker.batches == [[20]]
            worker.stop()
            await played.worker(RELEASE)
            assert (await waits.replied()).code is Code.OK  # the next one came in time

    run(main())


def test_a_worker_that_spoke_nonsense_and_that_nobody_ends_is_given_another_chance(
    bodies: Bodies, tmp_path: Path
) -> None:
    async def main() -> None:
        async with stage(tmp_path, bodies) as played:
            played.workers["income@1.0"].acts.append("wrong id")
            played.ask(20)
            await until(lambda: not played.desk.ready)
            await until(lambda: played.desk.ready)
            await played.good(30)

    run(main())


def test_an_answer_that_comes_twice_is_nonsense_but_the_first_one_counts(bodies: Bodies, tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(tmp_path, bodies) as played:
            played.workers["income@1.0"].acts.append("twice")
            await settled(played, played.ask(20))
            await until(lambda: played.desk.ready)
            await played.good(30)

    run(main())


def test_rows_of_a_worker_that_hangs_are_tried_elsewhere_and_its_late_answer_is_dropped(
    bodies: Bodies, tmp_path: Path
) -> None:
    async def main() -> None:
        async with stage(tmp_path, bodies) as played:
            worker, quarantine = played.workers["income@1.0"], await played.worker(RELEASE, None)
            worker.acts.append("hold")
            caller, large = played.ask(20), played.ask(30, 31, 32)
            await settled(played, caller, large)
            assert caller.reply.code is large.reply.code is Code.OK
            assert quarantine.batches == [[20], [30, 31, 32]]
            assert not played.desk.alive
            worker.go.set()  # what it says now is of no use, but shows that it goes on
            await until(lambda: played.desk.alive and played.desk.ready)
            await played.good(40)
            assert worker.batches[1:] == [[40]]

    run(main())


def test_a_piece_that_was_lost_is_tried_again_and_the_request_comes_back_whole(bodies: Bodies, tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(tmp_path, bodies) as played:
            worker, quarantine = played.workers["income@1.0"], await played.worker(RELEASE, None)
            worker.acts.extend(["answer", "close"])
            large = played.ask(*range(20, 31))
            await settled(played, large)
            assert large.reply.code is Code.OK
            assert quarantine.batches == [[24, 25, 26, 27]]
            assert worker.batches == [[20, 21, 22, 23], [24, 25, 26, 27], [28, 29, 30]]

    run(main())


def test_rows_are_tried_again_only_once(bodies: Bodies, tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(tmp_path, bodies) as played:
            worker, quarantine = played.workers["income@1.0"], await played.worker(RELEASE, None)
            worker.default = quarantine.default = lambda frame: "close" if 77 in worker.ages(frame) else "answer"
            bad, good = played.ask(77), played.ask(20)
            await settled(played, bad, good)
            assert (bad.reply.code, good.reply.code) == (Code.NOT_NOW, Code.OK)
            assert (worker.batches, quarantine.batches) == ([[77, 20]], [[77], [20]])

    run(main())


def test_a_body_that_twice_ended_a_worker_is_refused_for_a_while_and_its_neighbour_is_cleared(
    bodies: Bodies, tmp_path: Path
) -> None:
    async def main() -> None:
        async with stage(tmp_path, bodies) as played:
            worker, quarantine = played.workers["income@1.0"], await played.worker(RELEASE, None)
            worker.default = quarantine.default = lambda frame: "close" if 77 in worker.ages(frame) else "answer"
            await settled(played, played.ask(77), played.ask(20))
            await until(lambda: played.desk.ready)
            seen = len(worker.batches) + len(quarantine.batches)
            again = played.ask(77)
            assert again.reply.code is Code.NOT_NOW
            assert 50 <= (again.reply.retry_after_s or 0) <= 60
            assert len(worker.batches) + len(quarantine.batches) == seen
            await played.good(20)
            assert len(played.desk.poison.suspects) == 1

    run(main())


def test_retries_stay_within_their_budget(bodies: Bodies, tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(tmp_path, bodies, limits=replace(LIMITS, batch_rows=20)) as played:
            await played.worker(RELEASE, None)
            played.workers["income@1.0"].acts.append("close")
            callers = [played.ask(20 + number) for number in range(15)]
            await settled(played, *callers)
            codes = [caller.reply.code for caller in callers]
            assert (codes.count(Code.OK), codes.count(Code.NOT_NOW)) == (10, 5)  # the floor of a quiet service

    run(main())


def test_without_a_retry_share_nothing_is_tried_again(bodies: Bodies, tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(tmp_path, bodies, limits=replace(LIMITS, retry_share=0.0)) as played:
            quarantine = await played.worker(RELEASE, None)
            played.workers["income@1.0"].acts.append("close")
            await settled(played, lost := played.ask(20))
            assert lost.reply.code is Code.NOT_NOW and quarantine.batches == []

    run(main())


class FailingAnswer(AskedRows):
    def answer_row(self, settled: Settled, place: int) -> bytes | None:
        return None

    def answer(self, settled: Settled, model: Model, said: Said) -> tuple[bytes, bytes, bytes]:
        raise RuntimeError("a fault of ours, with a secret")


class FailingDoor(RowsDoor):
    """A door that cannot write its answers."""

    def read(self, request: Request, model: Model) -> AskedRows:
        asked: Asked = super().read(request, model)
        return FailingAnswer(asked.packed, asked.rows)


def test_a_fault_of_ours_in_one_reply_harms_no_other_of_its_batch(bodies: Bodies, tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(tmp_path, bodies) as played:
            harmed = Caller(30)
            first = played.ask(20)
            played.desk.infer(harmed, FailingDoor())
            last = played.ask(40)
            await settled(played, first, harmed, last)
            assert played.workers["income@1.0"].batches == [[20, 30, 40]]
            assert (first.reply.code, harmed.reply.code, last.reply.code) == (Code.OK, Code.FAILED, Code.OK)
            assert b"secret" not in harmed.reply.body

    run(main())


def test_a_release_that_leaves_the_table_lets_go_of_its_requests_in_time(bodies: Bodies, tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(tmp_path, bodies) as played:
            worker = played.workers["income@1.0"]
            worker.acts.append("hold")
            out = played.ask(20)
            await until(lambda: worker.batches)
            queued = played.ask(30)
            began = time.monotonic()
            played.desk.lanes[RELEASE].close()
            await settled(played, out, queued)
            assert {out.reply.code, queued.reply.code} == {Code.NOT_NOW}
            assert time.monotonic() - began < 5.0  # rather than its deadline
            assert not played.desk.suspects

    run(main())
