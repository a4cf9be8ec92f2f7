"""The verb that measures a service under load: at an address, or one of a release that is started for it."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec.structs import replace

from modelyard.app.measured import MeasuredJob
from modelyard.app.records import Records
from modelyard.app.sealed_spec import spec_of
from modelyard.app.service import last_words
from modelyard.app.serving import supervisor_job
from modelyard.app.settings import DATABASE_URL, HOME, Settings
from modelyard.app.spawn import child_environment
from modelyard.app.telling import check_out
from modelyard.bundle.open import read_body
from modelyard.core.clock import stamp
from modelyard.core.codec import encode, encode_pretty, write_atomic
from modelyard.core.load import Arrivals, Found, LoadPlan, LoadReport, LoadResult
from modelyard.core.machine import fingerprint
from modelyard.core.ports import Progress
from modelyard.core.requirement import Direction, Requirement
from modelyard.errors import NotRunning, ServiceError, TooLarge, Unreadable, UsageError
from modelyard.loadtest import find_rate, measure, parse_address
from modelyard.loadtest.address import MOST_BODIES, MOST_BODY_BYTES, parse_headers
from modelyard.loadtest.measure import Subject
from modelyard.loadtest.summary import JUDGED
from modelyard.serve.keep import control
from modelyard.serve.keep.runfile import end_orphans, read_run
from modelyard.serve.messages import ERROR_FILE, RunInfo, SupervisorJob
from modelyard.spec.system import System

READY_TIMEOUT_S = 60.0
END_TIMEOUT_S = 20.0
ROWS_PATH = "/predict"  # the plain rows form, which every service has


@dataclass(frozen=True, kw_only=True)
class LoadWish:
    """What `bench` is told. `plan.rate` of None asks for the highest rate, in an open loop."""

    target: str  # a URL, or a release
    plan: LoadPlan
    p99_ms: float | None = None
    body: Path | None = None
    headers: Sequence[str] = ()
    path: str = ROWS_PATH  # where a release is asked
    rows: int = 1  # of one request to a release
    ca: Path | None = None
    price_per_cpu_hour: float | None = None
    out: Path | None = None
    overwrite: bool = False


class Bench(Records):
    """Measures services."""

    def __init__(self, settings: Settings | None = None, *, progress: Progress, command: str = "python") -> None:
        super().__init__(settings, command=command)
        self.progress = progress

    def bench(self, wish: LoadWish) -> LoadReport:
        """Measure a service, and write the record where asked.

        Raises: UsageError where the wish does not go together; NotRunning or ServiceError where nothing answers well.
        """
        if wish.out is not None:
            check_out(wish.out, overwrite=wish.overwrite)
        if wish.plan.arrivals is Arrivals.CLOSED and wish.p99_ms is not None:
            raise UsageError(
                "A closed loop waits for the server and so hides its stalls: it judges no latency. "
                "Give --rate instead of --connections, or leave --p99-ms away."
            )
        report = self._address(wish) if "://" in wish.target else self._release(wish)
        if wish.out is not None:
            write_atomic(wish.out, encode_pretty(report))
        return report

    def _address(self, wish: LoadWish) -> LoadReport:
        address = parse_address(wish.target, ca=wish.ca)
        if wish.body is None:
            raise UsageError("What to send to an address is not known. Give a request's body: --body FILE.")
        run = next(
            (one.run for one in control.running(self.settings.home / "run") if one.run.port == address.port), None
        )
        subject = Subject(
            address=address,
            bodies=[_read(wish.body)],
            headers=parse_headers(wish.headers),
            roots=() if run is None else _pids(run),
            price_per_cpu_hour=wish.price_per_cpu_hour,
        )
        return self._measured(wish, subject, _asked(wish), release=None)

    def _release(self, wish: LoadWish) -> LoadReport:
        with self.store() as store:
            release = store.releases.get(wish.target)
            folder = store.releases.body(release.id)
            spec = spec_of(folder)
            records = [record for _, record in store.releases.evidence(release.id)]
        bodies = _bodies(folder, wish.rows) if wish.body is None else [_read(wish.body)]
        price = spec.serving.price_per_cpu_hour if wish.price_per_cpu_hour is None else wish.price_per_cpu_hour
        requirements = _asked(wish) or _required(spec)
        self.progress.say(f"starting a service of {release.id} for this measurement")
        job, left_out = alone(supervisor_job(spec.name, Path(), spec, records, host="127.0.0.1", port=0))
        with _service(str(release.id), job, self.settings) as run:
            subject = Subject(
                address=parse_address(f"http://127.0.0.1:{run.port}{wish.path}"),
                bodies=bodies,
                headers=parse_headers(wish.headers),
                roots=_pids(run),
                price_per_cpu_hour=price,
            )
            report = self._measured(wish, subject, requirements, release=str(release.id))
            return replace(report, left_out=left_out)

    def _measured(
        self, wish: LoadWish, subject: Subject, requirements: Sequence[Requirement], *, release: str | None
    ) -> LoadReport:
        plan, found = wish.plan, None
        result: LoadResult | None
        if plan.arrivals is not Arrivals.CLOSED and plan.rate is None:
            found, result = self._found(subject, plan, requirements)
        else:
            judged = () if plan.arrivals is Arrivals.CLOSED else requirements
            result = measure(subject, plan, self.progress, requirements=judged)
        return LoadReport(
            target=wish.target if release is None else subject.address.path,
            release=release,
            recorded=stamp(self.clock.now()),
            machine=fingerprint(),
            body_bytes=max(map(len, subject.bodies)),
            bodies=len(subject.bodies),
            result=result,
            found=found,
        )

    def _found(
        self, subject: Subject, plan: LoadPlan, requirements: Sequence[Requirement]
    ) -> tuple[Found, LoadResult | None]:
        if not requirements:
            raise UsageError(
                "The highest rate needs a bound on a latency: give --p99-ms, or a release whose spec has one. "
                "Or give --rate for one rate, --connections for capacity."
            )
        return find_rate(subject, plan, requirements, self.progress)


def _asked(wish: LoadWish) -> list[Requirement]:
    if wish.p99_ms is None:
        return []
    metric = "latency_p99_ms"
    return [Requirement(id=metric, metric=metric, direction=Direction.AT_MOST, bound=wish.p99_ms, needs_labels=False)]


def _required(spec: System) -> list[Requirement]:
    """Return the spec's bounds on latency."""
    lines = [line for line in spec.requirement_records() if line.metric in JUDGED and line.bound is not None]
    return [replace(line, margin=None) for line in lines]


def alone(job: SupervisorJob) -> tuple[SupervisorJob, tuple[str, ...]]:
    """Return the job of a service that only its measurer talks to, and what it leaves out, in words.

    Ports are any free ones, so that it does not meet the service that runs already.
    """
    switched = {
        "API keys": job.needs_key,
        "TLS": job.tls_cert is not None,
        "the management address": job.management_port is not None,
        "the export of traces": job.otlp_endpoint is not None,
    }
    changed = replace(
        job,
        grpc_port=None if job.grpc_port is None else 0,
        management_port=None,
        needs_key=False,
        tls_cert=None,
        tls_key=None,
        otlp_endpoint=None,
    )
    return changed, tuple(name for name, on in switched.items() if on)


def _bodies(folder: Path, rows: int) -> list[bytes]:
    """Return requests of so many rows each, made from the golden rows in turn."""
    golden = read_body(folder).golden.rows
    if not golden:
        raise UsageError("The release has no golden rows to send. Give a request's body: --body FILE.")
    turn = itertools.cycle(golden)
    return [
        msgspec.json.encode({"rows": [next(turn) for _ in range(rows)]}) for _ in range(min(len(golden), MOST_BODIES))
    ]


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BODY_BYTES:
            raise TooLarge(f"`{path}` has more than {MOST_BODY_BYTES} bytes: no body of one request.")
        return path.read_bytes()
    except OSError as fault:
        raise Unreadable(f"`{path}` cannot be read: {fault.strerror}.") from fault


def _pids(run: RunInfo) -> list[int]:
    return [run.pid, *(child.pid for child in run.children)]


@contextlib.contextmanager
def _service(release: str, job: SupervisorJob, settings: Settings) -> Iterator[RunInfo]:
    """Run a service of one release in a run folder and a process of its own."""
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as place:
        folder = Path(place)
        job = replace(job, run_folder=place)
        environment = {**child_environment(), HOME: str(settings.home)}
        if settings.database_url is not None:
            environment[DATABASE_URL] = settings.database_url
        with (folder / ERROR_FILE).open("ab") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "modelyard.app.measured"],
                stdin=subprocess.PIPE,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
                env=environment,
            )
        try:
            assert process.stdin is not None
            process.stdin.write(encode(MeasuredJob(release=release, job=job)) + b"\n")
            process.stdin.flush()
            yield _await_ready(process, folder)
        finally:
            _end(process, folder)


def _await_ready(process: subprocess.Popen[bytes], folder: Path) -> RunInfo:
    for _ in range(int(READY_TIMEOUT_S / 0.2)):
        try:
            return control.wait_ready(folder, 0.2).run
        except (NotRunning, ServiceError):
            if process.poll() is not None:
                raise last_words(folder / ERROR_FILE, process.returncode) from None
    raise ServiceError(f"The service for the measurement was not ready within {READY_TIMEOUT_S:g} s.")


def _end(process: subprocess.Popen[bytes], folder: Path) -> None:
    """End the service: it drains when its input does; what will not end is ended."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it has ended already
        process.stdin.close()
    try:
        process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    run = read_run(folder)
    if run is not None:
        end_orphans(run)
