"""The load itself: requests leave when they are due, whatever the server does; in a closed loop, when answered."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence

from modelyard.core.load import Arrivals, LoadPlan
from modelyard.errors import NotRunning
from modelyard.loadtest.address import Address
from modelyard.loadtest.alarm import Alarm, alarm
from modelyard.loadtest.arrivals import arrivals
from modelyard.loadtest.caller import IDLE, Caller
from modelyard.loadtest.tally import MOST_REQUESTS, Outcome, Tally

MOST_AT_ONCE = 64  # requests that leave, or connections that are opened, before answers are read again
MOST_WAITING = 500_000  # requests that wait for a connection
SWEEP_S = 0.05
LEAD_S = 0.05  # from the last connection's opening to the first arrival
FIRST_BACKOFF_S, MOST_BACKOFF_S = 0.01, 0.1


class Generator:
    """One run of a plan. `mark` is called when the measured time begins and ends, `tick` about once a second."""

    def __init__(
        self,
        address: Address,
        requests: Sequence[bytes],
        plan: LoadPlan,
        *,
        mark: Callable[[bool], None] = lambda began: None,
        tick: Callable[[float, Tally], None] = lambda elapsed, tally: None,
    ) -> None:
        self.address, self.plan, self._mark, self._tick = address, plan, mark, tick
        self.tally = Tally(0.0)
        self._next_request = itertools.cycle(requests).__next__
        self._callers: set[Caller] = set()
        self._idle: deque[Caller] = deque()
        self._waiting: deque[tuple[float, float]] = deque()  # due, taken up
        self._opening = 0
        self._backoff_s = FIRST_BACKOFF_S
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = False  # nothing more becomes due
        self._ended = asyncio.Event()
        self._start = self._stop = 0.0

    async def run(self) -> Tally:
        """Load the server by the plan; return once every request was answered or has failed.

        Raises: NotRunning where no connection can be opened at first.
        """
        self._loop = asyncio.get_running_loop()
        await self._resolve()
        try:
            await self._open_all()
            self._start = time.monotonic() + LEAD_S
            self.tally.begin = self._start + self.plan.warmup_s
            self._stop = self.tally.begin + self.plan.seconds
            background = {asyncio.create_task(self._marks()), asyncio.create_task(self._sweeps())}
            self._tasks |= background
            if self.plan.arrivals is Arrivals.CLOSED:
                self._ask_all()
            else:
                self._open_loop()
            ended = asyncio.create_task(self._ended.wait())
            await asyncio.wait({ended, *background}, return_when=asyncio.FIRST_EXCEPTION)
            ended.cancel()
            for task in background:
                task.result()  # raises what it raised
            return self.tally
        finally:
            self._over = True
            for caller in list(self._callers):
                caller.drop()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # what callers call

    def free(self, caller: Caller) -> None:
        """Give a connection its next request, if one waits."""
        if self._waiting:
            due, taken = self._waiting.popleft()
            self._ask(caller, due, taken)
        elif self._over:
            self._idle.append(caller)
            self._end_if_done()
        elif self.plan.arrivals is Arrivals.CLOSED:
            now = time.monotonic()
            if now < self._stop and len(self.tally) < MOST_REQUESTS:
                self._ask(caller, now, now)
            else:
                self._over = True
                self._idle.append(caller)
                self._end_if_done()
        else:
            self._idle.append(caller)

    def lost(self, caller: Caller) -> None:
        """Replace a connection that ended, as long as there is use for it."""
        self._callers.discard(caller)
        self.withdraw(caller)
        if not self._over or self._waiting:
            self._open_one(self._backoff_s if not self._callers else 0.0)
        else:
            self._end_if_done()

    def withdraw(self, caller: Caller) -> None:
        """Give an idle connection no further request."""
        if caller in self._idle:
            self._idle.remove(caller)

    # connections

    async def _resolve(self) -> None:
        address = self.address
        try:
            found = await self._loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except OSError as fault:
            raise NotRunning(f"`{address.host}` has no address: {fault.strerror}.") from fault
        self._host = str(found[0][4][0])

    async def _open_all(self) -> None:
        for begun in range(0, self.plan.connections, MOST_AT_ONCE):
            count = min(MOST_AT_ONCE, self.plan.connections - begun)
            results = await asyncio.gather(*(self._connect() for _ in range(count)), return_exceptions=True)
            faults = [one for one in results if isinstance(one, BaseException)]
            for fault in faults:
                if not isinstance(fault, OSError | TimeoutError):
                    raise fault
            if len(faults) == count:
                why = str(faults[0]) or "no answer in time"
                raise NotRunning(f"No connection to {self.address.authority} can be opened: {why}.")

    async def _connect(self) -> None:
        tls = self.address.tls
        async with asyncio.timeout(self.plan.timeout_s):
            _, caller = await self._loop.create_connection(
                lambda: Caller(self),
                self._host,
                self.address.port,
                ssl=tls,
                server_hostname=None if tls is None else self.address.host,
            )
        self._backoff_s = FIRST_BACKOFF_S
        if caller.gone:
            return
        self._callers.add(caller)
        if self._start:
            self.free(caller)
        else:
            self._idle.append(caller)

    def _open_one(self, after_s: float) -> None:
        if self._opening + len(self._callers) >= self.plan.connections:
            return
        self._opening += 1
        task = asyncio.create_task(self._reopen(after_s))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reopen(self, after_s: float) -> None:
        try:
            if after_s:
                await asyncio.sleep(after_s)
            await self._connect()
        except (OSError, TimeoutError):
            self._backoff_s = min(MOST_BACKOFF_S, 2 * self._backoff_s)
            failed = True
        else:
            failed = False
        finally:
            self._opening -= 1
        if failed:
            if not self._callers:
                self._refuse_waiting()
            if not self._over:
                self._open_one(self._backoff_s)
            self._end_if_done()

    def _refuse_waiting(self) -> None:
        """Fail what waits: no connection is open, and none could be opened."""
        now = time.monotonic()
        while self._waiting:
            due, taken = self._waiting.popleft()
            self.tally.add(due, taken, now, now, Outcome.REFUSED)
        if self.plan.arrivals is Arrivals.CLOSED and not self._over:
            self.tally.add(now, now, now, now, Outcome.REFUSED)  # the caller who would have asked

    # requests

    def _ask(self, caller: Caller, due: float, taken: float) -> None:
        self.tally.sent += 1
        caller.ask(due, taken, self._next_request())

    def _ask_all(self) -> None:
        for caller in list(self._idle):
            now = time.monotonic()
            self._ask(caller, now, now)
        self._idle.clear()

    def _open_loop(self) -> None:
        """Send each request when it is due; those that find no free connection wait, and the wait is theirs."""
        due_after = arrivals(self.plan)
        following = next(due_after, None)
        bell: Alarm

        def pump() -> None:
            nonlocal following
            now = time.monotonic()
            idle, start = self._idle, self._start
            for _ in range(MOST_AT_ONCE):
                if following is None or start + following > now:
                    break
                due = start + following
                following = next(due_after, None)
                if idle:
                    self._ask(idle.popleft(), due, now)
                else:
                    self._queue(due, now)
                now = time.monotonic()
            if following is None:
                bell.close()
                self._over = True
                self._end_if_done()
            else:
                bell.set(start + following)

        bell = alarm(self._loop, pump)
        bell.set(self._start)

    def _queue(self, due: float, now: float) -> None:
        if len(self._waiting) >= MOST_WAITING:
            self.tally.add(due, now, now, now, Outcome.LATE)
            return
        self._waiting.append((due, now))
        if len(self._callers) + self._opening < self.plan.connections:
            self._open_one(0.0 if self._callers else self._backoff_s)

    # time

    async def _marks(self) -> None:
        for moment, began in ((self.tally.begin, True), (self._stop, False)):
            await asyncio.sleep(max(0.0, moment - time.monotonic()))
            self._mark(began)

    async def _sweeps(self) -> None:
        """Fail what is overdue; tell how far it is; end a closed loop whose connections are all gone."""
        told = self._start
        while not self._ended.is_set():
            await asyncio.sleep(SWEEP_S)
            now = time.monotonic()
            oldest = now - self.plan.timeout_s
            while self._waiting and self._waiting[0][0] < oldest:
                due, taken = self._waiting.popleft()
                self.tally.add(due, taken, now, now, Outcome.LATE)
            for caller in [one for one in self._callers if IDLE < one.due < oldest]:
                caller.fail(Outcome.TIMEOUT)
            if self.plan.arrivals is Arrivals.CLOSED and now >= self._stop:
                self._over = True
            self._end_if_done()
            if now - told >= 1.0:
                told = now
                self._tick(now - self._start, self.tally)

    def _end_if_done(self) -> None:
        if self._over and not self._waiting and all(caller.due == IDLE for caller in self._callers):
            self._ended.set()
