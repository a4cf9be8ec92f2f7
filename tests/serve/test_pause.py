"""A task that pauses in a loop ends when it is cancelled, whatever happens at the same time."""

from __future__ import annotations

import asyncio
import time

import pytest
import uvloop

from modelyard.serve.pause import pause


async def _is_over(between: int, after: int) -> bool:
    """Set what is waited for and cancel, some turns of the loop apart; say whether the task has ended."""
    event = asyncio.Event()

    async def forever() -> None:
        while True:
            event.clear()
            await pause(event, 60.0)

    task = asyncio.create_task(forever())
    for _ in range(3):
        await asyncio.sleep(0)
    event.set()
    for _ in range(between):
        await asyncio.sleep(0)
    task.cancel()
    event.set()
    for _ in range(after):
        await asyncio.sleep(0)
    return task.done()


@pytest.mark.parametrize("between", range(6))
@pytest.mark.parametrize("runner", [asyncio.Runner, lambda: asyncio.Runner(loop_factory=uvloop.new_event_loop)])
def test_a_task_that_is_cancelled_while_its_event_comes_ends(runner: type[asyncio.Runner], between: int) -> None:
    with runner() as loop:
        assert loop.run(_is_over(between, after=20))


def test_it_waits_for_the_event_or_for_its_time() -> None:
    async def waited(seconds: float, *, is_set: bool) -> float:
        event, began = asyncio.Event(), time.monotonic()
        if is_set:
            event.set()
        await pause(event, seconds)
        return time.monotonic() - began

    assert asyncio.run(waited(0.05, is_set=False)) >= 0.04
    assert asyncio.run(waited(30.0, is_set=True)) < 10.0
