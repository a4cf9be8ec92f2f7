"""Trying the way back before it is needed: every step of the order, through the front's own code."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from modelyard.bundle.format import Body
from modelyard.core.clock import SystemClock
from modelyard.core.evidence import FallbackEvidence, StepTried
from modelyard.core.metrics import Task
from modelyard.core.release import Traffic
from modelyard.errors import ModelyardError
from modelyard.serve.desk import Desk
from modelyard.serve.guard.fallback import Other, Refuse, Step, misfits, order
from modelyard.serve.http.reply import HttpRequest
from modelyard.serve.lane import Lane
from modelyard.serve.messages import BodyRef, Limits, Routes
from modelyard.serve.request import Code

WAIT_S = 10.0  # for a worker of another release, which may be starting just now
LOOK_S = 0.01

_PATH = b"/predict"
_REFUSE: Mapping[str, Any] = {"kind": "refuse"}


def try_fallback(
    body: Body,
    *,
    release: str | None = None,
    previous: str | None = None,
    others: Mapping[str, Body] | None = None,
    run_folder: Path | None = None,
    workers: int = 1,
    limits: Limits | None = None,
    wait_s: float = WAIT_S,
) -> FallbackEvidence:
    """Send a golden request through the front's own code, once for each step, with no worker of the release behind it.

    An answer must be marked as degraded, in header and body, and be one that the contract allows; a refusal must say
    so with Retry-After. Other releases are asked over the sockets of their workers, for which up to `wait_s` is
    waited: call this on a thread that may wait, and that runs no event loop.

    Args:
        release: whose fallbacks these are; a stand-in where it does not matter.
        previous: the release that answered before, if there is one.
        others: the bodies of the releases that the order may ask.
        run_folder: where their workers listen.
    """
    own = release or f"{body.manifest.name}@1"  # a number is needed to route; the body is what is tried
    entries = _reached(body.manifest.fallback)
    kinds = ", ".join(str(entry.get("kind")) for entry in entries)
    try:
        order(body, previous, own=own)
    except ModelyardError as fault:
        return FallbackEvidence(kind=kinds, answered=False, seconds=0.0, detail=str(fault))
    stage = _Stage(own, previous, others or {}, run_folder or Path(), workers, limits or Limits(), wait_s)
    steps = tuple(stage.rehearse(replace(body, manifest=replace(body.manifest, fallback=(one,)))) for one in entries)
    return FallbackEvidence(
        kind=kinds,
        answered=all(step.answered is not False for step in steps),
        seconds=sum(step.seconds for step in steps),
        detail=steps[0].detail if len(steps) == 1 else " ".join(f"{step.kind}: {step.detail}" for step in steps),
        steps=steps,
    )


def _reached(entries: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the fallbacks up to the one that ends the order, which is a refusal where none is written."""
    reached: list[Mapping[str, Any]] = []
    for entry in entries:
        reached.append(entry)
        if entry.get("kind") not in ("previous", "variant"):
            return reached
    return [*reached, _REFUSE]


class _Heard:
    """The end of a connection that keeps what is written."""

    def __init__(self) -> None:
        self.replies: list[bytes] = []
        self.came = asyncio.Event()

    def write(self, data: bytes, *, keep: bool) -> None:
        self.replies.append(data)
        self.came.set()


class _Stage:
    """A front with one release that has no worker, and those that its order may ask."""

    def __init__(
        self, own: str, previous: str | None, others: Mapping[str, Body], run_folder: Path, workers: int,
        limits: Limits, wait_s: float,
    ) -> None:  # fmt: skip
        self.own, self.previous, self.others, self.run_folder = own, previous, others, run_folder
        self.workers, self.limits, self.wait_s = workers, limits, wait_s

    def rehearse(self, body: Body) -> StepTried:
        """Try the one step that a body's order has."""
        kind = str(body.manifest.fallback[0].get("kind"))
        step = order(body, self.previous, own=self.own)[0]
        if kind != step.by:
            nobody = kind == "previous" and self.previous is None
            why = "There is no release before this one" if nobody else "It is this release itself"
            return StepTried(kind=kind, answered=None, seconds=0.0, detail=f"{why}; passed over.")
        release = step.release if isinstance(step, Other) else None
        began = time.perf_counter()
        try:
            seconds, good, detail = self._try(body, step)
        except ModelyardError as fault:
            seconds, good, detail = time.perf_counter() - began, False, str(fault)
        return StepTried(kind=kind, release=release, answered=good, seconds=seconds, detail=detail)

    def _try(self, body: Body, step: Step) -> tuple[float, bool, str]:
        other: Body | None = None
        if isinstance(step, Other):
            other = self.others.get(step.release)
            if other is None:
                return 0.0, False, f"There is no release `{step.release}` to ask."
            wrong = misfits(body, other)
            if wrong:
                return 0.0, False, f"`{step.release}` cannot answer for this release: {'; '.join(wrong)}."
        return asyncio.run(self._ask(body, step, other))

    async def _ask(self, body: Body, step: Step, other: Body | None) -> tuple[float, bool, str]:
        """Send the request; return how long it took, whether the reply was as it should be, and what came."""
        desk = self._desk()
        try:
            desk.start(asyncio.get_running_loop())
            lane: Lane | None = None
            if isinstance(step, Other) and other is not None:
                desk.open(step.release, other)
                lane = desk.lanes[step.release]
            desk.lanes[self.own] = Lane(  # never started, and without workers: nobody can be reached
                self.own, body, run_folder=self.run_folder, workers=0, limits=self.limits, watcher=desk
            )
            refs = {name: BodyRef(folder="", digest=one.body.digest) for name, one in desk.lanes.items()}
            traffic = Traffic(epoch=0, shares={self.own: 1.0})
            previous = {} if self.previous is None else {self.own: self.previous}
            desk.adopt(Routes(traffic=traffic, bodies=refs, previous=previous))
            if lane is not None and not await _is_ready(lane, self.wait_s):
                return 0.0, False, f"No worker of `{lane.release}` could be reached in {self.wait_s:g} s."
            heard = _Heard()
            began = time.perf_counter()
            desk.handle(_request(body, heard))
            async with asyncio.timeout(2 * self.limits.most_deadline_ms / 1000):
                await heard.came.wait()
            seconds = time.perf_counter() - began
            return seconds, *_judge(body, step, heard.replies)
        except TimeoutError:
            return 0.0, False, "No reply came at all."
        finally:
            desk.close()

    def _desk(self) -> Desk:
        return Desk(
            service=self.own.partition("@")[0],
            run_folder=self.run_folder,
            alias=None,
            workers=self.workers,
            limits=self.limits,
            version="",
            clock=SystemClock(),
        )


async def _is_ready(lane: Lane, wait_s: float) -> bool:
    """Wait for a worker that answers its golden requests."""
    until = lane.now() + wait_s
    while not lane.ready and lane.now() < until:
        await asyncio.sleep(LOOK_S)
    return lane.ready


def _request(body: Body, heard: _Heard) -> HttpRequest:
    return HttpRequest(
        connection=heard,
        keep=True,
        method=b"POST",
        path=_PATH,
        query=b"",
        headers={},
        body=msgspec.json.encode({"rows": body.golden.rows[:1]}),
        id="rehearsal",
        arrived=time.monotonic(),
    )


def _judge(body: Body, step: Step, replies: Sequence[bytes]) -> tuple[bool, str]:
    if len(replies) != 1:
        return False, f"{len(replies)} replies came, wanted one."
    head, _, payload = replies[0].partition(b"\r\n\r\n")
    code = int(head.split(b" ", 2)[1])
    if isinstance(step, Refuse):
        good = code == Code.NOT_NOW and b"\r\nretry-after: " in head
        return good, "Refused with Retry-After." if good else f"The reply was {code} and did not refuse as it should."
    if code != Code.OK:
        return False, f"The reply was {code}: {payload[:200].decode(errors='replace')}"
    record = msgspec.json.decode(payload)
    if record.get("degraded") is not True or b"\r\nx-degraded: " not in head:
        return False, "The answer is not marked as degraded."
    who = step.release if isinstance(step, Other) else ""
    by = f"{who} fallback:{step.by}"
    if by not in record.get("served_by", "") or by.encode() not in head:
        return False, f"The answer does not say that `{by.strip()}` gave it, but `{record.get('served_by')}`."
    return _judge_prediction(body, record["predictions"][0], f" by `{who}`" if who else "")


def _judge_prediction(body: Body, prediction: Mapping[str, Any], whose: str) -> tuple[bool, str]:
    if body.manifest.task is Task.REGRESSION:
        good = math.isfinite(prediction["value"])
        return good, f"Answered the value {prediction['value']:g}{whose}, marked as degraded."
    shares = prediction["probabilities"]
    if prediction["label"] not in body.manifest.classes or list(shares) != list(body.manifest.classes):
        return False, f"The label `{prediction['label']}` or its probabilities are not those of the contract's classes."
    return True, f"Answered the label `{prediction['label']}`{whose}, marked as degraded."
