"""Answers of watched releases, kept on disk until their labels come."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from modelyard.bundle.intake import Packed
from modelyard.core.clock import Clock
from modelyard.core.rollout import Watch
from modelyard.serve.batching import Settled
from modelyard.serve.model import Model
from modelyard.serve.shadow.copies import Mirrored
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
                columns=self._texts(model, settled, together),
            )

    def take_copies(self, release: str, model: Model, copies: Sequence[Mirrored]) -> None:
        """Keep what a shadow release answered."""
        at = self._clock.now().timestamp()
        for one in copies if self._ledger is not None else ():
            assert one.settled is not None and self._ledger is not None
            texts: dict[str, list[str | None]] = self._blank(model, one.settled)
            self._fill(texts, model, one.packed, one.start, one.rows)
            self._ledger.answered(
                release,
                [Rows(one.request.id, one.start, one.rows)],
                at=at,
                classes=model.classes,
                labels=one.settled.labels,
                probabilities=one.settled.probabilities,
                values=one.settled.values,
                columns=texts,
            )

    def close(self) -> None:
        """Write what waits, and keep nothing more; twice is harmless."""
        if self._ledger is not None:
            self._ledger.close()
            self._lost += self._ledger.dropped
            self._ledger = None

    def _texts(self, model: Model, settled: Settled, answers: Sequence[Answer]) -> dict[str, list[str | None]]:
        """Return the values of the columns that verdicts need, by row of the batch."""
        texts = self._blank(model, settled)
        for one in answers:
            self._fill(texts, model, one.call.packed, one.start, one.call.rows)
        return texts

    def _blank(self, model: Model, settled: Settled) -> dict[str, list[str | None]]:
        known = [name for name in self._columns if column_of(model.contract, name) is not None]
        return {name: [None] * settled.count for name in known}

    @staticmethod
    def _fill(texts: dict[str, list[str | None]], model: Model, packed: Packed, start: int, count: int) -> None:
        rows = model.columns(packed, count) if texts else None
        for name, values in texts.items():
            column = column_of(model.contract, name)
            assert column is not None and rows is not None
            values[start : start + count] = groups_of(column, rows)
