"""The tables, and how a store made by an earlier version becomes one of this version."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from modelyard.errors import StoreFormat
from modelyard.store.database import Database

metadata = sa.MetaData()

version = sa.Table("modelyard_schema", metadata, sa.Column("version", sa.BigInteger, nullable=False))

releases = sa.Table(
    "releases",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("spec_digest", sa.Text, nullable=False),
    sa.Column("sealed", sa.Text, nullable=False),
    sa.Column("headline", sa.Text, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("collected", sa.Text),  # when its body was removed, RFC 3339
)

evidence = sa.Table(
    "evidence",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True),
    sa.Column("sequence", sa.BigInteger, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("recorded", sa.Text, nullable=False),
)

services = sa.Table(
    "services",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("record", sa.Text, nullable=False),  # the Service as JSON
    sa.Column("previous", sa.Text, nullable=False),  # releases of the traffic before this one, a JSON list
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("spec_digest", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("started", sa.Text, nullable=False),
    sa.Column("finished", sa.Text),
)

ledger = sa.Table(
    "ledger",
    metadata,
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True),
    sa.Column("record", sa.LargeBinary, nullable=False),
)


def _first_tables(connection: Connection) -> None:
    """Version 1. Written out, so that a later change of the tables above leaves it as it was."""
    blob = "BLOB" if connection.dialect.name == "sqlite" else "BYTEA"
    for statement in (
        "CREATE TABLE releases (name TEXT NOT NULL, number BIGINT NOT NULL, body TEXT NOT NULL, "
        "spec_digest TEXT NOT NULL, sealed TEXT NOT NULL, headline TEXT NOT NULL, size_bytes BIGINT NOT NULL, "
        "collected TEXT, PRIMARY KEY (name, number), UNIQUE (name, body))",
        "CREATE TABLE evidence (name TEXT NOT NULL, number BIGINT NOT NULL, sequence BIGINT NOT NULL, "
        "kind TEXT NOT NULL, digest TEXT NOT NULL, recorded TEXT NOT NULL, PRIMARY KEY (name, number, sequence), "
        "UNIQUE (name, number, digest))",
        "CREATE TABLE services (name TEXT NOT NULL PRIMARY KEY, epoch BIGINT NOT NULL, record TEXT NOT NULL, "
        "previous TEXT NOT NULL)",
        "CREATE TABLE runs (id TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL, spec_digest TEXT NOT NULL, "
        "state TEXT NOT NULL, started TEXT NOT NULL, finished TEXT)",
        f"CREATE TABLE ledger (run TEXT NOT NULL, kind TEXT NOT NULL, number BIGINT NOT NULL, record {blob} NOT NULL, "
        "PRIMARY KEY (run, kind, number))",
    ):
        connection.execute(sa.text(statement))


Migration = Callable[[Connection], None]

MIGRATIONS: tuple[Migration, ...] = (_first_tables,)
"""Step i takes a store from version i to i + 1. Steps are only ever added at the end."""


def migrate(database: Database, steps: Sequence[Migration] = MIGRATIONS) -> int:
    """Bring the tables forward, one transaction a step; return the version.

    Raises: StoreFormat if the store was written by a newer version.
    """
    while True:
        with database.write() as connection:
            now = _version(connection)
            if now > len(steps):
                raise StoreFormat(
                    f"The store in `{database.where}` has format {now}; this version reads up to {len(steps)}. "
                    f"It was written by a newer Modelyard: install that version, or use another store."
                )
            if now == len(steps):
                return now
            steps[now](connection)
            connection.execute(sa.update(version).values(version=now + 1))


def _version(connection: Connection) -> int:
    connection.execute(sa.text("CREATE TABLE IF NOT EXISTS modelyard_schema (version BIGINT NOT NULL)"))
    found = connection.execute(sa.select(version.c.version)).scalar()
    if found is None:
        connection.execute(sa.insert(version).values(version=0))
        return 0
    return int(found)
