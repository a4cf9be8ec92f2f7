"""The verbs that need the store and nothing else, so that they answer at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from modelyard.app.settings import Settings, read_settings
from modelyard.core.clock import SystemClock
from modelyard.core.release import Release
from modelyard.errors import UnknownName
from modelyard.store.gc import Collected
from modelyard.store.open import Store, open_store


class Records:
    """What is in the store. `command` is what the audit log says was called."""

    def __init__(self, settings: Settings | None = None, *, command: str = "python") -> None:
        self.settings = settings or read_settings()
        self.command = command
        self.clock = SystemClock()

    @contextmanager
    def store(self, environment: str = "sandbox") -> Iterator[Store]:
        """Open the store for one verb."""
        store = open_store(
            self.settings.home,
            database_url=self.settings.database_url,
            user=self.settings.user,
            environment=environment,
            change_ticket=self.settings.change_ticket,
            command=self.command,
            clock=self.clock,
            quota_bytes=self.settings.quota_bytes,
        )
        try:
            yield store
        finally:
            store.close()

    def releases(self, name: str | None = None) -> list[Release]:
        """Return all releases, or those of a name, by name and number; raises UnknownName for a name without any."""
        with self.store() as store:
            found = store.releases.all(name)
            if name is not None and not found:
                raise UnknownName("release", name, sorted({one.id.name for one in store.releases.all()}))
            return found

    def audit(self, *, last: int | None = None) -> Sequence[Mapping[str, Any]]:
        """Return the audit log's entries, oldest first."""
        with self.store() as store:
            return list(store.audit.entries(last=last))

    def audit_verify(self) -> list[str]:
        """Return every fault of the audit log, in words."""
        with self.store() as store:
            return store.audit.verify()

    def collect(self, *, keep_newest: int, dry_run: bool) -> Collected:
        """Remove what nothing needs from the store."""
        with self.store() as store:
            if dry_run:
                return store.gc.collect(keep_newest=keep_newest, now=self.clock.now(), dry_run=True)
            with store.audit.change("gc", resources=("store",), rollback_available=False) as note:
                done = store.gc.collect(keep_newest=keep_newest, now=self.clock.now())
                note["freed_bytes"] = done.freed_bytes
                note["releases"] = list(done.releases)
            return done
