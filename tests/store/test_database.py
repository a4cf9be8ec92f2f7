"""The database: forward migrations, faults in words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from modelyard.errors import StoreConflict, StoreError, StoreFormat, UsageError
from modelyard.store import schema
from modelyard.store.database import Database, sqlite_url
from modelyard.store.open import Store
from tests.store.conftest import Opener
from tests.store.making import in_many, open_here


def test_the_package_itself_loads_no_database_library() -> None:
    code = "import sys, modelyard.store; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_tables_of_the_last_migration_are_the_tables_in_use(opener: Opener) -> None:
    with opener().database.read() as connection:
        inspector = sa.inspect(connection)
        for table in schema.metadata.sorted_tables:
            assert {column["name"] for column in inspector.get_columns(table.name)} == set(table.c.keys())


def test_a_store_moves_forward_one_transaction_a_step(home: Path, database_url: str | None) -> None:
    home.mkdir()
    database = Database(database_url or sqlite_url(home / "store.db"))

    def add(connection: sa.Connection) -> None:
        connection.execute(sa.text("ALTER TABLE runs ADD COLUMN note TEXT"))

    def fail(connection: sa.Connection) -> None:
        connection.execute(sa.text("ALTER TABLE runs ADD COLUMN other TEXT"))
        raise ValueError("killed here")

    assert schema.migrate(database) == 1
    with pytest.raises(ValueError, match="killed here"):
        schema.migrate(database, (*schema.MIGRATIONS, add, fail))
    with database.read() as connection:
        names = {column["name"] for column in sa.inspect(connection).get_columns("runs")}
    assert "note" in names
    assert "other" not in names
    assert schema.migrate(database, (*schema.MIGRATIONS, add)) == 2
    database.close()


def test_a_store_of_a_newer_version_is_refused(opener: Opener) -> None:
    with opener().database.write() as connection:
        connection.execute(sa.update(schema.version).values(version=99))
    with pytest.raises(StoreFormat, match="format 99"):
        opener()


def test_sixteen_processes_may_open_a_new_store_at_once(opener: Opener) -> None:
    def work(number: int) -> None:
        opener().runs.begin(f"own{number}", "")

    in_many(16, work)
    assert len(opener().runs.all()) == 16


def test_a_transaction_that_raises_leaves_nothing(opener: Opener) -> None:
    database = opener().database
    with pytest.raises(ValueError, match="no"), database.write() as connection:
        connection.execute(sa.insert(schema.ledger).values(run="r", kind="k", number=0, record=b""))
        raise ValueError("no")
    with database.read() as connection:
        assert connection.execute(sa.select(schema.ledger)).all() == []


def test_a_row_that_is_there_is_a_conflict(opener: Opener) -> None:
    database = opener().database
    insert = sa.insert(schema.ledger).values(run="r", kind="k", number=0, record=b"")
    with database.write() as connection:
        connection.execute(insert)
    with pytest.raises(StoreConflict, match="already"), database.write() as connection:
        connection.execute(insert)


def test_a_file_that_is_no_database_is_said(home: Path) -> None:
    home.mkdir()
    (home / "store.db").write_bytes(b"not a database at all, but long enough to be read as one" * 100)
    with pytest.raises(StoreError, match=r"store\.db"):
        open_here(home)


def test_a_home_that_is_a_file_is_said(home: Path) -> None:
    home.write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        open_here(home)


def test_a_server_that_does_not_answer_is_said_without_the_password(home: Path) -> None:
    with pytest.raises(StoreError) as caught:
        open_here(home, database_url="postgresql+psycopg://ada:hunter2@127.0.0.1:1/test")
    assert "127.0.0.1" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_url_that_cannot_be_read_is_said(home: Path) -> None:
    with pytest.raises(UsageError, match="postgresql"):
        open_here(home, database_url="nonsense")


def test_sqlite_runs_in_wal_mode_with_full_sync(store: Store) -> None:
    with store.database.read() as connection:
        assert connection.execute(sa.text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(sa.text("PRAGMA synchronous")).scalar() == 2
