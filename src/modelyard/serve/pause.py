"""A wait that ends with an event, with its time, or with the task that waits."""

from __future__ import annotations

import asyncio
import contextlib


async def pause(event: asyncio.Event, seconds: float) -> None:
    """Wait until the event is set, and no longer than so many seconds.

    A task that is cancelled meanwhile ends, whatever else happens in the same turn of the loop. With
    `asyncio.wait_for` of Python 3.11 it may go on for good: what came at the same time hides that it was cancelled.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
