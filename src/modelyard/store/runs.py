"""Runs and their ledgers: what was done, in order, each record once."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from modelyard.core.clock import Clock, stamp
from modelyard.core.ids import check_name, new_id
from modelyard.core.run import Run, RunState
from modelyard.errors import StoreConflict, UnknownName, UsageError
from modelyard.store import schema
from modelyard.store.database import Database

_RUNS, _LEDGER = schema.runs, schema.ledger


class DatabaseRuns:
    """The Runs port. Any number of processes may write at once; an `append` that returned is durable."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database, self._clock = database, clock

    def begin(self, name: str, spec_digest: str) -> str:
        """Record a new run and return its id."""
        run = new_id("run")
        values = {"name": check_name(name), "spec_digest": spec_digest, "started": stamp(self._clock.now())}
        with self._database.write() as connection:
            connection.execute(sa.insert(_RUNS).values(id=run, state=RunState.RUNNING.value, **values))
        return run

    def get(self, run: str) -> Run:
        """Return a run; raises UnknownName."""
        with self._database.read() as connection:
            return _get(connection, run)

    def all(self, name: str | None = None) -> list[Run]:
        """Return the runs of a name, or all, oldest first."""
        query = sa.select(_RUNS) if name is None else sa.select(_RUNS).where(_RUNS.c.name == name)
        with self._database.read() as connection:
            return [_run(row) for row in connection.execute(query.order_by(_RUNS.c.started, _RUNS.c.id))]

    def append(self, run: str, kind: str, number: int, record: bytes) -> bool:
        """Write record `number` of a kind; False if exactly this one is there already.

        Raises: UnknownName; StoreConflict if another record has that number or the run is finished.
        """
        if number < 0:
            raise UsageError(f"Record {number} of `{kind}`: wanted a number from 0.")
        place = (_LEDGER.c.run == run, _LEDGER.c.kind == kind, _LEDGER.c.number == number)
        with self._database.write() as connection:
            state = _get(connection, run).state
            found = connection.execute(sa.select(_LEDGER.c.record).where(*place)).scalar()
            if found is not None:
                if bytes(found) == record:
                    return False
                raise StoreConflict(f"Run `{run}` has another record {number} of `{kind}`. Take the next number.")
            if state is not RunState.RUNNING:
                raise StoreConflict(f"Run `{run}` is finished ({state}); nothing can be added. Begin a new run.")
            connection.execute(sa.insert(_LEDGER).values(run=run, kind=kind, number=number, record=record))
        return True

    def records(self, run: str, kind: str) -> list[bytes]:
        """Return the records of a kind in order of their numbers; raises UnknownName."""
        query = sa.select(_LEDGER.c.record).where(_LEDGER.c.run == run, _LEDGER.c.kind == kind)
        with self._database.read() as connection:
            _get(connection, run)
            return [bytes(record) for record in connection.execute(query.order_by(_LEDGER.c.number)).scalars()]

    def finish(self, run: str, state: RunState) -> None:
        """Say how a run ended; the same end twice is harmless. Raises StoreConflict on another end."""
        if state is RunState.RUNNING:
            raise UsageError(f"Run `{run}`: `running` is not an end; wanted `done` or `failed`.")
        with self._database.write() as connection:
            seen = _get(connection, run).state
            if seen not in (RunState.RUNNING, state):
                raise StoreConflict(f"Run `{run}` has ended already: {seen}; asked for {state}.")
            if seen is RunState.RUNNING:
                values = {"state": state.value, "finished": stamp(self._clock.now())}
                connection.execute(sa.update(_RUNS).where(_RUNS.c.id == run).values(**values))


def _get(connection: Connection, run: str) -> Run:
    row = connection.execute(sa.select(_RUNS).where(_RUNS.c.id == run)).first()
    if row is None:
        newest = sa.select(_RUNS.c.id).order_by(_RUNS.c.started.desc()).limit(10)
        raise UnknownName("run", run, list(connection.execute(newest).scalars()))
    return _run(row)


def _run(row: Row[Any]) -> Run:
    return Run(
        id=row.id,
        name=row.name,
        spec_digest=row.spec_digest,
        state=RunState(row.state),
        started=row.started,
        finished=row.finished,
    )
