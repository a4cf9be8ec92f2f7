"""Every path of the HTTP door, with its methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from modelyard.serve.doors import Door
from modelyard.serve.forms.invocations import InvocationsDoor, hosted_paths
from modelyard.serve.forms.openapi import OpenApi
from modelyard.serve.forms.rows import RowsDoor
from modelyard.serve.guard.keys import Keys
from modelyard.serve.request import TEXT, Code, Request
from modelyard.serve.table import Table
from modelyard.serve.told.metrics import Metrics
from modelyard.serve.v2.door import V2Door
from modelyard.serve.v2.pages import Handler, Paths, say, v2_paths, v2_questions

NEEDS_KEY = "An API key is needed here too: send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`."
_ROWS, _V2, _HOSTED = RowsDoor(), V2Door(leaves_texts=True), InvocationsDoor()


class Answering(Protocol):
    """The desk, as the pages see it."""

    service: str
    version: str
    draining: bool
    table: Table
    metrics: Metrics
    pin_versions: bool
    trace_sample: float
    keys: Keys | None

    @property
    def aliases(self) -> tuple[str, ...]: ...

    @property
    def ready(self) -> bool: ...

    @property
    def alive(self) -> bool: ...

    def infer(self, request: Request, door: Door, release: str | None = None) -> None: ...

    def refuse(self, request: Request, code: Code, message: str) -> None: ...

    def measure(self) -> None: ...


def pages(desk: Answering) -> Paths:
    """Return every path that the traffic table gives."""
    paths: Paths = v2_paths(desk, _V2, trace_sample=desk.trace_sample) | hosted_paths(desk, _HOSTED)
    paths[b"/metrics"] = {b"GET": lambda request: _metrics(desk, request)}
    if desk.table.live:
        page = OpenApi(
            service=desk.service,
            version=desk.version,
            models=[lane.model for lane in desk.table.live],
            aliases=desk.aliases,
            needs_key=desk.keys is not None,
            pin_versions=desk.pin_versions,
            guards_pages=desk.keys is not None and desk.keys.guards_pages,
        ).page()
        paths[b"/openapi.json"] = {b"GET": lambda request: say(request, page)}
    if desk.keys is not None and desk.keys.guards_pages:
        paths = {
            path: methods if is_probe(path) else _keyed(desk, desk.keys, methods) for path, methods in paths.items()
        }
    for path, (door, release) in questions(desk).items():
        paths[path] = {b"POST": _asking(desk, door, release)}
    return paths


def aliases(table: Table, usual: str | None) -> tuple[str, ...]:
    """Return the plain rows form's own paths: those of the releases that have a share, or the service's usual one."""
    refs = [None if table.routes is None else table.routes.bodies.get(lane.release) for lane in table.live]
    found = [usual if ref is None or ref.alias is None else ref.alias for ref in refs]
    return tuple(dict.fromkeys(alias for alias in found if alias is not None))


def is_probe(path: bytes) -> bool:
    """Say whether a path is one that load balancers and orchestrators ask: it needs no key.

    >>> [is_probe(path) for path in (b"/v2/health/live", b"/v2/models/income/ready", b"/metrics")]
    [True, True, False]
    """
    return path == b"/ping" or path.startswith(b"/v2/health/") or path.endswith(b"/ready")


def questions(desk: Answering) -> dict[bytes, tuple[Door, str | None]]:
    """Return the paths that take requests for predictions: the door, and the release where the path names one."""
    found: dict[bytes, tuple[Door, str | None]] = {b"/predict": (_ROWS, None), b"/invocations": (_HOSTED, None)}
    for alias in desk.aliases:
        found[alias.encode()] = (_ROWS, None)
    return found | v2_questions(desk, _V2)


def _keyed(desk: Answering, keys: Keys, methods: Mapping[bytes, Handler]) -> dict[bytes, Handler]:
    """Return methods that answer who shows a key; asking them takes nothing off its rate."""

    def keyed(handler: Handler) -> Handler:
        def handle(request: Request) -> None:
            if keys.check(request.headers) is None:
                desk.refuse(request, Code.NO_KEY, NEEDS_KEY)
            else:
                handler(request)

        return handle

    return {method: keyed(handler) for method, handler in methods.items()}


def _asking(desk: Answering, door: Door, release: str | None) -> Handler:
    return lambda request: desk.infer(request, door, release)


def _metrics(desk: Answering, request: Request) -> None:
    desk.measure()
    request.answer(desk.metrics.text(desk.table.run_folder), kind=TEXT)


def any_version(path: bytes) -> bytes:
    """Return a path with its version left open; empty where it has none."""
    head, found, rest = path.partition(b"/versions/")
    return head + b"/versions/*" + rest[len(rest.partition(b"/")[0]) :] if found else b""
