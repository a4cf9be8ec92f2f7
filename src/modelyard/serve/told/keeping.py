"""Answers of watched releases, kept on disk until their labels come."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from modelyard.core.clock import Clock
from modelyard.core.rollout import Watch
from modelyard.serve.batching import Settled
from modelyard.serve.model import Model
from modelyard.serve.told.arm import Answer
from modelyard.serve.told.ledger import Ledger, Rows
from modelyard.serve.told.watched import column_of, groups_of


class Keeping:
    """A sink of answers; there is a ledger only while a rollout waits for labels. Of the event loop's thread."""

    def __init__(self, begin: Callable[[], Ledger], clock: Clock) -> None:
        self._begin, self._clock = begin, clock
        self._ledger: Ledger | None = None
        self._columns: tuple[str, ...] = ()
        self._lost = 0  # by ledgers that are closed

    @property
    def dropped(self) -> int:
        """Return how many rows should have been kept and were lost so far."""
        return self._lost + (0 if self._ledger is None else self._ledger.dropped)

    def follow(self, watch: Watch | None) -> None:
        """Keep answers while someone waits for labels."""
        wanted = watch is not None and watch.keeps_answers
        self._columns = watch.columns if watch is not None else ()
        if wanted and self._ledger is None:
            self._ledger = self._begin()
        elif not wanted:
            self.close()

    def take(self, release: str, answers: Sequence[Answer]) -> None:
        """Keep the answers of a batch."""
        if self._ledger is None:
            return
        at = self._clock.now().timestamp()
        by_batch: dict[int, list[Answer]] = {}
        for one in answers:
            by_batch.setdefault(id(one.settled), []).append(one)
        for together in by_batch.values():
            settled = together[0].settled
            model = together[0].call.lane.model
            self._ledger.answered(
                release,
                [Rows(one.call.request.id, one.start, one.call.rows) for one in together],
                at=at,
                classes=model.classes,
                labels=settled.labels,
                probabilities=settled.probabilities,
                values=settled.values,
                columns=self._texts(model, settled, together) if self._columns else None,
            )

    def close(self) -> None:
        """Write what waits, and keep nothing more; twice is harmless."""
        if self._ledger is not None:
            self._ledger.close()
            self._lost += self._ledger.dropped
            self._ledger = None

    def _texts(self, model: Model, settled: Settled, answers: Sequence[Answer]) -> dict[str, list[str | None]]:
        """Return the values of the columns that verdicts need, by row of the batch."""
        known = {name: column_of(model.contract, name) for name in self._columns}
        texts: dict[str, list[str | None]] = {
            name: [None] * settled.count for name, column in known.items() if column is not None
        }
        for one in answers:
            rows = model.columns(one.call.packed, one.call.rows)
            for name, column in known.items():
                if column is not None:
                    texts[name][one.start : one.start + one.call.rows] = groups_of(column, rows)
        return texts
