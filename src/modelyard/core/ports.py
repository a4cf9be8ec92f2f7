"""What the rooms ask of the outside; adapters and the store answer. At most five methods each."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from modelyard.core.drill import Asked, Kept, Sight
from modelyard.core.encoding import Encoding, Head
from modelyard.core.evidence import Evidence
from modelyard.core.ids import ReleaseId
from modelyard.core.release import EvidenceRef, Release, Service
from modelyard.core.run import Run, RunState

if TYPE_CHECKING:  # numpy takes a third of the time in which a command that only lists should answer
    from modelyard.core.arrays import Array, Columns


class Engine(Protocol):
    """Runs a loaded graph. Safe to call from one thread at a time."""

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Answer a batch: every array has the rows first, order kept."""
        ...

    def close(self) -> None:
        """Free the graph; twice is harmless."""
        ...


class EngineLoader(Protocol):
    """Opens graphs."""

    def load(self, graph: Path | bytes, *, threads: int = 1) -> Engine: ...


class Stages(Protocol):
    """Keeps the outcome of finished stages by the hash of what went in."""

    def find(self, key: str) -> Path | None:
        """Return the folder kept under `key`, whole and unaltered, or None."""
        ...

    def keep(self, key: str, build: Callable[[Path], None]) -> Path:
        """Let `build` fill a new folder, then keep it under `key`, all or nothing."""
        ...


class Releases(Protocol):
    """Sealed bundles under names and numbers, with their evidence."""

    def seal(self, name: str, body: Path, evidence: Sequence[Evidence], *, headline: str, spec_digest: str) -> Release:
        """Give the body in folder `body` the next number of `name`. A body that `name` already has
        keeps its number and the evidence is appended."""
        ...

    def get(self, id: ReleaseId | str) -> Release:
        """Return a release; a name alone means its newest. Raises UnknownName."""
        ...

    def all(self, name: str | None = None) -> list[Release]: ...

    def body(self, id: ReleaseId) -> Path:
        """Return the folder of the body, its bytes verified against the digest; raises BundleAltered."""
        ...

    def evidence(self, id: ReleaseId, *, append: Evidence | None = None) -> list[tuple[EvidenceRef, Evidence]]:
        """Append one record if given, and return all, oldest first, their hashes verified."""
        ...


class Services(Protocol):
    """The durable row of each service, changed by compare-and-set."""

    def get(self, name: str) -> Service | None: ...

    def put(self, service: Service, *, expect_epoch: int | None) -> None:
        """Write the row if its epoch is `expect_epoch` (None: if there is none); raises StoreConflict.

        The new epoch is higher than the expected one, also where only the state changes.
        """
        ...

    def all(self) -> list[Service]: ...


class Audit(Protocol):
    """The audit log."""

    def change(
        self,
        operation: str,
        *,
        resources: Sequence[str],
        rollback_available: bool,
        model: Mapping[str, Any] | None = None,
        must_not_wait: bool = False,
    ) -> AbstractContextManager[dict[str, Any]]:
        """Write one line before the block and one after it, with outcome and duration.

        The mapping given to the block is merged into the closing line's `model_metadata`.
        `must_not_wait` is for rollback, stop and drain: they go on even if the log cannot be written.
        """
        ...

    def entries(self, *, last: int | None = None) -> Iterator[Mapping[str, Any]]: ...

    def verify(self) -> list[str]:
        """Return every fault found, in words; an empty list means the log is whole."""
        ...


class Tables(Protocol):
    """Reads Parquet parts and the files people bring."""

    def read(self, path: Path, names: Sequence[str] | None = None) -> Columns: ...

    def batches(self, path: Path, rows: int) -> Iterator[Columns]: ...


class Progress(Protocol):
    """Tells a person how far long work is."""

    def stage(self, name: str, *, total: float | None = None) -> None:
        """Begin a stage; `total` in the unit that `advance` counts."""
        ...

    def advance(self, done: float, note: str = "") -> None:
        """Say how much of the stage's total is done so far."""
        ...

    def say(self, line: str) -> None:
        """Print one plain line."""
        ...


class Spawn(Protocol):
    """Starts a process of Modelyard's own, by kind; what each kind does is wired in `app.py`."""

    def __call__(self, kind: str, *, pass_fds: Sequence[int] = ()) -> subprocess.Popen[bytes]:
        """Return the process with pipes on standard input and output."""
        ...


class Graphs(Protocol):
    """Builds graphs."""

    def featurizer(self, encoding: Encoding, widths: Mapping[str, int]) -> bytes: ...

    def whole(self, encoding: Encoding, widths: Mapping[str, int], estimator: bytes, head: Head) -> bytes: ...

    def split(self, graph: bytes, file: str) -> tuple[bytes, bytes]:
        """Return the graph with its large weights in `file` beside it, and that file's bytes, if it is large."""
        ...


class Runs(Protocol):
    """Runs and their ledgers of records, numbered from 0 within each kind."""

    def begin(self, name: str, spec_digest: str) -> str:
        """Record a new run of a system and return its id."""
        ...

    def all(self, name: str | None = None) -> list[Run]:
        """Return the runs, oldest first; one that was killed is still `running`."""
        ...

    def append(self, run: str, kind: str, number: int, record: bytes) -> bool:
        """Write one record durably; False if exactly this one is there already; raises StoreConflict."""
        ...

    def records(self, run: str, kind: str) -> list[bytes]:
        """Return the records of a kind, by number."""
        ...

    def finish(self, run: str, state: RunState) -> None: ...


class Rehearsal(Protocol):
    """A copy of a service under steady load, for one drill to harm. Of one thread."""

    def harm(self) -> None:
        """Let the failure happen; raises CannotRehearse where it cannot be made here."""
        ...

    def look(self) -> Sight:
        """Say how the copy looks from outside."""
        ...

    def mend(self) -> None:
        """Do what a person would once the failure was seen; nothing where the service mends itself."""
        ...

    def asked(self) -> Sequence[Asked]:
        """Return the requests that ended so far, in that order."""
        ...

    def finish(self) -> tuple[Sequence[Asked], Kept]:
        """End the load once every request has ended; return all, and what became of acknowledged changes."""
        ...


class Reversible(Protocol):
    """A change with a way back."""

    @property
    def kind(self) -> str:
        """Return which kind of change this is; the drill of its way back is `rollback_KIND`."""
        ...

    def apply(self) -> Any: ...

    def undo(self) -> Any: ...

    def prove(self) -> str | None:
        """Return why the way back is not proven; None where it is."""
        ...
