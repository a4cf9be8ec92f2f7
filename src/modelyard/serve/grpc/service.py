"""The methods of inference.GRPCInferenceService and grpc.health.v1, answered by the desk."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Protocol

from modelyard.serve.doors import Door
from modelyard.serve.grpc import documents, health, wire
from modelyard.serve.grpc.call import GrpcRequest
from modelyard.serve.grpc.door import GrpcDoor
from modelyard.serve.grpc.health import Health, Serving, health_answer
from modelyard.serve.grpc.infer import read_infer
from modelyard.serve.grpc.listener import MOST_CONNECTIONS, GrpcListener
from modelyard.serve.grpc.statistics import statistics
from modelyard.serve.grpc.stream import InferStream
from modelyard.serve.grpc.wire import WireFault
from modelyard.serve.guard.keys import Keys
from modelyard.serve.lane import Lane
from modelyard.serve.messages import Limits
from modelyard.serve.request import Code, Request
from modelyard.serve.room import make_room
from modelyard.serve.table import Table
from modelyard.serve.told.metrics import Metrics

SERVICE = "inference.GRPCInferenceService"
_ROOT = f"/{SERVICE}/".encode()
STREAM = _ROOT + b"ModelStreamInfer"

# What probes ask, and inference, which looks for the key itself.
_OPEN = frozenset((health.CHECK, health.LIST, STREAM, *(_ROOT + name for name in (
    b"ServerLive", b"ServerReady", b"ModelReady", b"ModelInfer",
))))  # fmt: skip
_NEEDS_KEY = "An API key is needed here too: send it as `authorization: Bearer KEY` or `x-api-key: KEY`."

Handler = Callable[[GrpcRequest], None]

_MANAGED = "Models are not loaded or unloaded here; releases are deployed and rolled back."
_NOT_PINNED = (
    "Version %s cannot be asked for by itself: the traffic table chooses the version, and the spec does not allow to "
    "name one (`serving.pin_versions`)."
)
_NOT_OFFERED = (
    "LogSettings", "SystemSharedMemoryStatus", "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister",
    "CudaSharedMemoryStatus", "CudaSharedMemoryRegister", "CudaSharedMemoryUnregister",
)  # fmt: skip


class Answering(Protocol):
    """The desk, as gRPC sees it."""

    service: str
    version: str
    draining: bool
    table: Table
    limits: Limits
    metrics: Metrics
    pin_versions: bool
    keys: Keys | None

    @property
    def ready(self) -> bool: ...

    @property
    def alive(self) -> bool: ...

    def infer(self, request: Request, door: Door, release: str | None = None) -> None: ...

    def refuse(self, request: Request, code: Code, message: str) -> None: ...

    def note(self, event: str, **facts: object) -> None: ...


class GrpcService:
    """Answers whole messages. Of one thread, the event loop's."""

    def __init__(self, desk: Answering, *, trace_sample: float = 0.0) -> None:
        self.desk, self.trace_sample = desk, trace_sample
        self.health = Health(self._state_of)
        self._door = GrpcDoor()
        named: dict[str, Handler] = {
            "ModelInfer": self._infer,
            "ModelStreamInfer": self._infer,
            "ServerLive": lambda request: request.answer(wire.whole(1, self.desk.alive)),
            "ServerReady": lambda request: request.answer(wire.whole(1, self.desk.ready)),
            "ModelReady": self._model_ready,
            "ServerMetadata": lambda request: request.answer(documents.server(self.desk.version)),
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": lambda request: self.desk.refuse(request, Code.NOT_ALLOWED, _MANAGED),
            "RepositoryModelUnload": lambda request: self.desk.refuse(request, Code.NOT_ALLOWED, _MANAGED),
            "TraceSetting": self._trace_setting,
            **dict.fromkeys(_NOT_OFFERED, self._not_offered),
        }
        self._methods = {_ROOT + name.encode(): handler for name, handler in named.items()}
        self._methods |= {health.CHECK: self._check, health.LIST: self._list}

    def listener(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        prefix: str,
        on_refusal: Callable[[Code], None] = lambda code: None,
        tls: ssl.SSLContext | None = None,
    ) -> GrpcListener:
        """Return what accepts connections for this service."""
        return GrpcListener(
            loop=loop,
            handle=self.handle,
            most_message_bytes=self.desk.limits.most_body_bytes,
            prefix=prefix,
            kinds={STREAM: InferStream, health.WATCH: self.health.watch},
            on_refusal=on_refusal,
            tls=tls,
            most_connections=make_room(MOST_CONNECTIONS),
        )

    def handle(self, request: GrpcRequest) -> None:
        """Answer a message, now or later; nothing that it does is raised."""
        try:
            keys = self.desk.keys
            if keys is not None and keys.guards_pages and request.path not in _OPEN and not keys.check(request.headers):
                self.desk.refuse(request, Code.NO_KEY, _NEEDS_KEY)
                return
            self._methods.get(request.path, self._not_offered)(request)
        except WireFault as fault:
            self.desk.refuse(request, Code.MALFORMED, str(fault))
        except Exception as fault:  # noqa: BLE001 - a fault of ours must neither leave a caller without reply nor leak
            self.desk.note("front_fault", request=request.id, why=f"{type(fault).__name__}: {fault}"[:500])
            self.desk.refuse(request, Code.FAILED, "The service failed on this request; its log has the details.")

    # the methods

    def _infer(self, request: GrpcRequest) -> None:
        request.message = message = read_infer(request.body)
        if message.model_name != self.desk.service:
            self._unknown(request, message.model_name)
        elif not message.model_version:
            self.desk.infer(request, self._door)
        else:
            lanes = self._lanes(request, message.model_name, message.model_version)
            if not lanes:
                return
            if not self.desk.pin_versions and len(self.desk.table.live) > 1:
                self.desk.refuse(request, Code.NOT_FOUND, _NOT_PINNED % message.model_version)
                return
            self.desk.infer(request, self._door, lanes[0].release)

    def _model_ready(self, request: GrpcRequest) -> None:
        lanes = self._lanes(request, *wire.texts(request.body, 1, 2))
        if lanes:
            good = not self.desk.draining and all(lane.ready for lane in lanes)
            request.answer(wire.whole(1, good))

    def _model_metadata(self, request: GrpcRequest) -> None:
        lanes = self._lanes(request, *wire.texts(request.body, 1, 2))
        if lanes:
            versions = [lane.model.version for lane in lanes]
            request.answer(documents.model(self.desk.service, versions, lanes[0].model))

    def _model_config(self, request: GrpcRequest) -> None:
        lanes = self._lanes(request, *wire.texts(request.body, 1, 2))
        if lanes:
            request.answer(documents.config(self.desk.service, lanes[0].model))

    def _model_statistics(self, request: GrpcRequest) -> None:
        name, version = wire.texts(request.body, 1, 2)
        lanes = self._lanes(request, name or self.desk.service, version)
        if lanes:
            models = [(lane.model.name, lane.model.version) for lane in lanes]
            request.answer(statistics(models, self.desk.metrics, self.desk.table.run_folder))

    def _index(self, request: GrpcRequest) -> None:
        only_ready = any(number == 2 and value for number, _, value in wire.fields(request.body))
        live = {lane.release for lane in self.desk.table.live}
        models = []
        for lane in self.desk.table.lanes.values():
            state, reason = "UNAVAILABLE", "it has no share of the traffic"
            if lane.release in live:
                state, reason = ("READY", "") if lane.ready else (state, "no worker answers correctly")
            if state == "READY" or not only_ready:
                models.append((lane.model.name, lane.model.version, state, reason))
        request.answer(documents.index(models))

    def _trace_setting(self, request: GrpcRequest) -> None:
        if any(number == 1 for number, _, _ in wire.fields(request.body)):
            self.desk.refuse(request, Code.NOT_ALLOWED, "What is traced is written in the spec; it is not set here.")
            return
        request.answer(documents.trace_settings(self.trace_sample))

    def _not_offered(self, request: GrpcRequest) -> None:
        method = request.path.decode("latin-1")[:200]
        self.desk.refuse(request, Code.NOT_OFFERED, f"The method `{method}` is not offered here.")

    def _check(self, request: GrpcRequest) -> None:
        (name,) = wire.texts(request.body, 1)
        state = self.health.state(name)
        if state is Serving.SERVICE_UNKNOWN:
            self._unknown(request, name)
        else:
            request.answer(health_answer(state))

    def _list(self, request: GrpcRequest) -> None:
        known = {name: health_answer(self.health.state(name)) for name in ("", self.desk.service)}
        request.answer(b"".join(wire.entry(1, name, state) for name, state in known.items()))

    # ours

    def _state_of(self, name: str) -> bool | None:
        desk = self.desk
        if name in ("", SERVICE, desk.service):
            return desk.ready
        return None

    def _lanes(self, request: GrpcRequest, name: str, version: str) -> list[Lane]:
        """Return the releases that are meant; refuse the request where there are none."""
        lanes = self.desk.table.live if name == self.desk.service else []
        if version:
            lanes = [lane for lane in lanes if lane.model.version == version]
        if not lanes:
            self._unknown(request, f"{name}@{version}" if version else name)
        return lanes

    def _unknown(self, request: GrpcRequest, name: str) -> None:
        self.desk.refuse(request, Code.NOT_FOUND, f"There is no model `{name[:200]}` here; `{self.desk.service}` is.")
