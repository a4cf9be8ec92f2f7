"""Opens the store: one folder, one database, every port wired."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modelyard.core.clock import Clock
from modelyard.core.codec import sync_folder
from modelyard.store.audit import AuditLog
from modelyard.store.bodies import Bodies
from modelyard.store.database import Database, sqlite_url
from modelyard.store.folder import disk
from modelyard.store.gc import Collection
from modelyard.store.lock import locked
from modelyard.store.releases import DatabaseReleases
from modelyard.store.room import Room
from modelyard.store.runs import DatabaseRuns
from modelyard.store.schema import migrate
from modelyard.store.services import DatabaseServices
from modelyard.store.stages import FolderStages


@dataclass(frozen=True, kw_only=True)
class Store:
    """The store's ports. `close` frees connections and the stages that this process holds."""

    stages: FolderStages
    releases: DatabaseReleases
    services: DatabaseServices
    audit: AuditLog
    runs: DatabaseRuns
    gc: Collection
    database: Database

    def close(self) -> None:
        """Twice is harmless."""
        self.stages.close()
        self.database.close()


def open_audit(
    home: Path, *, user: str, environment: str, change_ticket: str | None, command: str, clock: Clock
) -> AuditLog:
    """Open the audit log alone: what a rollback needs when the database does not answer."""
    return AuditLog(
        home / "audit", user=user, environment=environment, change_ticket=change_ticket, command=command, clock=clock
    )


def open_store(
    home: Path,
    *,
    database_url: str | None,
    user: str,
    environment: str,
    change_ticket: str | None,
    command: str,
    clock: Clock,
    quota_bytes: int | None,
) -> Store:
    """Open the store in folder `home`, making or migrating it as needed.

    `database_url` is an SQLAlchemy URL; None means SQLite in `home/store.db`.
    Raises: StoreFormat for a store of a newer version, StoreError if the database cannot be used.
    """
    home = home.resolve()
    database = _prepare(home, database_url)
    audit = open_audit(
        home, user=user, environment=environment, change_ticket=change_ticket, command=command, clock=clock
    )
    room = Room(home, quota_bytes=quota_bytes)
    bodies = Bodies(home / "bodies", room=room)
    stages = FolderStages(home / "stages", audit=audit, clock=clock, room=room)
    return Store(
        stages=stages,
        releases=DatabaseReleases(home / "releases", bodies=bodies, database=database, clock=clock),
        services=DatabaseServices(database),
        audit=audit,
        runs=DatabaseRuns(database, clock=clock),
        gc=Collection(database=database, bodies=bodies, stages=stages, room=room),
        database=database,
    )


def _prepare(home: Path, database_url: str | None) -> Database:
    """Make the folders and bring the database forward, one process at a time."""
    with disk(home):
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        home.chmod(0o700)
        for folder in ("audit", "bodies", "releases", "stages"):
            (home / folder).mkdir(mode=0o700, exist_ok=True)
        sync_folder(home)
        database = Database(database_url or sqlite_url(home / "store.db"))
    try:
        with locked(home / ".lock"):
            database.use_write_ahead_log()
            migrate(database)
    except BaseException:
        database.close()
        raise
    return database
