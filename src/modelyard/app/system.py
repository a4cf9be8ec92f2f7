"""`App`: every verb of Modelyard, for the command line, for Python and for agents alike."""

from __future__ import annotations

from pathlib import Path

from modelyard.adapters.onnx_engine import OnnxLoader
from modelyard.app.model import Model
from modelyard.app.sealed_spec import spec_of
from modelyard.app.service import ServiceVerbs
from modelyard.app.settings import Settings
from modelyard.app.telling import Telling, check_out
from modelyard.app.wiring import build_ports
from modelyard.bundle.open import Bundle, open_bundle
from modelyard.core.codec import write_atomic
from modelyard.core.ids import ReleaseId, check_name
from modelyard.core.machine import cores
from modelyard.core.ports import Progress
from modelyard.core.release import Release
from modelyard.data import TableFiles
from modelyard.flow.build import Built, build
from modelyard.flow.plan import plan
from modelyard.flow.predict import Predicted, predict_file
from modelyard.flow.start import Wish, first_spec
from modelyard.plan.outline import Section
from modelyard.spec.load import load


class Silent:
    """A progress that says nothing."""

    def stage(self, name: str, *, total: float | None = None) -> None: ...

    def advance(self, done: float, note: str = "") -> None: ...

    def say(self, line: str) -> None: ...


class App(Telling):
    """The verbs. `command` is what the audit log says was called."""

    def __init__(
        self, settings: Settings | None = None, *, progress: Progress | None = None, command: str = "python"
    ) -> None:
        super().__init__(settings, command=command)
        self.progress = progress or Silent()

    @property
    def services(self) -> ServiceVerbs:
        """The verbs on services."""
        return ServiceVerbs(self.settings, self.store, self.clock)

    def init(self, wish: Wish, out: Path, *, overwrite: bool = False) -> Path:
        """Write a first spec for some data; raises AlreadyExists unless `overwrite`, UsageError."""
        check_name(wish.name)
        check_out(out, overwrite=overwrite)
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

    def open(self, ref: str, *, threads: int = 1) -> Model:
        """Open a release in this process."""
        id, bundle = self._bundle(ref, threads)
        return Model(id, bundle)

    def predict(self, ref: str, source: Path, out: Path, *, overwrite: bool = False) -> Predicted:
        """Answer a file of rows into another; raises AlreadyExists unless `overwrite`."""
        check_out(out, overwrite=overwrite)
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
