"""A store on each database that answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from modelyard.core.ids import new_id
from modelyard.store.open import Store
from tests.store.making import SetClock, open_here

SERVER = "postgres@127.0.0.1:5432/test"

Opener = Callable[[], Store]


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """The URL of a fresh schema on a real PostgreSQL; skips, saying so, where none answers."""
    schema = new_id("modelyard").replace("-", "_")
    try:
        connection = psycopg.connect(f"postgresql://{SERVER}", autocommit=True, connect_timeout=3)
    except psycopg.OperationalError as fault:
        pytest.skip(f"no PostgreSQL answers at {SERVER}: {fault}")
    with connection:
        connection.execute(f'CREATE SCHEMA "{schema}"'.encode())
        yield f"postgresql+psycopg://{SERVER}?options={quote(f'-csearch_path={schema}')}"
        connection.execute(f'DROP SCHEMA "{schema}" CASCADE'.encode())


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
def opener(home: Path, clock: SetClock, database_url: str | None) -> Iterator[Opener]:
    """Open the same store again and again, on SQLite and on PostgreSQL."""
    opened: list[Store] = []

    def opens() -> Store:
        opened.append(open_here(home, clock, database_url=database_url))
        return opened[-1]

    yield opens
    for store in opened:
        store.close()


@pytest.fixture
def store(home: Path, clock: SetClock) -> Iterator[Store]:
    store = open_here(home, clock)
    yield store
    store.close()
