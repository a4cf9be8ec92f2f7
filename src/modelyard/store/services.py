"""The durable row of each service, changed by compare-and-set."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from modelyard.core.codec import decode, encode
from modelyard.core.ids import parse_release
from modelyard.core.release import Service
from modelyard.errors import BodyCollected, StoreConflict
from modelyard.store import schema
from modelyard.store.database import Database

_TABLE = schema.services


class DatabaseServices:
    """The Services port. Each row also keeps the releases of the traffic before, the way back."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name: str) -> Service | None:
        with self._database.read() as connection:
            row = connection.execute(sa.select(_TABLE).where(_TABLE.c.name == name)).first()
        return None if row is None else decode(row.record.encode(), Service)

    def put(self, service: Service, *, expect_epoch: int | None) -> None:
        """Write the row if its epoch is `expect_epoch` (None: if there is none).

        The new epoch must be higher than the expected one; with an equal epoch two writers would
        both believe that they were first.
        Raises: StoreConflict; BodyCollected where the traffic names a release without a body.
        """
        epoch = service.traffic.epoch
        if expect_epoch is not None and epoch <= expect_epoch:
            raise StoreConflict(
                f"Service `{service.name}`: the new epoch is {epoch}; wanted one above the expected {expect_epoch}."
            )
        with self._database.write() as connection:
            row = connection.execute(sa.select(_TABLE).where(_TABLE.c.name == service.name)).first()
            seen = None if row is None else int(row.epoch)
            if seen != expect_epoch:
                there = "it is not there yet" if seen is None else f"its epoch is {seen}"
                raise StoreConflict(
                    f"Service `{service.name}` was changed by someone else: {there}, "
                    f"wanted {'no row' if expect_epoch is None else expect_epoch}. Read it again and decide anew."
                )
            _refuse_collected(connection, service)
            values = {"epoch": epoch, "record": encode(service).decode(), "previous": _previous(row, service)}
            if row is None:
                connection.execute(sa.insert(_TABLE).values(name=service.name, **values))
            else:
                connection.execute(sa.update(_TABLE).where(_TABLE.c.name == service.name).values(**values))

    def all(self) -> list[Service]:
        """Return every service, by name."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(_TABLE).order_by(_TABLE.c.name)).all()
        return [decode(row.record.encode(), Service) for row in rows]


def _previous(row: Row[Any] | None, service: Service) -> str:
    """Return the releases to go back to: those before, or as they were if the traffic stays the same."""
    if row is None:
        return "[]"
    before = decode(row.record.encode(), Service).traffic.shares
    return str(row.previous) if before == service.traffic.shares else encode(sorted(before)).decode()


def _refuse_collected(connection: Connection, service: Service) -> None:
    for text in service.traffic.names:
        name, number = parse_release(text)
        table = schema.releases
        query = sa.select(table.c.collected).where(table.c.name == name, table.c.number == number)
        collected = connection.execute(query).scalar()
        if collected is not None:
            raise BodyCollected(
                f"Service `{service.name}` cannot answer from `{text}`: its body was removed by a collection on "
                f"{collected}. Run its spec again, or name another release."
            )
