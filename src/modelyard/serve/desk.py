"""Where requests meet doors, releases and answers: all of the front but its sockets."""

from __future__ import annotations

import asyncio
import gc
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from modelyard.bundle.format import Body
from modelyard.core.clock import Clock
from modelyard.errors import ContractBroken
from modelyard.serve.batching import Work
from modelyard.serve.call import FAULT, Call
from modelyard.serve.doors import Door, Malformed, TooLarge
from modelyard.serve.guard import priority
from modelyard.serve.guard.breaker import State
from modelyard.serve.guard.deadlines import Deadlines
from modelyard.serve.guard.keys import Keys
from modelyard.serve.guard.poison import Poison, digest_of
from modelyard.serve.guard.retry import RetryBudget
from modelyard.serve.guard.wanted import read_deadline_ms
from modelyard.serve.lane import Lane
from modelyard.serve.messages import Limits, Routes
from modelyard.serve.pages import aliases, any_version, pages, questions
from modelyard.serve.request import Code, Request
from modelyard.serve.routing import Met, choose, meet
from modelyard.serve.shadow.mirror import Mirror
from modelyard.serve.table import Table
from modelyard.serve.told.arm import ERRORS, Arms
from modelyard.serve.told.log import Log
from modelyard.serve.told.metrics import Metrics
from modelyard.serve.told.telling import BREAKER, Teller
from modelyard.serve.told.trace import Trace
from modelyard.serve.told.tracer import Tracer
from modelyard.serve.v2.pages import missing
from modelyard.serve.wire import LATE, AnswerFrame

Handler = Callable[[Request], None]

COLLECT_S = 0.5  # after a release left, until what was kept of it is collected
MOST_ERROR = 1000  # characters of a fault that callers are told in one line


class Desk:
    """Answers requests by the traffic table it follows. Of one thread, the event loop's."""

    def __init__(
        self,
        *,
        service: str,
        run_folder: Path,
        alias: str | None,
        workers: int,
        limits: Limits,
        version: str,
        clock: Clock,
        log: Log | None = None,
        metrics: Metrics | None = None,
        tracer: Tracer | None = None,
        keys: Keys | None = None,
        pin_versions: bool = False,
        trace_sample: float = 0.0,
    ) -> None:
        self.service, self._alias, self.limits, self.version = service, alias, limits, version
        self.run_folder, self.keys, self.pin_versions = run_folder, keys, pin_versions
        self.trace_sample = trace_sample
        self.metrics = metrics or Metrics()
        self.teller = Teller(metrics=self.metrics, clock=clock, log=log, tracer=tracer)
        self.arms = Arms(self.metrics.arms, run_folder, self._arm_fault)
        self.mirror = Mirror(self.metrics, self.note, lambda release: self.lanes[release].arm)
        self.table = Table(run_folder=run_folder, workers=workers, limits=limits, watcher=self, switched=self._switched)
        self.draining = False
        self.retry_after_s = limits.retry_after_s
        self.poison = Poison()
        self.on_news: Callable[[], None] | None = None  # called when the supervisor waits to hear of something
        self.deadlines: Deadlines
        now = time.monotonic()
        self._budget = RetryBudget(now, share=limits.retry_share)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._only: Lane | None = None  # the one release that any request meets, where it is one
        self._paths: dict[bytes, dict[bytes, Handler]] = {}
        self._questions: dict[bytes, tuple[Door, str | None]] = {}  # the paths of predictions, found first
        self._deadline_s = limits.deadline_ms / 1000
        self._tracer = tracer
        self.good, self.told = self.teller.good, self.teller.ended

    @property
    def lanes(self) -> dict[str, Lane]:
        return self.table.lanes

    @property
    def routes(self) -> Routes | None:
        return self.table.routes

    @property
    def aliases(self) -> tuple[str, ...]:
        return aliases(self.table, self._alias)

    @property
    def ready(self) -> bool:
        """Say whether every release in the shares just answered its golden requests correctly."""
        return not self.draining and self.routes is not None and all(lane.ready for lane in self.table.live)

    @property
    def alive(self) -> bool:
        """Say whether every last batch finished in time, or there was none."""
        return all(lane.alive for lane in self.table.live)

    @property
    def epoch(self) -> int:
        return self.table.epoch

    @property
    def suspects(self) -> tuple[str, ...]:
        """Return the releases with rows that may have ended a worker."""
        return tuple(release for release, lane in self.lanes.items() if lane.has_suspects)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to look for workers."""
        self._loop = loop
        self.deadlines = Deadlines(loop)
        self.table.start(loop)
        self.mirror.start(loop)

    def open(self, release: str, body: Body) -> None:
        """Know a release; raises ContractBroken where its golden requests break its own contract."""
        self.table.open(release, body)

    def adopt(self, routes: Routes) -> None:
        """Follow a traffic table, once its releases answer."""
        self.table.adopt(routes)

    def switch_if_ready(self) -> None:
        """Take the newer table once all its releases answer."""
        self.table.switch_if_ready()

    def close(self) -> None:
        """Let go of all workers."""
        self.mirror.close()
        self.table.close()

    # requests

    def handle(self, request: Request) -> None:
        """Answer a request, now or later; nothing that it does is raised."""
        try:
            question = self._questions.get(request.path)
            if question is not None and request.method == b"POST":
                self.infer(request, question[0], question[1])
                return
            methods = self._paths.get(request.path) or self._paths.get(any_version(request.path))
            if methods is None:
                self.refuse(request, Code.NOT_FOUND, missing(request.path, self.service))
                return
            handler = methods.get(b"GET" if request.method == b"HEAD" else request.method)
            if handler is None:
                allowed = b"allow: " + b", ".join(sorted(methods)) + b"\r\n"
                self.refuse(request, Code.WRONG_METHOD, "This path does not take this method.", extra=allowed)
                return
            handler(request)
        except Exception as fault:  # noqa: BLE001 - a fault of ours must neither leave a caller without reply nor leak
            self.note("front_fault", request=request.id, why=f"{type(fault).__name__}: {fault}"[:500])
            self.refuse(request, Code.FAILED, FAULT)

    def infer(self, request: Request, door: Door, release: str | None = None) -> None:
        """Answer a request for predictions, now or later."""
        now = request.arrived
        if self.keys is not None and not self._may_ask(request, self.keys, door, now):
            return
        lane = self._lane(request) if release is None else self._pinned(request, release)
        headers = request.headers
        trace, tracer = None, self._tracer
        if tracer is not None:
            if not request.is_plain:
                trace = tracer.begin(headers, now)
            elif tracer.pass_over > 0:
                tracer.pass_over -= 1
            else:
                trace = tracer.begin_own(now)
        try:
            deadline_s, urgency = self._deadline_s, priority.NORMAL
            if not request.is_plain:
                if headers.get(b"content-encoding", b"identity").lower() != b"identity":
                    message = "The body is compressed; send it as it is, without Content-Encoding."
                    self.refuse(request, Code.WRONG_CODING, message, lane=lane, door=door, trace=trace)
                    return
                if b"x-deadline-ms" in headers:
                    deadline_s = self._wanted_s(headers)
                if b"x-priority" in headers:
                    urgency = _urgency(headers)
            asked = door.read(request, lane.model)
            wishes = asked.wishes
            if wishes is not None:
                if wishes.timeout_s is not None:
                    deadline_s = min(deadline_s, wishes.timeout_s)
                if wishes.priority is not None:
                    urgency = wishes.priority
        except (Malformed, TooLarge, ContractBroken) as fault:
            self._refuse_unreadable(request, fault, lane, door, trace)
            return
        if self.poison.suspects and self._is_poison(request, lane, door, trace, now):
            return
        if lane.model.watches_categories:
            for name in lane.model.unknown_categories(asked.packed):
                self.metrics.unknown.add(lane.release, name)
        Call(request, door, asked, lane, now + deadline_s, urgency, self, trace).start(now)

    def refuse(
        self,
        request: Request,
        code: Code,
        message: str,
        *,
        lane: Lane | None = None,
        door: Door | None = None,
        trace: Trace | None = None,
        faults: Sequence[str] = (),
        retry_after_s: int | None = None,
        extra: bytes = b"",
    ) -> None:
        """Refuse a request that was not queued, and count it."""
        if request.sent:
            return
        by = b"front" if lane is None else lane.model.release_bytes
        release, name = "" if lane is None else lane.release, "" if door is None else door.name
        self.teller.refused(request, code, release, name, trace)
        if lane is not None and lane.arm is not None and code in ERRORS:
            lane.arm.refused(request)
        if trace is not None:
            request.trace = trace.traceparent
        request.refuse(code, message, served_by=by, faults=faults, retry_after_s=retry_after_s, extra=extra)

    # what calls and lanes tell

    def may_retry(self, lane: Lane) -> bool:
        """Take leave for one retry."""
        allowed = self._budget.take(time.monotonic())
        self.metrics.retries.add(lane.release, "tried" if allowed else "refused")
        return allowed

    def shed(self, call: Call, why: str) -> None:
        if why == "gone":
            self.metrics.dropped.add(call.lane.release, why, by=call.rows)
        else:
            self.metrics.refuse(call.lane.release, why)

    def unreadable(self, call: Call, fault: Exception) -> None:
        self._refuse_unreadable(call.request, fault, call.lane, call.door, call.trace)

    def answered(self, lane: Lane, batch: Sequence[Work], frame: AnswerFrame, took_s: float) -> None:
        if not batch[0].retried:  # what is tried again is alone in its batch, and is no new request
            self._budget.asked(time.monotonic(), by=len(batch))
        if self.poison.suspects and frame.reason != LATE:  # the worker survived them, whatever it answered
            for work in batch:
                self.poison.clear(work.body_digest)
        self.teller.answered(lane, batch, frame, took_s)

    def encoded(self, lane: Lane, each_s: float) -> None:
        self.teller.encoded(lane, each_s)

    def blame(self, batch: Sequence[Work]) -> None:
        """Note once, for each body of a batch, that it was with a worker when that was lost."""
        now = time.monotonic()
        for digest in {work.body_digest for work in batch}:
            self.poison.blame(digest, now)

    def dropped(self, release: str, rows: int, reason: str) -> None:
        self.metrics.dropped.add(release, reason, by=rows)

    def breaker_moved(self, release: str, before: State, after: State) -> None:
        self.metrics.breaker_state.put(release, value=BREAKER[after])
        if after is State.OPEN:
            self.metrics.breaker_opened.add(release)
        self.note("breaker", release=release, before=before.value, after=after.value)

    def suspects_changed(self) -> None:
        if self.on_news is not None:
            self.on_news()

    def note(self, event: str, **facts: object) -> None:
        """Log what happened to the service itself."""
        if event == "golden":
            self.switch_if_ready()
            if self.on_news is not None:
                self.on_news()
        self.teller.note(event, **facts)

    def measure(self) -> None:
        """Bring the gauges up to date."""
        metrics = self.metrics
        for release, lane in self.lanes.items():
            metrics.queue.put(release, value=lane.queue.rows)
            metrics.queue_bytes.put(release, value=lane.queue.size_bytes)
            metrics.ready.put(release, value=int(lane.ready))
            metrics.workers.put(release, value=sum(link.is_ready for link in lane.links))
        metrics.epoch.put(value=self.epoch)
        metrics.poisoned.put(value=self.poison.count(time.monotonic()))
        log = self.teller.log
        if log is not None:
            metrics.follow(metrics.log_drops, log.dropped)
            metrics.log_sampled.put(value=log.p)

    # ours

    def _refuse_unreadable(
        self, request: Request, fault: Exception, lane: Lane, door: Door, trace: Trace | None
    ) -> None:
        """Refuse what a door raised this for."""
        if isinstance(fault, ContractBroken):
            self.teller.broken(lane.model, fault.faults)
            message, code = str(fault)[:MOST_ERROR], Code.BROKEN_CONTRACT
            self.refuse(request, code, message, lane=lane, door=door, trace=trace, faults=fault.faults)
            return
        code = Code.TOO_LARGE if isinstance(fault, TooLarge) else Code.MALFORMED
        self.refuse(request, code, str(fault), lane=lane, door=door, trace=trace)

    def _told_and_copied(self, call: Call, code: Code, degraded: str | None, by: str) -> None:
        self.teller.ended(call, code, degraded, by)
        self.mirror.ended(call, code, degraded)

    def _lane(self, request: Request) -> Lane:
        if self._only is not None:
            return self._only
        assert self.routes is not None
        traffic = self.routes.traffic
        met = meet(traffic, request.headers, request.id)
        if met.release not in self.lanes:  # a rule names one that cannot be opened here, and it holds nobody up
            release, probability = choose(traffic, request.id)
            met = Met(release, traffic.epoch, probability)
        request.met = met
        return self.lanes[met.release]

    def _pinned(self, request: Request, release: str) -> Lane:
        """Return the lane of the release that the caller named."""
        if self._only is None:
            request.met = Met(release, self.epoch, 1.0, pinned=True)
        return self.lanes[release]

    def _may_ask(self, request: Request, keys: Keys, door: Door | None, now: float) -> bool:
        """Say whether the caller's key allows the request; refuse it where not."""
        label = keys.check(request.headers)
        if label is None:
            message = "An API key is needed: send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`."
            self.refuse(request, Code.NO_KEY, message, door=door)
            return False
        wait_s = keys.allow(label, now)
        if wait_s is not None:
            self.metrics.refuse("", "rate")
            message = "This key has asked more often than it may."
            self.refuse(request, Code.TOO_MANY, message, door=door, retry_after_s=max(1, math.ceil(wait_s)))
            return False
        return True

    def _is_poison(self, request: Request, lane: Lane, door: Door, trace: Trace | None, now: float) -> bool:
        """Refuse a body that twice ended a worker."""
        left_s = self.poison.blocked(digest_of(request.body), now)
        if left_s is None:
            return False
        self.metrics.refuse(lane.release, "poisoned")
        message = "Workers ended twice while they had this very body; it is refused for a while."
        wait_s = math.ceil(left_s)
        self.refuse(request, Code.NOT_NOW, message, lane=lane, door=door, trace=trace, retry_after_s=wait_s)
        return True

    def _wanted_s(self, headers: dict[bytes, bytes]) -> float:
        wanted = read_deadline_ms(headers[b"x-deadline-ms"])
        if wanted is None:
            raise Malformed("`X-Deadline-Ms` must be a number of milliseconds above 0.")
        return min(wanted, self.limits.most_deadline_ms) / 1000

    def _arm_fault(self, fault: Exception) -> None:
        self.note("arm_fault", why=f"{type(fault).__name__}: {fault}"[:500])

    def _switched(self, gone: str) -> None:
        """Take in that the table changed, or let go of a release that left it."""
        if gone:
            self.mirror.forget(gone)
            self.teller.forget(gone)
            if self._loop is not None:  # its lane and types refer to each other; the collector seldom walks so far
                self._loop.call_later(COLLECT_S, gc.collect)
            return
        assert self.routes is not None
        live, traffic = self.table.live, self.routes.traffic
        self._only = live[0] if len(live) == 1 and not traffic.rules else None
        self._paths, self._questions = pages(self), questions(self)
        self.arms.follow(traffic, self.lanes)
        self.mirror.follow(traffic, self.lanes)
        self.told = self._told_and_copied if self.mirror.lanes else self.teller.ended
        self.note("traffic", epoch=traffic.epoch, shares=traffic.shares)


def _urgency(headers: dict[bytes, bytes]) -> int:
    try:
        return priority.read(headers[b"x-priority"])
    except ValueError as fault:
        raise Malformed(str(fault)) from fault
