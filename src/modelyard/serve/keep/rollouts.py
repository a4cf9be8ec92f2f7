"""Rollouts at the management address: begin one, see how it goes, promote, pause, resume, take back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol, TypeVar, get_args

import msgspec

from modelyard.core.ids import parse_release
from modelyard.core.rollout import Strategy
from modelyard.errors import UnknownName, UsageError
from modelyard.serve.request import Code, Request

PATH = "/rollout"
MOST_RELEASES = 20

Verb = Literal["promote", "pause", "resume", "rollback"]
VERBS: tuple[Verb, ...] = get_args(Verb)

Handler = Callable[[], Coroutine[Any, Any, Any]]
Tell = Callable[[str, Mapping[str, Any]], None]


class BeginRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a request that begins a rollout."""

    releases: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=MOST_RELEASES)]
    strategy: Strategy | None = None  # as the newest one's spec says


class PromoteRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a request for the next step; an empty one means the defaults."""

    full: bool = False  # to all of the traffic


class NoRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a request that says nothing but what its path does."""


class Rollouts(Protocol):
    """The verbs of one service's rollouts, each of which may take long. `by` is who asked, for the audit log.

    What they return is written as JSON; they raise what the commands of the same name do.
    """

    def status(self) -> Any: ...

    def begin(self, releases: Sequence[str], strategy: Strategy | None, by: str) -> Any: ...

    def ask(self, verb: Verb, by: str, *, full: bool = False) -> Any: ...


class RolloutDoor:
    """Of the supervisor's loop. Verbs run in a thread: one look, one change and one way back at a time.

    A beginning waits for releases to load, and changes wait for it; a way back waits for neither.
    """

    def __init__(self, rollouts: Rollouts, service: str, tell: Tell) -> None:
        self._rollouts, self._service, self._tell = rollouts, service, tell
        self._looking, self._changing, self._returning = asyncio.Lock(), asyncio.Lock(), asyncio.Lock()

    @staticmethod
    def takes(path: str) -> bool:
        """Say whether a path is about rollouts."""
        return path == PATH or path.startswith(f"{PATH}/")

    def find(self, request: Request, path: str, label: str) -> Handler | None:
        """Return what answers a request; None where it was refused. Raises UsageError, UnknownName."""
        verb = next((verb for verb in VERBS if path == f"{PATH}/{verb}"), None)
        if verb is None and path != PATH:
            request.refuse(Code.NOT_FOUND, f"There is nothing at this path. Rollouts have {PATH}, and {_paths()}.")
            return None
        takes = ("POST",) if verb else ("GET", "POST")
        method = request.method.decode("latin-1")
        if method not in takes:
            allow = f"allow: {', '.join(takes)}\r\n".encode()
            request.refuse(Code.WRONG_METHOD, "This path does not take this method.", extra=allow)
            return None
        if method == "GET":
            return lambda: self._run(self._looking, self._rollouts.status)
        if verb is None:
            return self._begin(_read(request.body, BeginRequest), label)
        full = _read(request.body, PromoteRequest).full if verb == "promote" else False
        if verb != "promote":
            _read(request.body, NoRequest)
        return self._ask(verb, label, full=full)

    def _begin(self, asked: BeginRequest, label: str) -> Handler:
        for ref in asked.releases:
            name = parse_release(ref)[0]
            if name != self._service:
                raise UnknownName("model here", name, (self._service,))
        self._tell("managed", {"by": label, "what": "rollout", "releases": list(asked.releases)})
        return lambda: self._run(self._changing, lambda: self._rollouts.begin(asked.releases, asked.strategy, label))

    def _ask(self, verb: Verb, label: str, *, full: bool) -> Handler:
        self._tell("managed", {"by": label, "what": verb})
        lock = self._returning if verb == "rollback" else self._changing
        return lambda: self._run(lock, lambda: self._rollouts.ask(verb, label, full=full))

    @staticmethod
    async def _run(alone: asyncio.Lock, work: Callable[[], Any]) -> Any:
        async with alone:
            return await asyncio.to_thread(work)


T = TypeVar("T", BeginRequest, PromoteRequest, NoRequest)

_EXAMPLES: dict[type, str] = {
    BeginRequest: '{"releases": ["income@2"], "strategy": "canary"}; by default the strategy is that of its spec',
    PromoteRequest: '{"full": true}, {} or nothing',
    NoRequest: "{} or nothing",
}


def _read(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as fault:
        raise UsageError(f"The body is not what this path takes: {fault}. Wanted: {_EXAMPLES[kind]}.") from fault


def _paths() -> str:
    return ", ".join(f"{PATH}/{verb}" for verb in VERBS)
