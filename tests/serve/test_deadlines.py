"""Deadlines on few timers: none is kept early, none late, and whoever is done is not told."""

from __future__ import annotations

import asyncio
import random
import time

import uvloop

from modelyard.serve.guard.deadlines import SLOT_S, Deadlines

HUNG_S = 5.0  # how late is no longer a busy machine but a lost timer; how close they come is for the benchmark


class Waiting:
    """Notes when it was told."""

    def __init__(self, due: float) -> None:
        self.due = due
        self.told: list[float] = []

    def late(self) -> None:
        self.told.append(time.monotonic())


def run(main: object) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)  # type: ignore[arg-type]  # a coroutine


def test_of_thousands_none_is_told_early_and_all_soon() -> None:
    async def main() -> None:
        deadlines = Deadlines(asyncio.get_running_loop())
        generator = random.Random(5)
        waiting = []
        for _ in range(5000):
            now, left_s = time.monotonic(), generator.uniform(-0.01, 0.6)
            one = Waiting(now + left_s)
            deadlines.add(one, left_s, now)
            waiting.append(one)
        assert len(deadlines) == 5000
        async with asyncio.timeout(HUNG_S):
            while len(deadlines):
                await asyncio.sleep(0.01)
        late = sorted(one.told[0] - max(one.due, waiting[0].due) for one in waiting)
        assert all(len(one.told) == 1 and one.told[0] >= one.due for one in waiting)
        assert late[-1] < HUNG_S

    run(main())


def test_a_timer_that_a_busy_turn_lets_fire_too_soon_tells_nobody_yet() -> None:
    async def main() -> None:
        deadlines = Deadlines(asyncio.get_running_loop())
        waiting = []
        for _ in range(40):
            await asyncio.sleep(0.001)
            until = time.monotonic() + 0.004
            while time.monotonic() < until:  # the loop's own clock stands still in a turn
                pass
            now = time.monotonic()
            one = Waiting(now + 0.003)
            deadlines.add(one, 0.003, now)
            waiting.append(one)
        await asyncio.sleep(0.05)
        assert all(len(one.told) == 1 and one.told[0] >= one.due for one in waiting)

    run(main())


def test_whoever_takes_itself_out_is_not_told() -> None:
    async def main() -> None:
        deadlines = Deadlines(asyncio.get_running_loop())
        now = time.monotonic()
        waiting = [Waiting(now + 0.02) for _ in range(1000)]
        slots = [deadlines.add(one, 0.02, now) for one in waiting]
        for one, slot in list(zip(waiting, slots, strict=True))[::2]:
            slot.discard(one)
        assert len(deadlines) == 500
        await asyncio.sleep(0.05)
        assert [len(one.told) for one in waiting] == [0, 1] * 500

    run(main())


def test_one_told_may_take_out_another_of_its_slot_and_put_in_a_new_one() -> None:
    async def main() -> None:
        deadlines = Deadlines(asyncio.get_running_loop())
        now = time.monotonic()
        again = Waiting(now)

        class Again(Waiting):
            def late(self) -> None:
                super().late()
                deadlines.add(again, 0.0, time.monotonic())

        first = Again(now)
        slot = deadlines.add(first, 0.0, now)
        await asyncio.sleep(0.03)
        slot.discard(first)
        assert len(first.told) == len(again.told) == 1

    run(main())


def test_there_is_one_timer_a_slot_however_many_wait() -> None:
    class Counting(asyncio.SelectorEventLoop):
        timers = 0

        def call_at(self, *args: object, **kwargs: object) -> asyncio.TimerHandle:
            self.timers += 1
            return super().call_at(*args, **kwargs)  # type: ignore[arg-type]

    loop = Counting()
    deadlines = Deadlines(loop)
    for number in range(10_000):
        deadlines.add(Waiting(0.0), number * 1e-5, 1000.0)
    assert loop.timers <= 0.1 / SLOT_S + 2
    loop.close()
