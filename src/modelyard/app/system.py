"""`App`: every verb of Modelyard, for the command line, for Python and for agents alike."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelyard.adapters.onnx_engine import OnnxLoader
from modelyard.app.model import Model
from modelyard.app.service import ServiceVerbs
from modelyard.app.settings import Settings, read_settings
from modelyard.app.wiring import build_ports
from modelyard.bundle.format import SPEC
from modelyard.bundle.open import Bundle, open_bundle
from modelyard.core.clock import SystemClock
from modelyard.core.codec import write_atomic
from modelyard.core.evidence import BuildEvidence, Evidence
from modelyard.core.ids import ReleaseId, check_name
from modelyard.core.machine import cores
from modelyard.core.ports import Progress
from modelyard.core.release import EvidenceRef, Release
from modelyard.data import TableFiles
from modelyard.errors import AlreadyExists, BundleFormat, UnknownName, UsageError
from modelyard.flow.build import Built, build
from modelyard.flow.plan import plan
from modelyard.flow.predict import Predicted, predict_file, spec_of
from modelyard.flow.start import Wish, first_spec
from modelyard.plan.outline import Section
from modelyard.release import card, report
from modelyard.release.diff import DiffReport, ReleaseView, diff
from modelyard.spec.load import load
from modelyard.store.gc import Collected
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

    @property
    def services(self) -> ServiceVerbs:
        """The verbs on services."""
        return ServiceVerbs(self.settings, self.store, self.clock)

    def init(self, wish: Wish, out: Path, *, overwrite: bool = False) -> Path:
        """Write a first spec for some data; raises AlreadyExists unless `overwrite`, UsageError."""
        check_name(wish.name)
        _check_out(out, overwrite=overwrite)
        text = first_spec(wish, out.absolute().parent, tables=TableFiles(), progress=self.progress)
        write_atomic(out, text.encode())
        load(out)  # what `init` writes must load; a fault here is ours, and is said
        return out

    def plan(self, spec: Path) -> tuple[Section, ...]:
        """Return what a run will do and check."""
        loaded = load(spec)
        with self.store(loaded.spec.environment.value) as store:
            return plan(loaded, build_ports(store, self.settings, self.progress))

    def build(self, spec: Path) -> Built:
        """Build a spec; a build that a requirement stops has no release and says why."""
        loaded = load(spec)
        with self.store(loaded.spec.environment.value) as store:
            return build(loaded, build_ports(store, self.settings, self.progress))

    def run(self, spec: Path) -> Release:
        """Build a spec into a sealed release; raises RequirementNotMet or RequirementInconclusive."""
        built = self.build(spec)
        if built.refusal is not None:
            raise built.refusal
        assert built.release is not None
        return built.release

    def releases(self, name: str | None = None) -> list[Release]:
        """Return all releases, or those of a name, by name and number; raises UnknownName for a name without any."""
        with self.store() as store:
            found = store.releases.all(name)
            if name is not None and not found:
                raise UnknownName("release", name, sorted({one.id.name for one in store.releases.all()}))
            return found

    def show(self, ref: str) -> tuple[Release, list[tuple[EvidenceRef, Evidence]], str, str]:
        """Return a release, its evidence, its spec's text and its goal; every byte is verified."""
        with self.store() as store:
            release = store.releases.get(ref)
            body = store.releases.body(release.id)
            text = (body / SPEC).read_text(encoding="utf-8")
            return release, store.releases.evidence(release.id), text, spec_of(body).goal

    def card(self, ref: str) -> str:
        """Return the model card of a release as Markdown."""
        release, evidence, _, goal = self.show(ref)
        return card.render(release, evidence, goal=goal)

    def report(self, ref: str, out: Path) -> Path:
        """Write the report of a release as one HTML page."""
        _check_out(out, overwrite=True)
        release, evidence, text, goal = self.show(ref)
        write_atomic(out, report.render(release, evidence, text, goal=goal).encode())
        return out

    def diff(self, first: str, second: str) -> DiffReport:
        """Return what differs between two releases."""
        return diff(self._view(first), self._view(second))

    def _view(self, ref: str) -> ReleaseView:
        with self.store() as store:
            release = store.releases.get(ref)
            body = store.releases.body(release.id)
            records = [record.payload for _, record in store.releases.evidence(release.id)]
            builds = [payload for payload in records if isinstance(payload, BuildEvidence)]
            if not builds:
                raise BundleFormat(f"`{release.id}` has no build on record; there is nothing to compare.")
            text = (body / SPEC).read_text(encoding="utf-8")
            return ReleaseView(release=release, build=builds[-1], spec_text=text)

    def open(self, ref: str, *, threads: int = 1) -> Model:
        """Open a release in this process."""
        id, bundle = self._bundle(ref, threads)
        return Model(id, bundle)

    def predict(self, ref: str, source: Path, out: Path, *, overwrite: bool = False) -> Predicted:
        """Answer a file of rows into another; raises AlreadyExists unless `overwrite`."""
        _check_out(out, overwrite=overwrite)
        id, bundle = self._bundle(ref, cores())
        try:
            with self.store() as store:
                spec = spec_of(store.releases.body(id))
            return predict_file(bundle, str(id), source, out, spec=spec, progress=self.progress)
        finally:
            bundle.close()

    def _bundle(self, ref: str, threads: int) -> tuple[ReleaseId, Bundle]:
        with self.store() as store:
            release = store.releases.get(ref)
            body = store.releases.body(release.id)
        return release.id, open_bundle(body, OnnxLoader(), threads=threads, verified=True)

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


def _check_out(out: Path, *, overwrite: bool) -> None:
    """Refuse, before any work, a file that could not be written at its end or that must not be replaced."""
    if out.exists() and not overwrite:
        raise AlreadyExists(f"`{out}` is there already. Name another file with --out, or add --overwrite.")
    if out.is_dir():
        raise UsageError(f"`{out}` is a folder. Name a file with --out.")
    if not os.access(out.absolute().parent, os.W_OK):
        seen = "may not be written to" if out.absolute().parent.is_dir() else "is not a folder that is there"
        raise UsageError(f"`{out}` cannot be written: `{out.absolute().parent}` {seen}. Name another file with --out.")


def open_release(ref: str, *, threads: int = 1) -> Model:
    """Open a release, such as `income@1` or `income` for its newest."""
    return App().open(ref, threads=threads)


class System:
    """A spec and what can be done with it, for Python: `modelyard.load("system.yaml").run()`."""

    def __init__(self, path: Path, app: App) -> None:
        self.loaded, self._path, self._app = load(path), path, app

    def plan(self) -> tuple[Section, ...]:
        """Return what a run will do and check."""
        return self._app.plan(self._path)

    def run(self) -> Release:
        """Build a sealed release; raises RequirementNotMet or RequirementInconclusive."""
        return self._app.run(self._path)


def load_system(path: str | Path, *, app: App | None = None) -> System:
    """Read a spec; raises SpecFaults with all that is wrong in it."""
    return System(Path(path), app or App())
