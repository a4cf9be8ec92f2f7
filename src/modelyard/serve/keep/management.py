"""The management address: load, unload, index, status, stop, feedback and rollouts, for keys that may manage.

Load and unload are deploy and rollback, by the same functions and on the same audit log; so are the verbs of rollouts.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol

import msgspec

from modelyard.bundle.answers import Feedback, FeedbackCounts, Unread, read_feedback
from modelyard.core.ids import parse_release
from modelyard.core.release import Release
from modelyard.errors import ModelyardError, ServiceError, StoreError, UnknownName, UsageError
from modelyard.serve.guard.keys import Keys
from modelyard.serve.http.listener import Listener
from modelyard.serve.keep.change import Changed, Changes
from modelyard.serve.keep.loading import is_loaded
from modelyard.serve.keep.processes import listen
from modelyard.serve.keep.rollouts import RolloutDoor, Rollouts
from modelyard.serve.messages import KEYS_FILE, Status, SupervisorJob
from modelyard.serve.request import Code, Request

MOST_BODY_BYTES = 64 * 1024
MOST_FEEDBACK_BYTES = 2 * 1024 * 1024
MOST_OUTCOMES = 10_000  # of one request
SWEEP_S = 1.0
TELL_S = 10.0  # between events of callers who were refused

_MODELS, _INDEX, _FEEDBACK = "/v2/repository/models/", "/v2/repository/index", "/feedback"

Feed = Callable[[Sequence[Feedback | Unread]], FeedbackCounts]


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What a load or unload may say besides the model's name."""

    version: str | None = None


class RepositoryRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a request to the repository; an empty one means the defaults."""

    parameters: Parameters = Parameters()
    ready: bool = False  # of an index: only what answers


class FeedbackRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Outcomes, each read by itself, so that one that cannot be read leaves the others alone."""

    outcomes: Annotated[list[msgspec.Raw], msgspec.Meta(max_length=MOST_OUTCOMES)]


class Governing(Protocol):
    """Whom the management address serves; the supervisor."""

    @property
    def job(self) -> SupervisorJob: ...

    def status(self) -> Status: ...

    def stop(self) -> None: ...

    def tell(self, event: str, facts: Mapping[str, Any]) -> None: ...


class Management:
    """Of the supervisor's loop; what takes long runs in a thread, one change at a time."""

    def __init__(
        self,
        governing: Governing,
        changes: Changes,
        context: ssl.SSLContext | None,
        feed: Feed | None = None,
        rollouts: Rollouts | None = None,
    ) -> None:
        self._governing, self._changes, self._feed = governing, changes, feed
        self._rollouts = None if rollouts is None else RolloutDoor(rollouts, governing.job.service, governing.tell)
        self._keys = Keys(Path(governing.job.run_folder) / KEYS_FILE)
        self._listener = Listener(
            loop=asyncio.get_running_loop(),
            handle=self.handle,
            most_body_bytes=MOST_BODY_BYTES if feed is None else MOST_FEEDBACK_BYTES,
            prefix=secrets.token_hex(4),
            tls=context,
        )
        self._changing, self._feeding = asyncio.Lock(), asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._refused, self._told_at = 0, -TELL_S
        self._fed: dict[str, int] = {}  # outcomes by key, not told yet
        self._fed_told_at = -TELL_S
        self.port = 0

    async def start(self) -> None:
        """Take the address; raises PortTaken."""
        job = self._governing.job
        sock = listen(job.management_host, job.management_port or 0)
        self.port = int(sock.getsockname()[1])
        sock.setblocking(False)
        await self._listener.start(sock)
        self._begin(self._sweep())

    async def close(self) -> None:
        """Stop answering."""
        for task in self._tasks:
            task.cancel()
        await self._listener.drain(0.5)

    def handle(self, request: Request) -> None:
        """Answer a request, now or later; nothing that it does is raised."""
        label = self._keys.check(request.headers)
        if label is None:
            self._count_refused()
            request.refuse(Code.NO_KEY, "This address needs an API key, as `Authorization: Bearer KEY`.")
        elif not self._keys.may_manage(label):
            self._count_refused()
            request.refuse(Code.NOT_ALLOWED, f"The key `{label}` may not manage this service.")
        elif (wait_s := self._keys.allow(label, time.monotonic())) is not None:
            request.refuse(Code.TOO_MANY, f"The key `{label}` asks too often.", retry_after_s=int(wait_s) + 1)
        else:
            self._begin(self._answer(request, label))

    async def _answer(self, request: Request, label: str) -> None:
        try:
            handler = self._find(request, label)
            if handler is not None:
                record = await handler()
                request.answer(msgspec.json.encode(record))
        except ModelyardError as fault:
            request.refuse(_code(fault), str(fault))
        except Exception as fault:  # noqa: BLE001 - a fault of ours must neither leave a caller without reply nor leak
            self._governing.tell("management_fault", {"why": f"{type(fault).__name__}: {fault}"[:300]})
            request.refuse(Code.FAILED, "The service failed on this request; its audit log has the details.")

    def _find(self, request: Request, label: str) -> Callable[[], Any] | None:
        """Return what answers a request; None where it was refused."""
        path, method = request.path.decode("latin-1"), request.method
        if self._rollouts is not None and RolloutDoor.takes(path):
            return None if self._is_large(request) else self._rollouts.find(request, path, label)
        wanted = b"GET" if path == "/status" else b"POST"
        takes = {"/status", "/stop", _INDEX} | ({_FEEDBACK} if self._feed is not None else set())
        name, _, verb = path.removeprefix(_MODELS).rpartition("/")
        is_change = path.startswith(_MODELS) and verb in ("load", "unload")
        if not is_change and path not in takes:
            request.refuse(Code.NOT_FOUND, "There is nothing at this path.")
            return None
        if method != wanted:
            allow = b"allow: " + wanted + b"\r\n"
            request.refuse(Code.WRONG_METHOD, "This path does not take this method.", extra=allow)
            return None
        if path == _FEEDBACK:
            return lambda: self._take(request.body, label)
        if self._is_large(request):
            return None
        asked = self._read(request.body)
        if path == "/status":
            return self._status
        if path == "/stop":
            return lambda: self._stop(label)
        if path == _INDEX:
            return lambda: self._index(asked)
        if name != self._governing.job.service:
            raise UnknownName("model here", name, (self._governing.job.service,))
        version = asked.parameters.version
        ref = name if version is None else f"{name}@{version}"
        parse_release(ref)
        return lambda: self._change(verb, ref, label)

    @staticmethod
    def _is_large(request: Request) -> bool:
        """Refuse a body that no order needs."""
        if len(request.body) > MOST_BODY_BYTES:
            request.refuse(Code.TOO_LARGE, f"The body has more than {MOST_BODY_BYTES} bytes.")
            return True
        return False

    @staticmethod
    def _read(body: bytes) -> RepositoryRequest:
        try:
            return msgspec.json.decode(body or b"{}", type=RepositoryRequest)
        except msgspec.MsgspecError as fault:
            raise UsageError(f"The body is not a request to the repository: {fault}") from fault

    async def _status(self) -> Status:
        return self._governing.status()

    async def _take(self, body: bytes, label: str) -> FeedbackCounts:
        """Join outcomes with their answers, one request's at a time."""
        assert self._feed is not None
        try:
            raw = msgspec.json.decode(body, type=FeedbackRequest).outcomes
        except (msgspec.MsgspecError, ValueError, RecursionError) as fault:
            raise UsageError(
                f'The body is no feedback: {fault}. Wanted: {{"outcomes": [{{"request": "ID", "label": "yes"}}]}}, '
                f"at most {MOST_OUTCOMES} of them."
            ) from fault
        outcomes = [read_feedback(bytes(one), f"outcome {place}") for place, one in enumerate(raw)]
        self._fed[label] = self._fed.get(label, 0) + len(outcomes)
        async with self._feeding:
            return await asyncio.to_thread(self._feed, outcomes)

    async def _stop(self, label: str) -> dict[str, str]:
        self._governing.tell("managed", {"by": label, "what": "stop"})
        asyncio.get_running_loop().call_soon(self._governing.stop)
        return {"detail": "Draining."}

    async def _change(self, verb: str, ref: str, label: str) -> dict[str, Any]:
        self._governing.tell("managed", {"by": label, "what": verb, "release": ref})
        async with self._changing:
            changed = await asyncio.to_thread(self._changes.deploy if verb == "load" else self._unload, ref)
        return {} if changed is None else msgspec.to_builtins(changed)

    def _unload(self, ref: str) -> Changed | None:
        return self._changes.unload(ref) if "@" in ref else self._changes.rollback(ref)

    async def _index(self, asked: RepositoryRequest) -> list[dict[str, str]]:
        name = self._governing.job.service
        sealed = await asyncio.to_thread(lambda: self._changes.store()[1].all(name))
        state = self._governing.status()
        lines = [_line(one, state) for one in sealed]
        return [one for one in lines if one["state"] == "READY"] if asked.ready else lines

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self._listener.sweep()
            self._keys.refresh()
            self._tell_fed()

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _tell_fed(self) -> None:
        """Tell who handed in outcomes, together, as these come often."""
        now = time.monotonic()
        if self._fed and now - self._fed_told_at >= TELL_S:
            for label, count in self._fed.items():
                self._governing.tell("feedback", {"by": label, "outcomes": count})
            self._fed, self._fed_told_at = {}, now

    def _count_refused(self) -> None:
        """Tell of callers without the right key, together, so that they cannot fill the audit log."""
        self._refused += 1
        now = time.monotonic()
        if now - self._told_at >= TELL_S:
            self._governing.tell("management_refused", {"times": self._refused})
            self._refused, self._told_at = 0, now


def _line(release: Release, state: Status) -> dict[str, str]:
    """Return a release as the protocol's repository index tells it."""
    ref = str(release.id)
    line = {"name": release.id.name, "version": str(release.id.number)}
    if is_loaded(state, ref):
        return {**line, "state": "READY", "reason": "answers" if state.routes.traffic.shares.get(ref) else "kept warm"}
    if ref in state.routes.bodies:
        return {**line, "state": "LOADING", "reason": ""}
    why = "not loaded" if release.collected is None else f"its body was removed on {release.collected}"
    return {**line, "state": "UNAVAILABLE", "reason": why}


def _code(fault: ModelyardError) -> Code:
    if fault.code == UnknownName.code:
        return Code.NOT_FOUND
    match fault:
        case UsageError():
            return Code.MALFORMED
        case StoreError() | ServiceError():  # another's change came first, or it did not get ready
            return Code.NOT_NOW
    return Code.FAILED
