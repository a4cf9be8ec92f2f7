"""Where requests meet doors, releases and answers: all of the front but its sockets."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelyard.bundle.format import Body
from modelyard.bundle.open import read_body, verify
from modelyard.core.arrays import Columns
from modelyard.core.clock import Clock
from modelyard.core.contract import Contract, Kind
from modelyard.errors import BundleError, ContractBroken
from modelyard.serve import v2
from modelyard.serve.call import Call
from modelyard.serve.doors import Door, Malformed, TooLarge, fault_records, refusal
from modelyard.serve.http import TEXT, Code, Request
from modelyard.serve.lane import Lane
from modelyard.serve.log import Log
from modelyard.serve.messages import Limits, Routes
from modelyard.serve.metrics import Metrics
from modelyard.serve.routing import choose
from modelyard.serve.rows import RowsDoor

Handler = Callable[[Request], None]

MOST_ERROR = 1000  # characters of a fault that callers are told in one line
_FRONT = b"x-served-by: front\r\n"
_ROWS, _V2 = RowsDoor(), v2.V2Door()


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
    ) -> None:
        self.service, self.run_folder, self.alias, self.workers = service, run_folder, alias, workers
        self.limits, self.version, self.clock, self.log = limits, version, clock, log
        self.metrics = Metrics()
        self.lanes: dict[str, Lane] = {}
        self.routes: Routes | None = None
        self.coming: Routes | None = None  # a newer table whose workers are not all ready
        self.draining = False
        self.retry_after = b"retry-after: %d\r\n" % limits.retry_after_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._paths: dict[bytes, dict[bytes, Handler]] = {}
        self._known: dict[str, list[tuple[str, frozenset[str]]]] = {}

    @property
    def ready(self) -> bool:
        """Say whether every release in the shares just answered its golden requests correctly."""
        return not self.draining and self.routes is not None and all(lane.ready for lane in self._live())

    @property
    def epoch(self) -> int:
        return -1 if self.routes is None else self.routes.traffic.epoch

    # the traffic table

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to look for workers."""
        self._loop = loop
        for lane in self.lanes.values():
            lane.start(loop)

    def adopt(self, routes: Routes) -> None:
        """Follow a traffic table, once its releases answer; only one with a higher epoch is taken.

        The same epoch may bring other bodies that are kept warm.
        """
        newest = max(self.epoch, -1 if self.coming is None else self.coming.traffic.epoch)
        if routes.traffic.epoch < newest or (routes == self.routes and self.coming is None):
            return
        for release, ref in routes.bodies.items():
            if release not in self.lanes:
                self._open(release, Path(ref.folder), ref.digest)
        if any(release not in self.lanes for release in routes.traffic.shares):
            return
        self.coming = routes
        if self.routes is None or routes.traffic == self.routes.traffic:
            self._switch()

    def switch_if_ready(self) -> None:
        """Take the newer table once all its releases answer."""
        if self.coming is not None and all(self.lanes[release].ready for release in self.coming.traffic.shares):
            self._switch()

    def close(self) -> None:
        """Let go of all workers."""
        for lane in self.lanes.values():
            lane.close()

    def _open(self, release: str, folder: Path, digest: str) -> None:
        try:
            verify(folder, wanted=digest)
            self.open(release, read_body(folder))
        except (BundleError, ContractBroken) as fault:
            self.note("release_refused", release=release, why=str(fault))

    def open(self, release: str, body: Body) -> None:
        """Know a release; raises ContractBroken where its golden requests break its own contract."""
        lane = Lane(release, body, run_folder=self.run_folder, workers=self.workers, limits=self.limits, watcher=self)
        self.lanes[release] = lane
        self._known[release] = _complete_categories(body.contract)
        if self._loop is not None:
            lane.start(self._loop)

    def _switch(self) -> None:
        assert self.coming is not None
        self.routes, self.coming = self.coming, None
        for release in [release for release in self.lanes if release not in self.routes.bodies]:
            self.lanes.pop(release).close()
            self._known.pop(release)
        self._paths = self._all_paths(self.routes)
        self.note("traffic", epoch=self.epoch, shares=self.routes.traffic.shares)

    def _live(self) -> list[Lane]:
        if self.routes is None:
            return []
        return [self.lanes[release] for release, share in self.routes.traffic.shares.items() if share > 0]

    # requests

    def handle(self, request: Request) -> None:
        """Answer a request, now or later; nothing that it does is raised."""
        try:
            methods = self._paths.get(request.path)
            if methods is None:
                self._refuse(request, Code.NOT_FOUND, "There is nothing at this path.")
                return
            handler = methods.get(b"GET" if request.method == b"HEAD" else request.method)
            if handler is None:
                allowed = b"allow: " + b", ".join(sorted(methods)) + b"\r\n"
                self._refuse(request, Code.WRONG_METHOD, "This path does not take this method.", headers=allowed)
                return
            handler(request)
        except Exception as fault:  # noqa: BLE001 - a fault of ours must neither leave a caller without reply nor leak
            self.note("front_fault", request=request.id, why=f"{type(fault).__name__}: {fault}"[:500])
            self._refuse(request, Code.FAILED, "The service failed on this request; its log has the details.")

    def _infer(self, request: Request, door: Door, release: str | None = None) -> None:
        if release is None:
            assert self.routes is not None
            key = request.headers.get(b"x-routing-key")
            release, _ = choose(self.routes.traffic, request.id if key is None else key.decode("latin-1"))
        lane = self.lanes[release]
        coding = request.headers.get(b"content-encoding", b"identity")
        if coding.lower() != b"identity":
            message = "The body is compressed; send it as it is, without Content-Encoding."
            self._refuse(request, Code.WRONG_CODING, message, release=release, door=door.name)
            return
        try:
            deadline_s = self._deadline_s(request)
            asked = door.read(request.body, lane.body, self.limits)
        except Malformed as fault:
            self._refuse(request, Code.MALFORMED, str(fault), release=release, door=door.name)
            return
        except TooLarge as fault:
            self._refuse(request, Code.TOO_LARGE, str(fault), release=release, door=door.name)
            return
        except ContractBroken as fault:
            self._count_faults(lane, fault)
            self._refuse(
                request,
                Code.BROKEN_CONTRACT,
                str(fault)[:MOST_ERROR],
                release=release,
                door=door.name,
                faults=fault.faults,
            )
            return
        self._count_unknown(release, asked.columns)
        deadline = request.arrived + deadline_s
        call = Call(request=request, door=door.name, asked=asked, lane=lane, deadline=deadline, teller=self)
        call.start(self._loop)

    def _deadline_s(self, request: Request) -> float:
        given = request.headers.get(b"x-deadline-ms")
        if given is None:
            return self.limits.deadline_ms / 1000
        try:
            wanted = float(given)
        except ValueError:
            wanted = math.nan
        if not wanted > 0:
            raise Malformed("`X-Deadline-Ms` must be a number of milliseconds above 0.")
        return min(wanted, self.limits.most_deadline_ms) / 1000

    def _refuse(
        self,
        request: Request,
        code: Code,
        message: str,
        *,
        release: str = "",
        door: str = "",
        faults: tuple[str, ...] = (),
        headers: bytes = b"",
    ) -> None:
        by = b"x-served-by: %s\r\n" % release.encode() if release else _FRONT
        request.reply(code, refusal(message, request.id, faults), headers=by + headers)
        self.metrics.requests.add(release, door, str(int(code)))
        self._log_request(request, release, door, code, rows=0)

    # what is told

    def told(self, call: Call, code: Code, degraded: str | None) -> None:
        """Count and log how a call ended."""
        release, metrics = call.lane.release, self.metrics
        metrics.requests.add(release, call.door, str(int(code)))
        metrics.seconds.add(release, call.door, value=time.monotonic() - call.request.arrived)
        if code is Code.OK:
            metrics.rows.add(release, by=call.asked.rows)
        if degraded is not None:
            metrics.degraded.add(release, degraded)
        elif code is Code.NOT_NOW and call.lane.trouble is None:
            metrics.overloads.add(release)
        self._log_request(call.request, release, call.door, code, rows=call.asked.rows, degraded=degraded)

    def batch_done(self, release: str, infer_s: float) -> None:
        self.metrics.batches.add(release)
        self.metrics.infer.add(release, value=infer_s)

    def dropped(self, release: str, rows: int) -> None:
        self.metrics.dropped.add(release, by=rows)

    def note(self, event: str, **facts: object) -> None:
        """Log what happened to the service itself."""
        if event == "golden":
            self.switch_if_ready()
        if self.log is not None:
            self.log.write({"time": self.clock.now(), "event": event, **facts})

    def _log_request(
        self, request: Request, release: str, door: str, code: Code, *, rows: int, degraded: str | None = None
    ) -> None:
        if self.log is None:
            return
        line: dict[str, Any] = {
            "time": self.clock.now(),
            "event": "request",
            "request": request.id,
            "release": release,
            "door": door,
            "code": int(code),
            "rows": rows,
            "ms": round((time.monotonic() - request.arrived) * 1000, 3),
        }
        if degraded is not None:
            line["degraded"] = degraded
        self.log.write(line)

    def _count_faults(self, lane: Lane, broken: ContractBroken) -> None:
        known = {column.name for column in lane.body.contract.columns}
        for record in fault_records(broken.faults):
            column = record["column"] if record["column"] in known else "(unknown)"
            self.metrics.faults.add(lane.release, column)

    def _count_unknown(self, release: str, columns: Columns) -> None:
        for name, known in self._known[release]:
            for value in columns[name].tolist():
                if value is not None and value not in known:
                    self.metrics.unknown.add(release, name)

    # the other paths

    def _all_paths(self, routes: Routes) -> dict[bytes, dict[bytes, Handler]]:
        """Return every path that the table gives, with its methods."""
        paths: dict[bytes, dict[bytes, Handler]] = {
            b"/v2": {b"GET": lambda request: self._say(request, v2.server_metadata(self.version))},
            b"/v2/health/live": {b"GET": self._health_live},
            b"/v2/health/ready": {b"GET": self._health_ready},
            b"/metrics": {b"GET": self._metrics},
            b"/predict": {b"POST": lambda request: self._infer(request, _ROWS)},
        }
        if self.alias is not None:
            paths[self.alias.encode()] = paths[b"/predict"]
        live = [release for release, share in routes.traffic.shares.items() if share > 0]
        model = b"/v2/models/" + self.service.encode()
        paths |= self._model_paths(model, None, live)
        for release in live:
            paths |= self._model_paths(model + b"/versions/" + release.partition("@")[2].encode(), release, [release])
        return paths

    def _model_paths(self, root: bytes, release: str | None, live: list[str]) -> dict[bytes, dict[bytes, Handler]]:
        lanes = [self.lanes[name] for name in live]
        metadata = v2.model_metadata(lanes[0].body, self.service, [name.partition("@")[2] for name in live])

        def ready(request: Request) -> None:
            good = not self.draining and all(lane.ready for lane in lanes)
            self._say(request, b'{"ready":true}' if good else b'{"ready":false}', good=good)

        return {
            root: {b"GET": lambda request: self._say(request, metadata)},
            root + b"/ready": {b"GET": ready},
            root + b"/infer": {b"POST": lambda request: self._infer(request, _V2, release)},
        }

    def _health_live(self, request: Request) -> None:
        good = all(lane.alive for lane in self._live())
        self._say(request, b'{"live":true}' if good else b'{"live":false}', good=good)

    def _health_ready(self, request: Request) -> None:
        self._say(request, b'{"ready":true}' if self.ready else b'{"ready":false}', good=self.ready)

    def _metrics(self, request: Request) -> None:
        metrics = self.metrics
        for lane in self.lanes.values():
            metrics.queue.put(lane.release, value=lane.queue.rows)
            metrics.ready.put(lane.release, value=int(lane.ready))
        metrics.epoch.put(value=self.epoch)
        if self.log is not None:
            metrics.log_drops.put(value=self.log.dropped)
        self._say(request, metrics.text(), kind=TEXT)

    def _say(self, request: Request, body: bytes, *, good: bool = True, kind: bytes = b"application/json") -> None:
        request.reply(Code.OK if good else Code.NOT_NOW, body, kind=kind, headers=_FRONT)


def _complete_categories(contract: Contract) -> list[tuple[str, frozenset[str]]]:
    """Return the category columns of which every value that was seen is known, with those values."""
    return [
        (column.name, frozenset(column.categories))
        for column in contract.features
        if column.kind is Kind.CATEGORY and column.distinct == len(column.categories)
    ]
