"""The protocol's paths: health, metadata, versions, statistics, the repository's index, trace settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from modelyard.bundle.format import Body
from modelyard.core.contract import Column, Kind
from modelyard.serve.doors import Door
from modelyard.serve.model import Model
from modelyard.serve.request import Code, Request
from modelyard.serve.told.board_file import read_all
from modelyard.serve.told.metrics import Metrics
from modelyard.serve.v2.outputs import OUTPUT_TYPES, output_names, output_shape
from modelyard.serve.v2.slots import DATATYPES
from modelyard.serve.v2.statistics import stats_page

Handler = Callable[[Request], None]
Paths = dict[bytes, dict[bytes, Handler]]

EXTENSIONS = ("binary_tensor_data", "model_repository", "schedule_policy", "statistics", "trace")
PLATFORM = "onnx"
ANY = b"/versions/*"  # stands for a version that is not in the table
MODELS, REPOSITORY = b"/v2/models/", b"/v2/repository"

_encode = msgspec.json.Encoder().encode


class Shown(Protocol):
    """A release with workers, as `Lane` is."""

    @property
    def release(self) -> str: ...

    @property
    def model(self) -> Model: ...

    @property
    def ready(self) -> bool: ...

    @property
    def trouble(self) -> str | None: ...


class Releases(Protocol):
    """The traffic table, as `Table` is."""

    run_folder: Path

    @property
    def live(self) -> Sequence[Shown]: ...

    @property
    def lanes(self) -> Mapping[str, Shown]: ...


class Showing(Protocol):
    """A service whose paths these are, as `Desk` is."""

    service: str
    version: str
    draining: bool
    metrics: Metrics
    pin_versions: bool

    @property
    def table(self) -> Releases: ...

    @property
    def ready(self) -> bool: ...

    @property
    def alive(self) -> bool: ...

    def infer(self, request: Request, door: Door, release: str | None = None) -> None: ...

    def refuse(self, request: Request, code: Code, message: str) -> None: ...


class _IndexRequest(msgspec.Struct):
    """What a question for the repository's index may say."""

    ready: bool = False


_INDEX = msgspec.json.Decoder(_IndexRequest)


def v2_paths(desk: Showing, door: Door, *, trace_sample: float = 0.0) -> Paths:
    """Return every path of the protocol that the traffic table gives, to be made anew when it changes."""
    live = desk.table.live
    root = MODELS + desk.service.encode()
    versions = [shown.model.version for shown in live]
    paths: Paths = {
        b"/v2": {b"GET": lambda request: say(request, server_metadata(desk.version))},
        b"/v2/health/live": {b"GET": lambda request: say_whether(request, "live", desk.alive)},
        b"/v2/health/ready": {b"GET": lambda request: say_whether(request, "ready", desk.ready)},
        MODELS + b"stats": {b"GET": lambda request: _say_stats(desk, request, versions)},
        REPOSITORY + b"/index": {b"POST": lambda request: _say_index(desk, request)},
        b"/v2/trace/setting": _trace_methods(desk, trace_sample),
        root + b"/trace/setting": _trace_methods(desk, trace_sample),
    }
    for verb in (b"/load", b"/unload"):
        paths[REPOSITORY + b"/models/" + desk.service.encode() + verb] = {
            b"POST": lambda request: desk.refuse(request, Code.NOT_ALLOWED, _ELSEWHERE)
        }
    if live:
        paths |= _model_paths(desk, root, live, lambda request: desk.infer(request, door))
    for shown in live:
        paths |= _model_paths(
            desk, root + b"/versions/" + shown.model.version.encode(), [shown], _pinned(desk, door, shown)
        )
    stranger = {verb: {method: _no_version(desk)} for verb, method in _VERBS}
    return paths | {root + ANY + verb: methods for verb, methods in stranger.items()}


_VERBS = ((b"", b"GET"), (b"/ready", b"GET"), (b"/stats", b"GET"), (b"/infer", b"POST"))
_ELSEWHERE = "Models are loaded and unloaded on the management address, with a key that may manage."
_BY_SPEC = "How much is traced is set by the spec, `serving.trace_sample`; it cannot be changed here."


def v2_questions(desk: Showing, door: Door) -> dict[bytes, tuple[Door, str | None]]:
    """Return the paths that ask the model, each with the release that it names, if it may name one."""
    root = MODELS + desk.service.encode()
    found: dict[bytes, tuple[Door, str | None]] = {root + b"/infer": (door, None)}
    for shown in desk.table.live:
        if _may_pin(desk):
            found[root + b"/versions/" + shown.model.version.encode() + b"/infer"] = (door, shown.release)
    return found


def missing(path: bytes, service: str) -> str:
    """Say why there is nothing at a path, in the protocol's words where a model is named."""
    for start in (MODELS, REPOSITORY + b"/models/"):
        if path.startswith(start):
            name = path[len(start) :].partition(b"/")[0].decode("utf-8", "replace")[:100]
            if name != service:
                return f"Model `{name}` is not known here; this service answers for `{service}`."
    return "There is nothing at this path."


def server_metadata(version: str) -> bytes:
    """Return the server's metadata."""
    return _encode({"name": "modelyard", "version": version, "extensions": EXTENSIONS})


def model_metadata(body: Body, name: str, versions: Sequence[str]) -> bytes:
    """Return a model's metadata."""
    inputs = [_input(column) for column in body.contract.features]
    outputs = [
        {"name": output, "datatype": OUTPUT_TYPES[output], "shape": output_shape(output, -1, body)}
        for output in output_names(body)
    ]
    return _encode(
        {"name": name, "versions": list(versions), "platform": PLATFORM, "inputs": inputs, "outputs": outputs}
    )


def say(request: Request, body: bytes, *, good: bool = True) -> None:
    """Answer with a document."""
    request.answer(body, code=Code.OK if good else Code.NOT_NOW)


def say_whether(request: Request, word: str, good: bool) -> None:
    """Answer yes, or no with 503."""
    say(request, b'{"%b":%b}' % (word.encode(), b"true" if good else b"false"), good=good)


def _input(column: Column) -> dict[str, Any]:
    if column.kind is Kind.TENSOR:
        return {"name": column.name, "datatype": column.datatype or "FP32", "shape": [-1, *column.shape]}
    return {"name": column.name, "datatype": DATATYPES[column.kind], "shape": [-1]}


def _model_paths(desk: Showing, root: bytes, live: Sequence[Shown], infer: Handler) -> Paths:
    versions = [shown.model.version for shown in live]
    metadata = model_metadata(live[0].model.body, desk.service, versions)

    def ready(request: Request) -> None:
        say_whether(request, "ready", not desk.draining and all(shown.ready for shown in live))

    return {
        root: {b"GET": lambda request: say(request, metadata)},
        root + b"/ready": {b"GET": ready},
        root + b"/stats": {b"GET": lambda request: _say_stats(desk, request, versions)},
        root + b"/infer": {b"POST": infer},
    }


def _pinned(desk: Showing, door: Door, shown: Shown) -> Handler:
    """Return what answers a request that names a version, which must be allowed or the only one."""
    release, version = shown.release, shown.model.version
    if _may_pin(desk):
        return lambda request: desk.infer(request, door, release)
    message = (
        f"Version {version} of `{desk.service}` cannot be asked for by itself: the traffic table chooses the version, "
        "and the spec does not allow to name one (`serving.pin_versions`)."
    )
    return lambda request: desk.refuse(request, Code.NOT_FOUND, message)


def _may_pin(desk: Showing) -> bool:
    """Say whether a caller may name a version: by the spec, or where there is but one, so that it changes nothing."""
    return desk.pin_versions or len(desk.table.live) == 1


def _no_version(desk: Showing) -> Handler:
    there = ", ".join(shown.model.version for shown in desk.table.live) or "none"

    def refuse(request: Request) -> None:
        version = request.path.partition(b"/versions/")[2].partition(b"/")[0].decode("utf-8", "replace")[:100]
        message = f"Version `{version}` of `{desk.service}` is not in the traffic table, which has: {there}."
        desk.refuse(request, Code.NOT_FOUND, message)

    return refuse


def _say_stats(desk: Showing, request: Request, versions: Sequence[str]) -> None:
    readings = read_all(desk.table.run_folder)
    if desk.metrics.board.path is None:
        readings.append(desk.metrics.board.read())
    say(request, stats_page(desk.service, versions, readings))


def _say_index(desk: Showing, request: Request) -> None:
    try:
        wanted = _INDEX.decode(request.body or b"{}")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        desk.refuse(request, Code.MALFORMED, 'The body must be empty, or an object such as `{"ready": true}`.')
        return
    live = desk.table.live
    entries = []
    for shown in live:
        reason = "" if shown.ready else f"no worker answers: {shown.trouble or 'it is not warm yet'}"
        entries.append(_index_entry(desk, shown, reason))
    for shown in desk.table.lanes.values():
        if shown not in live:
            entries.append(_index_entry(desk, shown, "kept warm; not in the traffic table"))
    say(request, _encode([entry for entry in entries if entry["state"] == "READY" or not wanted.ready]))


def _index_entry(desk: Showing, shown: Shown, reason: str) -> dict[str, str]:
    state = "UNAVAILABLE" if reason else "READY"
    return {"name": desk.service, "version": shown.model.version, "state": state, "reason": reason}


def _trace_methods(desk: Showing, share: float) -> dict[bytes, Handler]:
    settings = {
        "trace_level": ["TIMESTAMPS"] if share > 0 else ["OFF"],
        "trace_rate": str(round(1 / share)) if share > 0 else "0",  # one request in so many
        "trace_count": "-1",  # without end
        "trace_mode": "opentelemetry",
    }
    page = _encode(settings)
    return {
        b"GET": lambda request: say(request, page),
        b"POST": lambda request: desk.refuse(request, Code.NOT_OFFERED, _BY_SPEC),
    }
