"""`App`: every verb of Modelyard, for the command line, for Python and for agents alike."""

from __future__ import annotations

from pathlib import Path

from modelyard.app.settings import Settings, read_settings
from modelyard.app.wiring import build_ports
from modelyard.core.clock import SystemClock
from modelyard.core.ports import Progress
from modelyard.flow.build import Built, build
from modelyard.spec.load import LoadedSpec, load
from modelyard.store.open import Store, open_store


class Silent:
    """A progress that says nothing."""

    def stage(self, name: str, *, total: float | None = None) -> None: ...

    def advance(self, done: float, note: str = "") -> None: ...

    def say(self, line: str) -> None: ...


class App:
    """The verbs. `command` is what the audit log says was called."""

    def __init__(
        self, settings: Settings | None = None, *, progress: Progress | None = None, command: str = "python"
    ) -> None:
        self.settings = settings or read_settings()
        self.progress = progress or Silent()
        self.command = command
        self.clock = SystemClock()

    def store(self, environment: str = "sandbox") -> Store:
        """Open the store for one verb."""
        return open_store(
            self.settings.home,
            database_url=self.settings.database_url,
            user=self.settings.user,
            environment=environment,
            change_ticket=self.settings.change_ticket,
            command=self.command,
            clock=self.clock,
            quota_bytes=self.settings.quota_bytes,
        )

    def load(self, spec: Path) -> LoadedSpec:
        """Read a spec; raises SpecFaults with all its faults."""
        return load(spec)

    def run(self, spec: Path) -> Built:
        """Build a spec into a sealed release."""
        loaded = load(spec)
        store = self.store(loaded.spec.environment.value)
        try:
            return build(loaded, build_ports(store, self.settings.home, self.progress))
        finally:
            store.close()
