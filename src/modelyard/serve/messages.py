"""The records that cross between supervisor, front, worker and command line."""

from __future__ import annotations

from typing import Annotated

import msgspec

from modelyard.core.release import Traffic

PositiveInt = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]

TRAFFIC_FILE = "traffic.json"  # the local copy of the traffic table, a `Routes`
RUN_FILE = "run.json"  # who runs here, a `RunInfo`
LOCK_FILE = "run.lock"  # held by the supervisor as long as it lives
CONTROL_SOCKET = "control.sock"
LOG_FILE = "service.log"  # JSON lines of the front
ERROR_FILE = "stderr.log"  # what processes said before they had a log


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bounds of a service."""

    deadline_ms: Seconds = 1_000.0  # where the caller names none
    most_deadline_ms: Seconds = 10_000.0  # what a caller may ask for
    most_body_bytes: PositiveInt = 16 * 1024 * 1024
    most_depth: PositiveInt = 16  # of JSON
    most_rows: PositiveInt = 10_000  # of one request
    queue_rows: PositiveInt = 20_000  # waiting for one release
    batch_rows: PositiveInt = 256  # of one message to a worker
    progress_timeout_s: Seconds = 2.0  # a worker with work for longer is replaced
    idle_check_s: Seconds = 2.0  # golden requests are asked again after this much quiet
    front_timeout_s: Seconds = 5.0  # a front that says nothing for longer is replaced
    start_timeout_s: Seconds = 60.0  # a worker that does not answer by then is replaced
    grace_s: Seconds = 10.0  # for requests in flight when the service stops
    retry_after_s: PositiveInt = 1
    log_bytes: PositiveInt = 16 * 1024 * 1024  # of one log file; three are kept

    @property
    def rows_at_once(self) -> int:
        """Return how many rows a request may have: more than the queue holds could never be taken."""
        return min(self.most_rows, self.queue_rows)


class BodyRef(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a release's body lies, and the digest that its manifest must have."""

    folder: str
    digest: str


class Routes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The traffic table with all that a front needs to follow it; also the local copy on disk.

    `bodies` has every release with workers: those in the shares, and those kept warm for the way back.
    """

    traffic: Traffic
    bodies: dict[str, BodyRef]


class SupervisorJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a supervisor is to keep running."""

    service: str
    run_folder: str
    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0  # 0: any free one
    alias: str | None = None  # the plain rows form's own path, such as /api/v1/income
    limits: Limits = Limits()
    workers: PositiveInt = 1  # of each release
    threads: PositiveInt = 1  # of each worker
    memory_mb: PositiveInt | None = None  # address space of a worker
    keep_warm_s: Seconds = 600.0  # a release that left the shares stays up this long


class FrontJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a front is to answer. `listen_fd` is inherited."""

    service: str
    run_folder: str
    listen_fd: int
    routes: Routes
    workers: PositiveInt = 1
    alias: str | None = None
    limits: Limits = Limits()


class WorkerJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which body a worker is to run, and where it listens."""

    release: str
    slot: Annotated[int, msgspec.Meta(ge=0)]
    body: BodyRef
    run_folder: str
    threads: PositiveInt = 1
    memory_mb: PositiveInt | None = None

    @property
    def name(self) -> str:
        return worker_name(self.release, self.slot)


def worker_name(release: str, slot: int) -> str:
    """Return the name of a worker, which is its socket's file name too.

    >>> worker_name("income@2", 0)
    'income@2.0'
    """
    return f"{release}.{slot}"


class WorkerState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a front sees of a worker."""

    connected: bool
    golden: bool | None  # did it answer the golden requests as sealed; None: not asked yet
    waiting_s: float  # since the oldest batch that it has not answered; 0 when idle


class FrontReport(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="verb", tag="report"
):
    """What a front says of itself, several times a second."""

    pid: int
    epoch: int  # of the traffic table it follows
    ready: bool
    requests: int
    degraded: int
    workers: dict[str, WorkerState]


class FrontHello(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="verb", tag="front"):
    """A front's first line on the control socket: routes are wanted from now on."""

    pid: int


class Poke(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="verb", tag="reload"):
    """Read the service's row again."""


class Stop(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="verb", tag="stop"):
    """Drain and end."""


class AskStatus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="verb", tag="status"):
    """Say how the service is."""


Line = Poke | Stop | AskStatus | FrontHello | FrontReport  # what the control socket reads


class Push(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the supervisor tells a front."""

    routes: Routes
    restarts: dict[str, int]  # workers replaced so far, by release
    front_restarts: int


class ChildInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A process that the supervisor started. `start_ticks` tells it from a later one of the same pid."""

    kind: str  # "front" | "worker"
    name: str
    pid: int
    start_ticks: int
    restarts: int


class RunInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The run file: who serves here."""

    service: str
    pid: int
    start_ticks: int
    host: str
    port: int
    started: str
    children: tuple[ChildInfo, ...] = ()

    def having(self, children: tuple[ChildInfo, ...]) -> RunInfo:
        """Return this with these processes."""
        return msgspec.structs.replace(self, children=children)


class Status(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The answer to `status`."""

    run: RunInfo
    routes: Routes
    ready: bool
    draining: bool
    store: str  # "reachable" | why it is not
    front: FrontReport | None


class Done(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The answer to the other commands."""

    ok: bool
    detail: str
