"""The records that cross between supervisor, front, worker and command line."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from modelyard.core.release import Traffic

PositiveInt = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]  # 0: any free one
Doors = Literal["http", "grpc"]

TRAFFIC_FILE = "traffic.json"  # the local copy of the traffic table, a `Routes`
RUN_FILE = "run.json"  # who runs here, a `RunInfo`
LOCK_FILE = "run.lock"  # held by the supervisor as long as it lives
CONTROL_SOCKET = "control.sock"
# There as long as a rollout has to be kept: it needs its controller, which is alive until the file's time of
# change, on the monotonic clock.
ROLLOUT_MARK = "rollout.open"
ERROR_FILE = "stderr.log"  # what processes said before they had a log
KEYS_FILE = "keys.json"  # API keys, hashed; a `KeyTable` of keys.py


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bounds of a service."""

    deadline_ms: Seconds = 1_000.0  # where the caller names none
    most_deadline_ms: Seconds = 10_000.0  # what a caller may ask for
    most_body_bytes: PositiveInt = 16 * 1024 * 1024
    most_depth: PositiveInt = 16  # of JSON
    most_rows: PositiveInt = 10_000  # of one request
    queue_rows: PositiveInt = 20_000  # waiting for one release
    queue_bytes: PositiveInt = 64 * 1024 * 1024  # of packed rows, waiting for one release
    max_delay_ms: Annotated[float, msgspec.Meta(ge=0)] = 0.0  # a batch may wait for company; 0: it never does
    batch_rows: PositiveInt = 256  # of one message to a worker
    progress_timeout_s: Seconds = 2.0  # a worker with work for longer is replaced
    idle_check_s: Seconds = 2.0  # golden requests are asked again after this much quiet
    front_timeout_s: Seconds = 5.0  # a front that says nothing for longer is replaced
    start_timeout_s: Seconds = 60.0  # a worker that does not answer by then is replaced
    grace_s: Seconds = 10.0  # for requests in flight when the service stops
    retry_after_s: PositiveInt = 1
    retry_share: Share = 0.1  # of requests that may be tried a second time
    breaker_window_s: Seconds = 10.0  # over which failures are counted
    breaker_least: PositiveInt = 20  # answers in the window before a share of failures means anything
    breaker_share: Share = 0.5  # of failures at which the breaker opens
    breaker_open_s: Seconds = 2.0  # until the first probe
    log_bytes: PositiveInt = 16 * 1024 * 1024  # of one log file; three are kept

    @property
    def rows_at_once(self) -> int:
        """Return how many rows a request may have: more than the queue holds could never be taken."""
        return min(self.most_rows, self.queue_rows)


class BodyRef(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a release's body lies, and the digest that its manifest must have."""

    folder: str
    digest: str
    alias: str | None = None  # own path of the plain rows form; None: the service's


class Routes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The traffic table with all that a front needs to follow it; also the local copy on disk.

    `bodies` has every release with workers: those in the shares, those that their fallbacks name, and those kept
    warm for the way back. `previous` says what the fallback `previous` of a release means; it has workers too.
    """

    traffic: Traffic
    bodies: dict[str, BodyRef]
    previous: dict[str, str] = {}


class SupervisorJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a supervisor is to keep running."""

    service: str
    run_folder: str
    host: str = "127.0.0.1"
    port: Port = 0
    fronts: PositiveInt = 1  # that share the port
    grpc_port: Port | None = None  # None: no gRPC
    management_host: str = "127.0.0.1"
    management_port: Port | None = None  # None: no management address
    alias: str | None = None  # the plain rows form's own path, such as /api/v1/income
    limits: Limits = Limits()
    workers: PositiveInt = 1  # of each release
    threads: PositiveInt = 1  # of each worker
    memory_mb: PositiveInt | None = None  # resident memory of a worker; one above it is replaced
    keep_warm_s: Seconds = 600.0  # a release that left the shares stays up this long
    standby: bool = True  # keep one process with its libraries loaded, for the next worker that is needed
    needs_key: bool = False  # callers must show an API key
    tls_cert: str | None = None  # PEM files; both or none
    tls_key: str | None = None
    pin_versions: bool = False  # a caller may name a version in the traffic table
    trace_sample: Share = 0.0
    log_sample_per_s: Annotated[float, msgspec.Meta(ge=0)] = 100.0  # request lines a second and front
    otlp_endpoint: str | None = None


class FrontJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a front is to answer. `listen_fd` is inherited, and shared by all fronts with the same doors."""

    name: str = "front.0"
    doors: Doors = "http"
    service: str
    run_folder: str
    listen_fd: int
    routes: Routes
    workers: PositiveInt = 1
    fronts: PositiveInt = 1  # that share the socket; a caller's rate is divided among them
    alias: str | None = None
    limits: Limits = Limits()
    keys_file: str | None = None  # None: callers need no key
    guards_pages: bool = False  # whoever reads metadata, statistics or metrics needs one too
    tls_cert: str | None = None
    tls_key: str | None = None
    pin_versions: bool = False
    trace_sample: Share = 0.0
    log_sample_per_s: Annotated[float, msgspec.Meta(ge=0)] = 100.0
    otlp_endpoint: str | None = None


class WorkerJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which body a worker is to run, and where it listens."""

    release: str
    slot: Annotated[int, msgspec.Meta(ge=0)] = 0
    quarantine: bool = False  # for rows under suspicion; in place of a slot
    body: BodyRef
    run_folder: str
    threads: PositiveInt = 1
    memory_mb: PositiveInt | None = None

    @property
    def name(self) -> str:
        return quarantine_name(self.release) if self.quarantine else worker_name(self.release, self.slot)


class ControllerJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose rollout a controller is to keep."""

    service: str
    run_folder: str


def worker_name(release: str, slot: int) -> str:
    """Return the name of a worker, which is its socket's file name too.

    >>> worker_name("income@2", 0)
    'income@2.0'
    """
    return f"{release}.{slot}"


def quarantine_name(release: str) -> str:
    """Return the name of the worker that runs rows which may have ended another.

    >>> quarantine_name("income@2")
    'income@2.q'
    """
    return f"{release}.q"


class WorkerState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a front sees of a worker."""

    connected: bool
    golden: bool | None  # did it answer the golden requests as sealed; None: not asked yet
    waiting_s: float  # since the oldest batch that it has not answered; 0 when idle


class ReleaseCounts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a front answered for a release since it started."""

    requests: int
    degraded: int
    failed: int  # with a server's fault: 500, 503, 504


class FrontReport(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="verb", tag="report"
):
    """What a front says of itself, several times a second, and at once where `suspects` grows.

    `suspects` names releases of which the front holds rows that may have ended a worker: each gets a worker of its
    own for them, named `quarantine_name`, for as long as it is named here and some seconds more.
    """

    pid: int
    name: str = "front.0"
    epoch: int  # of the traffic table it follows
    ready: bool
    requests: int
    degraded: int
    workers: dict[str, WorkerState]
    suspects: tuple[str, ...] = ()
    releases: dict[str, ReleaseCounts] = {}


class FrontHello(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="verb", tag="front"):
    """A front's first line on the control socket: routes are wanted from now on."""

    pid: int


class Poke(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="verb", tag="reload"):
    """Read the service's row again."""


class Follow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="verb", tag="follow"):
    """Take the local copy of the traffic table, if it is newer, without asking the store."""


class Stop(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="verb", tag="stop"):
    """Drain and end."""


class AskStatus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="verb", tag="status"):
    """Say how the service is."""


class Warm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="verb", tag="warm"):
    """Load a release beside those that answer."""

    release: str


class Cool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="verb", tag="cool"):
    """Let go of a release that was loaded and does not answer."""

    release: str


Line = Poke | Follow | Stop | AskStatus | Warm | Cool | FrontHello | FrontReport  # what the control socket reads


class Push(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the supervisor tells a front."""

    routes: Routes


class ChildInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A process that the supervisor started. `start_ticks` tells it from a later one of the same pid."""

    kind: str  # "front" | "worker" | "controller"
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
    grpc_port: int | None = None
    management_port: int | None = None
    tls: bool = False
    tls_cert: str | None = None  # the certificate's path
    needs_key: bool = False
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
    fronts: dict[str, FrontReport]  # by name; one that has not said anything yet is missing
    standby: int | None = None  # process that waits to become the next worker


class Done(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The answer to the other commands."""

    ok: bool
    detail: str
