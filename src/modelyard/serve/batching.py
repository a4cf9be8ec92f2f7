"""What waits for a worker, and what leaves for it together.

Whatever arrived in one turn of the event loop, or while the worker was busy, leaves as one batch as soon as the
worker is idle, up to the cap. There is no timer: a lone request goes at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from modelyard.errors import Overloaded
from modelyard.serve.wire import Part


class Work:
    """Rows of one request, or a piece of them; `settle` is called once with where they are in an answer."""

    __slots__ = ("dead", "deadline", "parts", "queued", "rows", "settle")

    def __init__(self, *, rows: int, parts: list[Part], deadline: float, settle: Settle) -> None:
        self.rows, self.parts, self.deadline, self.settle = rows, parts, deadline, settle
        self.dead = False  # its caller is gone or was answered otherwise
        self.queued = False


class Settled:
    """An answer to a batch, as lists; `bad` are rows without one. A work's rows begin at its `start`."""

    __slots__ = ("bad", "labels", "probabilities", "reason", "values")

    def __init__(
        self,
        *,
        labels: list[str] | None = None,
        probabilities: list[list[float]] | None = None,
        values: list[float] | None = None,
        bad: frozenset[int] = frozenset(),
        reason: str = "",
    ) -> None:
        self.labels, self.probabilities, self.values = labels, probabilities, values
        self.bad, self.reason = bad, reason

    @property
    def failed(self) -> bool:
        """Say whether no row has an answer."""
        return self.labels is None and self.values is None


Settle = Callable[[Work, Settled, int], None]


class Queue:
    """Works in the order they came, bounded in rows. Of one thread, the event loop's."""

    def __init__(self, *, most_rows: int, batch_rows: int) -> None:
        self.most_rows, self.batch_rows = most_rows, batch_rows
        self.rows = 0  # of works that are alive
        self._works: deque[Work] = deque()

    def __len__(self) -> int:
        return len(self._works)

    def put(self, works: list[Work]) -> None:
        """Take the works of a request, all or none; raises Overloaded."""
        rows = sum(work.rows for work in works)
        if self.rows + rows > self.most_rows:
            raise Overloaded(f"{self.rows} rows wait, {rows} more came, and {self.most_rows} is the bound.")
        for work in works:
            if work.rows > self.batch_rows:
                raise ValueError(f"A work of {work.rows} rows is above the cap of {self.batch_rows}.")
            work.queued = True
            self._works.append(work)
        self.rows += rows

    def forget(self, work: Work) -> None:
        """Drop a work whose caller is gone; it leaves no room taken."""
        work.dead = True
        if work.queued:
            work.queued = False
            self.rows -= work.rows
            while self._works and not self._works[0].queued:
                self._works.popleft()

    def take(self, now: float) -> list[Work]:
        """Return the next batch: in order, never above the cap, without dead works or those past their deadline."""
        batch: list[Work] = []
        rows = 0
        while self._works:
            work = self._works[0]
            if not work.queued or work.deadline <= now:
                self._works.popleft()
                self._leave(work)
                continue
            if rows + work.rows > self.batch_rows:
                break
            self._works.popleft()
            self._leave(work)
            batch.append(work)
            rows += work.rows
        return batch

    def clear(self) -> list[Work]:
        """Return all works that are alive, and keep none."""
        works = [work for work in self._works if work.queued]
        self._works.clear()
        for work in works:
            self._leave(work)
        return works

    def _leave(self, work: Work) -> None:
        if work.queued:
            work.queued = False
            self.rows -= work.rows
