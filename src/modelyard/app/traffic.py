"""The verbs that change what a running service answers from, and who may ask it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from modelyard.app.settings import Settings
from modelyard.app.way_back import GuardedChanges
from modelyard.core.clock import Clock, stamp
from modelyard.core.ids import check_name
from modelyard.core.ports import Releases, Services
from modelyard.errors import UnknownName, UsageError
from modelyard.serve.guard.keys import KeyRecord, add_key, read_keys, remove_key
from modelyard.serve.keep.change import Changed
from modelyard.store.open import Store, open_audit


@dataclass(frozen=True)
class TrafficVerbs:
    """Commands on the traffic and the keys of this store's services. `command` goes on the audit log."""

    settings: Settings
    store: Callable[..., AbstractContextManager[Store]]
    clock: Clock
    command: str

    def deploy(self, ref: str) -> Changed:
        """Let a release answer all callers, once it is loaded and right; raises as `GuardedChanges.deploy`."""
        with self.changes() as changes:
            return changes.deploy(ref)

    def rollback(self, name: str) -> Changed:
        """Let the release before answer again, also without a store or a supervisor; raises as `Changes.rollback`."""
        check_name(name)
        with self.changes() as changes:
            return changes.rollback(name)

    def keys(self, name: str) -> tuple[KeyRecord, ...]:
        """Return the keys of a service, hashed; raises UnknownName."""
        folder = self._folder(name)
        if not folder.exists():
            with self.store() as store:
                _check_known(store, name)
        return read_keys(folder).keys

    def add_key(
        self, name: str, label: str, *, manage: bool = False, rate: float | None = None, burst: int | None = None
    ) -> str:
        """Make a key for a service and return it; it is kept only as a hash. Raises UsageError, AlreadyExists."""
        if burst is not None and rate is None:
            raise UsageError(f"`--burst {burst}` bounds nothing without a rate. Add one, such as `--rate {burst}`.")
        burst = burst or max(1, round(rate or 1))
        folder = self._folder(name)
        with self.store() as store:
            if not folder.exists():
                _check_known(store, name)
            with store.audit.change("keys add", resources=(name, label), rollback_available=True) as note:
                note.update({"manage": manage, "rate": rate, "burst": None if rate is None else burst})
                return add_key(
                    folder,
                    label,
                    created=stamp(self.clock.now()),
                    manage=manage,
                    rate=rate,
                    burst=burst,
                )

    def remove_key(self, name: str, label: str) -> None:
        """Let a key be one no more; raises UnknownName."""
        folder = self._folder(name)
        with (
            self.store() as store,
            store.audit.change("keys remove", resources=(name, label), rollback_available=False, must_not_wait=True),
        ):
            remove_key(folder, label)

    def _folder(self, name: str) -> Path:
        return self.settings.home / "run" / check_name(name)

    @contextmanager
    def changes(self) -> Iterator[GuardedChanges]:
        """Open the store when it is first asked for: a rollback goes on where it cannot be opened."""
        opened: list[tuple[AbstractContextManager[Store], Store]] = []

        def ask() -> tuple[Services, Releases]:
            if not opened:
                context = self.store()
                opened.append((context, context.__enter__()))
            return opened[0][1].services, opened[0][1].releases

        audit = open_audit(
            self.settings.home,
            user=self.settings.user,
            environment="service",
            change_ticket=self.settings.change_ticket,
            command=self.command,
            clock=self.clock,
        )
        try:
            yield GuardedChanges(folder=self.settings.home / "run", store=ask, audit=audit, clock=self.clock)
        finally:
            for context, _ in opened:
                context.__exit__(None, None, None)


def _check_known(store: Store, name: str) -> None:
    if not store.releases.all(name):
        raise UnknownName("service", name, sorted({one.id.name for one in store.releases.all()}))
