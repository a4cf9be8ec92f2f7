"""Who waits and who is turned away when there is more work than workers: three classes of requests.

A queue that is filling up turns away low requests first, then normal ones; what waits leaves by weight, so that the
more urgent go first and none is left for good.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from modelyard.serve.messages import Limits

HIGH, NORMAL, LOW = 0, 1, 2
NAMES = ("high", "normal", "low")
HEADER = b"x-priority"

SHARES = (1.0, 0.9, 0.5)
"""Of the queue, that a class may find taken and still be let in. Low work is what can be done later, so it leaves
half of the queue free for a burst of the rest; a tenth is kept for high, which is meant to be rare."""

TURNS = (HIGH, NORMAL, HIGH, HIGH, NORMAL, HIGH, HIGH, NORMAL, HIGH, HIGH, NORMAL, LOW)
"""Which class a batch begins with, in turn: 7 to 4 to 1 where all wait. A work at the head of its class leaves within
one round of these."""

SWEEP_FROM = 64  # forgotten works that may stay in the deques in any case

MOST_PASSED = 1000  # works of other buckets that one batch passes over; each costs a tenth of a microsecond

_NUMBERS: dict[bytes | None, int] = {None: NORMAL} | {name.encode(): number for number, name in enumerate(NAMES)}


class Shed(StrEnum):
    """Why a request found no room, as metrics say it."""

    FULL = "queue_full"
    LOW = "shed_low"
    NORMAL = "shed_normal"


_SHED = (Shed.FULL, Shed.NORMAL, Shed.LOW)


def read(given: bytes | None) -> int:
    """Return the class that a request's `x-priority` names, normal where it names none.

    Raises: ValueError with words for the caller.

    >>> read(None), read(b"high"), read(b" Low ")
    (1, 0, 2)
    """
    number = _NUMBERS.get(given)
    if number is None:
        assert given is not None
        number = _NUMBERS.get(given.strip().lower())
        if number is None:
            raise ValueError("`X-Priority` must be one of high, normal and low.")
    return number


def room(
    priority: int, rows_waiting: int, bytes_waiting: int, limits: Limits, rows: int = 1, size_bytes: int = 0
) -> Shed | None:
    """Return why a request is turned away by a queue in which so much waits; None where there is room.

    `rows` and `size_bytes` are the request's own: nobody is let in beyond the bound itself.
    """
    most_rows, most_bytes = limits.queue_rows, limits.queue_bytes
    if rows_waiting + rows > most_rows or bytes_waiting + size_bytes > most_bytes:
        return Shed.FULL
    if priority:
        share = SHARES[priority]
        if rows_waiting >= share * most_rows or bytes_waiting >= share * most_bytes:
            return _SHED[priority]
    return None


class Waiting(Protocol):
    """What a queue asks of a work."""

    rows: int
    size_bytes: int
    deadline: float
    priority: int
    queued: bool
    dead: bool


W = TypeVar("W", bound=Waiting)


class PriorityQueues(Generic[W]):
    """Works in three classes, each in the order they came, counted in rows and bytes. Of one thread.

    Where only normal work waits, which is nearly always, there is one deque and nothing else is looked at. With
    `bucket` a batch holds works of one bucket only: that of the work that leads it; order is kept within a bucket.
    """

    __slots__ = (
        "_bucket", "_cap", "_easy_bytes", "_easy_rows", "_gone", "_high", "_low", "_normal", "_turn", "_works",
        "limits", "rows", "size_bytes",
    )  # fmt: skip

    def __init__(self, limits: Limits, bucket: Callable[[W], Hashable] | None = None) -> None:
        self.limits = limits
        self._bucket = bucket
        self.rows = self.size_bytes = 0  # of works that are alive
        self._high: deque[W] = deque()
        self._normal: deque[W] = deque()
        self._low: deque[W] = deque()
        self._works = (self._high, self._normal, self._low)
        self._gone = 0  # works that were forgotten since the deques were last swept, at most so many are in them
        self._turn = 0
        self._cap = limits.batch_rows
        self._easy_rows = SHARES[LOW] * limits.queue_rows  # below both of these, every class is let in
        self._easy_bytes = SHARES[LOW] * limits.queue_bytes

    def __len__(self) -> int:
        return len(self._high) + len(self._normal) + len(self._low)

    def put(self, works: Sequence[W]) -> Shed | None:
        """Take the works of a request, all of one class, all or none; return why where there is no room."""
        if len(works) == 1:
            return self.put_one(works[0])
        return self._put(works)

    def put_one(self, work: W) -> Shed | None:
        """Do what `put` does, for a request that is one work."""
        rows, size_bytes = work.rows, work.size_bytes
        if rows <= self._cap and self.rows + rows < self._easy_rows and self.size_bytes + size_bytes < self._easy_bytes:
            work.queued = True
            self._works[work.priority].append(work)
            self.rows += rows
            self.size_bytes += size_bytes
            return None
        return self._put((work,))

    def forget(self, work: W) -> None:
        """Drop a work whose caller is gone; it leaves no room taken."""
        work.dead = True
        if not work.queued:
            return
        self._leave(work)
        works = self._works[work.priority]
        while works and not works[0].queued:
            works.popleft()
        self._gone += 1
        if self._gone > SWEEP_FROM and 2 * self._gone > len(self):
            self._sweep()

    def take(self, now: float, sharers: int = 1) -> list[W]:
        """Return the next batch: never above the cap, without dead works or those past their deadline.

        Where several workers take from what waits, this one gets its share of the rows; where not even the first
        work fits into that, as much as ever.
        """
        if sharers > 1 and (share := -(-self.rows // sharers)) < self._cap:
            return self._take(now, share) or self._take(now, self._cap)
        return self._take(now, self._cap)

    def _take(self, now: float, left: int) -> list[W]:
        batch: list[W] = []
        if not self._high and not self._low:
            self._fill(batch, self._normal, left, now)
            return batch
        leader = self._leader()
        left = self._fill(batch, leader, left, now)
        for works in self._works:
            if works is not leader and works:
                left = self._fill(batch, works, left, now)
        return batch

    def clear(self) -> list[W]:
        """Return all works that are alive, and keep none."""
        alive = [work for works in self._works for work in works if work.queued]
        for works in self._works:
            works.clear()
        for work in alive:
            self._leave(work)
        self._gone = 0
        return alive

    def _put(self, works: Sequence[W]) -> Shed | None:
        """Do what `put` does, where a closer look is needed."""
        widest = max(work.rows for work in works)
        if widest > self._cap:
            raise ValueError(f"A work of {widest} rows is above the cap of {self._cap}.")
        rows, size_bytes = sum(work.rows for work in works), sum(work.size_bytes for work in works)
        shed = room(works[0].priority, self.rows, self.size_bytes, self.limits, rows, size_bytes)
        if shed is not None:
            return shed
        for work in works:
            work.queued = True
        self._works[works[0].priority].extend(works)
        self.rows += rows
        self.size_bytes += size_bytes
        return None

    def _leader(self) -> deque[W]:
        """Return whose turn it is to begin a batch, of those where something waits."""
        for step in range(len(TURNS)):
            works = self._works[TURNS[(self._turn + step) % len(TURNS)]]
            if works:
                self._turn = (self._turn + step + 1) % len(TURNS)
                return works
        return self._normal

    def _fill(self, batch: list[W], works: deque[W], room_rows: int, now: float) -> int:
        """Move works from the head of a class into a batch while they fit; return the rows that are left."""
        if self._bucket is not None:
            return self._fill_alike(batch, works, room_rows, now, self._bucket)
        left, size_bytes = room_rows, 0
        while works:
            work = works[0]
            if not work.queued or work.deadline <= now:
                works.popleft()
                if work.queued:
                    self._leave(work)
                continue
            if work.rows > left:
                break
            works.popleft()
            work.queued = False
            left -= work.rows
            size_bytes += work.size_bytes
            batch.append(work)
        self.rows -= room_rows - left
        self.size_bytes -= size_bytes
        return left

    def _fill_alike(
        self, batch: list[W], works: deque[W], room_rows: int, now: float, bucket: Callable[[W], Hashable]
    ) -> int:
        """Do what `_fill` does, passing over works of other buckets than the batch's; those keep their places."""
        left, passed = room_rows, deque[W]()
        mine = bucket(batch[0]) if batch else None
        while works and left and len(passed) < MOST_PASSED:
            work = works.popleft()
            if not work.queued or work.deadline <= now:
                if work.queued:
                    self._leave(work)
                continue
            mine = bucket(work) if mine is None else mine
            if bucket(work) != mine or work.rows > left:
                passed.append(work)
                if work.rows > left and bucket(work) == mine:
                    break  # what comes after it must not overtake it
                continue
            self._leave(work)
            left -= work.rows
            batch.append(work)
        works.extendleft(reversed(passed))
        return left

    def _leave(self, work: W) -> None:
        work.queued = False
        self.rows -= work.rows
        self.size_bytes -= work.size_bytes

    def _sweep(self) -> None:
        """Let go of forgotten works that stand behind one that waits long."""
        for works in self._works:
            alive = [work for work in works if work.queued]
            works.clear()
            works.extend(alive)
        self._gone = 0
