"""Who answers in whose place, in which order, and that every such answer says so. The workers are played."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from modelyard.core.release import Traffic
from modelyard.serve.guard.breaker import State
from modelyard.serve.messages import BodyRef, Routes
from modelyard.serve.request import Code
from tests.serve.bodies import CONSTANT, REFUSE, write_body
from tests.serve.scripted import LIMITS, Bodies, Stage, run, settled, share, stage, until

OLD, NEW = "income@1", "income@2"
PREVIOUS: dict[str, Any] = {"kind": "previous"}
RULE: dict[str, Any] = {
    "kind": "rule",
    "cases": [{"when": [{"column": "age", "is": "at_least", "value": 60}], "then": {"label": ">50K"}}],
    "otherwise": {"label": "<=50K"},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("bodies")
    orders = {
        "old": [REFUSE],
        "rule": [PREVIOUS, RULE, CONSTANT],
        "constant": [PREVIOUS, CONSTANT],
        "refuse": [PREVIOUS, REFUSE],
        "older": [PREVIOUS, REFUSE],
    }
    return {name: (folder / name, write_body(folder / name, fallback=order)) for name, order in orders.items()}


def two(made: Bodies, name: str) -> dict[str, tuple[Path, str]]:
    return {NEW: made[name], OLD: made["old"]}


def state(played: Stage, release: str) -> State:
    return played.desk.lanes[release].breaker.state


def test_the_previous_release_answers_first_and_says_for_whom_and_why(made: Bodies, tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(tmp_path, two(made, "rule"), previous={NEW: OLD}) as played:
            played.workers["income@2.0"].acts.append("all bad")
            caller = played.ask(30, 50)
            await settled(played, caller)
            assert (caller.reply.served_by, caller.reply.degraded) == (b"income@1 fallback:previous", b"model_error")
            told = [one["probabilities"][">50K"] for one in caller.reply.json["predictions"]]
            assert told == pytest.approx([share(30), share(50)], abs=1e-6)
            assert played.workers["income@1.0"].batches == [[30, 50]]
            await played.good(40)

    run(main())


@pytest.mark.parametrize(
    ("name", "code", "by", "answers"),
    [
        ("rule", Code.OK, "rule", [0.0, 1.0]),
        ("constant", Code.OK, "constant", [0.25, 0.25]),
        ("refuse", Code.FAILED, "", []),
    ],
)
@pytest.mark.parametrize("why", ["away", "bad too", "left the table", "gives up"])
def test_where_the_previous_one_cannot_the_next_in_order_does(
    made: Bodies, tmp_path: Path, name: str, code: Code, by: str, answers: list[float], why: str
) -> None:
    async def main() -> None:
        missing = [OLD] if why == "away" else []
        bodies = two(made, name) if why != "left the table" else {NEW: made[name]}
        async with stage(tmp_path, bodies, previous={NEW: OLD}, missing=missing) as played:
            played.workers["income@2.0"].acts.append("all bad")
            if why == "bad too":
                played.workers["income@1.0"].acts.append("all bad")
            if why == "gives up":
                await played.worker(OLD, None)
                played.workers["income@1.0"].default = played.workers["income@1.q"].default = "close"
            caller = played.ask(30, 70)
            await settled(played, caller)
            assert caller.reply.code is code
            if code is Code.OK:
                assert caller.reply.served_by == b"income@2 fallback:%b" % by.encode()
                assert caller.reply.degraded == b"model_error"
                told = [one["probabilities"][">50K"] for one in caller.reply.json["predictions"]]
                assert told == pytest.approx(answers)

    run(main())


def test_where_no_step_answers_a_missing_worker_is_told_as_such(made: Bodies, tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(tmp_path, two(made, "refuse"), missing=[NEW, OLD], previous={NEW: OLD}) as played:
            caller = played.ask(30)
            await settled(played, caller)
            assert (caller.reply.code, caller.reply.retry_after_s) == (Code.NOT_NOW, 1)

    run(main())


def test_a_large_request_goes_to_the_previous_release_whole(made: Bodies, tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(tmp_path, two(made, "rule"), previous={NEW: OLD}) as played:
            new = played.workers["income@2.0"]
            new.default = lambda frame: "last bad" if 29 in new.ages(frame) else "answer"
            caller = played.ask(*range(20, 34))
            await settled(played, caller)
            assert caller.reply.served_by == b"income@1 fallback:previous"
            told = [one["probabilities"][">50K"] for one in caller.reply.json["predictions"]]
            assert told == pytest.approx([share(age) for age in range(20, 34)], abs=1e-6)
            assert [len(batch) for batch in played.workers["income@1.0"].batches] == [4, 4, 4, 2]

    run(main())


def test_a_deadline_that_passes_in_the_fallback_ends_it_in_time(made: Bodies, tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(tmp_path, two(made, "constant"), previous={NEW: OLD}) as played:
            played.workers["income@2.0"].acts.append("all bad")
            played.workers["income@1.0"].acts.append("hold")
            caller = played.ask(30, X_Deadline_Ms="120")
            reply = await caller.replied()
            assert reply.at - caller.arrived < 0.2
            assert (reply.served_by, reply.degraded) == (b"income@2 fallback:constant", b"model_error")
            await settled(played, caller)

    run(main())


def test_rows_that_wait_in_vain_for_a_second_try_are_not_left_with_another_release(
    made: Bodies, tmp_path: Path
) -> None:
    async def main() -> None:
        async with stage(tmp_path, two(made, "constant"), previous={NEW: OLD}) as played:
            played.workers["income@2.0"].acts.append("close")
            played.workers["income@1.0"].default = "hold"
            caller = played.ask(30, X_Deadline_Ms="150")  # no worker for suspects comes
            reply = await caller.replied()
            assert reply.at - caller.arrived < 0.25
            assert (reply.served_by, reply.degraded) == (b"income@2 fallback:constant", b"worker_failed")
            await settled(played, caller)

    run(main())


def test_an_order_that_changes_while_a_request_is_under_way_is_followed_to_its_end(
    made: Bodies, tmp_path: Path
) -> None:
    async def main() -> None:
        async with stage(tmp_path, two(made, "constant"), previous={NEW: OLD}) as played:
            played.workers["income@2.0"].acts.append("all bad")
            old = played.workers["income@1.0"]
            old.acts.append("hold")
            caller = played.ask(30)
            await until(lambda: old.batches)
            refs = {name: BodyRef(folder=str(path), digest=sha) for name, (path, sha) in two(made, "constant").items()}
            played.desk.adopt(Routes(traffic=Traffic(epoch=2, shares={NEW: 1.0}), bodies=refs))
            played.desk.switch_if_ready()
            assert played.desk.epoch == 2
            old.go.set()
            await settled(played, caller)
            assert caller.reply.served_by == b"income@1 fallback:previous"

    run(main())


def test_releases_that_name_each_other_do_not_go_in_circles(made: Bodies, tmp_path: Path) -> None:
    async def main() -> None:
        bodies = {NEW: made["refuse"], OLD: made["older"]}
        async with stage(tmp_path, bodies, previous={NEW: OLD, OLD: NEW}) as played:
            for worker in played.workers.values():
                worker.default = "all bad"
            caller = played.ask(30)
            await settled(played, caller)
            assert caller.reply.code is Code.FAILED
            assert [worker.batches for worker in played.workers.values()] == [[[30]], [[30]]]

    run(main())


def test_a_breaker_opens_on_failures_and_closes_when_probes_are_answered(made: Bodies, tmp_path: Path) -> None:
    async def main() -> None:
        limits = replace(LIMITS, breaker_least=6, breaker_open_s=0.1)
        async with stage(tmp_path, two(made, "constant"), limits=limits) as played:
            worker = played.workers["income@2.0"]
            for _ in range(3):
                await played.good(30)
            worker.default = "all bad"
            while state(played, NEW) is State.CLOSED:
                bad = played.ask(30)
                await bad.replied()
                bad.check()
                assert bad.reply.degraded == b"model_error"
            assert len(worker.batches) == 3 + 3  # half of six
            kept_away = played.ask(30)
            assert kept_away.reply.degraded == b"breaker_open"
            assert len(worker.batches) == 6
            await asyncio.sleep(0.12)
            probe = played.ask(30)  # fails: it stays open for longer
            await probe.replied()
            assert state(played, NEW) is State.OPEN and probe.reply.degraded == b"model_error"
            worker.default = "answer"
            await asyncio.sleep(0.22)
            for _ in range(5):
                await played.good(30)
            assert state(played, NEW) is State.CLOSED
            assert played.desk.metrics.breaker_opened.total == 2

    run(main())


def test_answers_that_come_too_late_open_the_breaker_although_they_come(made: Bodies, tmp_path: Path) -> None:
    async def main() -> None:
        limits = replace(LIMITS, deadline_ms=500.0, breaker_least=4, breaker_share=0.6, progress_timeout_s=5.0)
        async with stage(tmp_path, two(made, "constant"), limits=limits) as played:
            worker = played.workers["income@2.0"]
            for _ in range(4):
                worker.go.clear()
                worker.acts.append("hold")
                caller = played.ask(30, X_Deadline_Ms="60")
                assert (await caller.replied()).degraded == b"deadline"
                worker.go.set()
                await asyncio.sleep(0.02)
            assert state(played, NEW) is State.OPEN

    run(main())


def test_callers_who_hardly_wait_do_not_open_the_breaker_for_the_others(made: Bodies, tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(tmp_path, two(made, "constant"), limits=replace(LIMITS, breaker_least=4)) as played:
            worker = played.workers["income@2.0"]
            worker.acts.append("hold")
            hasty = [played.ask(30, X_Deadline_Ms="5") for _ in range(12)]
            await until(lambda: all(caller.replies for caller in hasty))
            assert {caller.reply.degraded for caller in hasty} == {b"deadline"}
            assert state(played, NEW) is State.CLOSED
            worker.go.set()
            await played.good(40)

    run(main())


def test_a_probe_of_the_release_asked_in_anothers_place_counts(made: Bodies, tmp_path: Path) -> None:
    async def main() -> None:
        limits = replace(LIMITS, breaker_least=2, breaker_open_s=0.05)
        async with stage(tmp_path, two(made, "constant"), previous={NEW: OLD}, limits=limits) as played:
            played.workers["income@2.0"].default = played.workers["income@1.0"].default = "all bad"
            while state(played, OLD) is State.CLOSED:
                await played.ask(30).replied()
            await asyncio.sleep(0.06)
            played.desk.lanes[NEW].breaker.state = State.CLOSED
            caller = played.ask(30)
            await settled(played, caller)
            assert state(played, OLD) is State.OPEN and played.workers["income@1.0"].batches[2:] == [[30]]

    run(main())
