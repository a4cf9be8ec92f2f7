"""One measurement: try the address, load it by the plan, and say what was seen."""

from __future__ import annotations

import asyncio
import gc
import http.client
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import uvloop

from modelyard.core.load import Arrivals, LoadPlan, LoadResult
from modelyard.core.ports import Progress
from modelyard.core.requirement import Requirement
from modelyard.errors import DeadlineExceeded, NotRunning, ServiceError, UsageError
from modelyard.loadtest.address import Address, request_bytes
from modelyard.loadtest.generator import Generator
from modelyard.loadtest.summary import JUDGED, summarize
from modelyard.loadtest.tally import MOST_REQUESTS, Tally
from modelyard.loadtest.usage import LOOPBACK, Watch, busy_s, holders_of

SHOWN_BYTES = 300  # of an answer that is no good


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is asked, and what is known of who answers."""

    address: Address
    bodies: Sequence[bytes]  # sent in turn
    headers: Mapping[str, str] = field(default_factory=dict)
    roots: Sequence[int] = ()  # processes of the server, where known
    price_per_cpu_hour: float | None = None

    @property
    def is_elsewhere(self) -> bool:
        """Say whether the server is taken to be on another machine."""
        return not self.roots and self.address.host not in LOOPBACK


def measure(
    subject: Subject, plan: LoadPlan, progress: Progress, *, requirements: Sequence[Requirement] = (), name: str = ""
) -> LoadResult:
    """Load a service by the plan and return what was measured.

    Raises: UsageError for a plan that cannot be held in memory or requirements that it cannot judge; NotRunning,
    DeadlineExceeded or ServiceError where the first request gets no good answer.
    """
    _check(plan, subject, requirements)
    try_once(subject, plan.timeout_s)
    watch, cautions = _watch(subject)
    requests = [request_bytes(subject.address, body, subject.headers) for body in subject.bodies]
    cpu: list[tuple[float, float, float | None]] = []  # when; the generator's own until then; all of the machine

    def mark(began: bool) -> None:
        cpu.append((time.monotonic(), time.process_time(), busy_s()))
        if watch is not None:
            watch.begin() if began else watch.look()

    def tick(elapsed: float, tally: Tally) -> None:
        if watch is not None:
            watch.look()
        phase = "warm-up, " if elapsed < plan.warmup_s else ""
        progress.advance(min(elapsed, plan.warmup_s + plan.seconds), f"{phase}{len(tally)} requests measured")

    progress.stage(name or _name(plan), total=plan.warmup_s + plan.seconds)
    generator = Generator(subject.address, requests, plan, mark=mark, tick=tick)
    with _undisturbed(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        tally = runner.run(generator.run())
    progress.advance(plan.warmup_s + plan.seconds)
    (began, own_before, all_before), (ended, own_after, all_after) = cpu
    elapsed = ended - began  # a loop that was kept from running marks the end too late
    usage = None if watch is None else watch.end(elapsed, len(tally.answered_within(plan.seconds)))
    own = own_after - own_before
    foreign = None
    if all_before is not None and all_after is not None and (usage is not None or subject.is_elsewhere):
        foreign = all_after - all_before - own - (0.0 if usage is None else usage.cpu_s)
    return summarize(
        plan,
        tally,
        extra_sent=1,
        generator_cpu_s=own * plan.seconds / elapsed,
        foreign_cpu_s=None if foreign is None else foreign * plan.seconds / elapsed,
        usage=usage,
        price_per_cpu_hour=subject.price_per_cpu_hour,
        requirements=requirements,
        cautions=cautions,
    )


def try_once(subject: Subject, timeout_s: float) -> None:
    """Send one request and look at its answer, so that a wrong address or body is said before any load."""
    address = subject.address
    if address.tls is None:
        client = http.client.HTTPConnection(address.host, address.port, timeout=timeout_s)
    else:
        client = http.client.HTTPSConnection(address.host, address.port, timeout=timeout_s, context=address.tls)
    headers = {"Content-Type": "application/json", **subject.headers}
    with closing(client):
        try:
            client.request("POST", address.path, body=subject.bodies[0], headers=headers)
            reply = client.getresponse()
            text = reply.read(SHOWN_BYTES).decode(errors="replace")
        except TimeoutError as fault:
            raise DeadlineExceeded(f"{address.url} gave no answer to a first request in {timeout_s:g} s.") from fault
        except (OSError, http.client.HTTPException) as fault:
            raise NotRunning(f"{address.url} does not answer: {fault}.") from fault
    if not 200 <= reply.status < 300:
        raise ServiceError(f"{address.url} answered a first request with {reply.status}: {text}")


def _check(plan: LoadPlan, subject: Subject, requirements: Sequence[Requirement]) -> None:
    if plan.rate is not None and plan.rate * (plan.warmup_s + plan.seconds) > MOST_REQUESTS:
        raise UsageError(
            f"{plan.rate:g} requests/s for {plan.warmup_s + plan.seconds:g} s are more than {MOST_REQUESTS} requests. "
            "Take a lower rate or a shorter time."
        )
    if plan.rate is not None and plan.rate * plan.seconds < 1:
        raise UsageError(f"No request falls due in {plan.seconds:g} s at {plan.rate:g} requests/s. Take a longer time.")
    if not subject.bodies:
        raise UsageError("There is no body to send.")
    if requirements and plan.arrivals is Arrivals.CLOSED:
        raise UsageError(
            "A closed loop waits for the server and so hides its stalls: it judges no latency. Give --rate."
        )
    for one in requirements:
        if one.metric not in JUDGED or one.bound is None:
            raise UsageError(f"`{one.id}` cannot be judged under load; wanted a bound on {', '.join(JUDGED)}.")


def _watch(subject: Subject) -> tuple[Watch | None, tuple[str, ...]]:
    """Return who watches the server's processes, and what to be careful about."""
    address = subject.address
    if subject.is_elsewhere:
        return None, ("the server is on another machine: its CPU and memory were not seen",)
    watch = Watch(subject.roots or holders_of(address.port))
    watch.find()
    if not watch.sees_any:
        return None, ("the server's processes could not be seen: its CPU and memory were not measured",)
    return watch, ("the generator and the server shared this machine's cores",)


def _name(plan: LoadPlan) -> str:
    if plan.arrivals is Arrivals.CLOSED:
        return f"closed loop, {plan.connections} connections"
    return f"open loop, {plan.rate:g} requests/s, {plan.arrivals}"


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep the garbage collector from stopping the generator: what a load makes, it counts away."""
    was: Callable[[], None] = gc.enable if gc.isenabled() else gc.disable
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        was()
