"""The database: short transactions, one writer at a time, the same code on SQLite and PostgreSQL."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url

from modelyard.errors import MissingExtra, StoreConflict, StoreError, UsageError

BUSY_S = 30


class Database:
    """Opens transactions. Safe to share between threads; a forked child gets connections of its own.

    A write transaction excludes every other one of the store from its first statement on (BEGIN
    IMMEDIATE on SQLite, an advisory lock on PostgreSQL), so what it reads stays true until it commits.
    """

    def __init__(self, url: str) -> None:
        try:
            self._url = make_url(url)
        except sa.exc.ArgumentError as fault:
            raise UsageError(
                f"The database URL cannot be read ({fault}). "
                f"Wanted e.g. `sqlite:///PATH` or `postgresql+psycopg://USER@HOST:PORT/NAME`."
            ) from fault
        self._engine, self._pid = _create(self._url), os.getpid()
        _OPEN.add(self)

    @property
    def is_sqlite(self) -> bool:
        return self._url.get_backend_name() == "sqlite"

    @property
    def where(self) -> str:
        """The URL without its password, for messages."""
        return self._url.render_as_string(hide_password=True)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads."""
        with self._translated(), self._current().begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that may write: all of it or nothing, alone.

        Raises: StoreConflict where a row is there already, StoreError where the database cannot be used.
        """
        with self._translated(), self._current().execution_options(modelyard_write=True).begin() as connection:
            if not self.is_sqlite:
                connection.execute(sa.text(f"SET LOCAL lock_timeout = '{BUSY_S}s'"))
                connection.execute(
                    sa.text("SELECT pg_advisory_xact_lock(hashtext('modelyard'), hashtext(current_schema()))")
                )
            yield connection

    def use_write_ahead_log(self) -> None:
        """Switch SQLite to WAL, which the file remembers; needs that nobody else has it open."""
        if self.is_sqlite:
            with self._translated(), self._current().connect() as connection:
                connection.connection.driver_connection.execute("PRAGMA journal_mode=WAL").fetchall()  # type: ignore[union-attr]

    def close(self) -> None:
        """Close idle connections; twice is harmless, and a later use opens new ones."""
        if self._pid == os.getpid():
            self._engine.dispose()

    def _current(self) -> Engine:
        """Return this process's engine.

        A connection that came over a fork is never used nor closed here: SQLite's locks belong to
        the parent, and a closing child would say goodbye on the parent's socket.
        """
        if self._pid != os.getpid():
            _ABANDONED.append(self._engine)
            self._engine, self._pid = _create(self._url), os.getpid()
        return self._engine

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.IntegrityError as fault:
            raise StoreConflict(f"`{self.where}` has that row already: {fault.orig}.") from fault
        except sa.exc.OperationalError as fault:
            raise StoreError(
                f"`{self.where}` cannot be used: {fault.orig}. Check that it is there, that this user may write to it, "
                f"and that no other process holds it for longer than {BUSY_S} s."
            ) from fault
        except sa.exc.SQLAlchemyError as fault:
            raise StoreError(
                f"`{self.where}` refused the statement: {getattr(fault, 'orig', None) or fault}."
            ) from fault


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file, making the file private first if it is new."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # its -wal and -shm take over the mode
    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def _create(url: URL) -> Engine:
    sqlite = url.get_backend_name() == "sqlite"
    try:
        engine = sa.create_engine(
            url,
            pool_pre_ping=not sqlite,
            connect_args={"timeout": BUSY_S} if sqlite else {"connect_timeout": BUSY_S},
        )
    except ImportError as fault:
        raise MissingExtra(url.get_driver_name() or url.drivername, "postgres") from fault
    if sqlite:
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver opens no transaction of its own; `_begin_sqlite` does
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_S * 1000}")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("modelyard_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


# SQLite keeps its idea of the locks it holds in process memory, which a fork copies and the kernel
# does not. So idle connections are closed before every fork; what is open then is left alone by the child.
_OPEN: weakref.WeakSet[Database] = weakref.WeakSet()
_ABANDONED: list[Engine] = []


def _close_before_fork() -> None:
    for database in list(_OPEN):
        database.close()


os.register_at_fork(before=_close_before_fork)
