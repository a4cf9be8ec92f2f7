"""Trying the way back before it is needed."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import msgspec

from modelyard.bundle.format import Body
from modelyard.core.clock import SystemClock
from modelyard.core.evidence import FallbackEvidence
from modelyard.core.metrics import Task
from modelyard.core.release import Traffic
from modelyard.errors import ModelyardError
from modelyard.serve import fallback
from modelyard.serve.desk import Desk
from modelyard.serve.http import Code, Request
from modelyard.serve.messages import BodyRef, Limits, Routes

_PATH = b"/predict"


def try_fallback(body: Body) -> FallbackEvidence:
    """Send a golden request through the front's own code with no worker behind it, and judge what comes.

    An answer must be marked as degraded, in header and body, and be one that the contract allows; a release that
    refuses must say so with Retry-After.
    """
    began = time.perf_counter()
    replies: list[bytes] = []
    try:
        request = Request(
            method=b"POST",
            path=_PATH,
            headers={},
            body=msgspec.json.encode({"rows": body.golden.rows[:1]}),
            id="rehearsal",
            arrived=0.0,
            write=lambda _, data: replies.append(data),
        )
        _desk(body).handle(request)
    except ModelyardError as fault:
        return FallbackEvidence(
            kind=fallback.kind(body), answered=False, seconds=time.perf_counter() - began, detail=str(fault)
        )
    seconds = time.perf_counter() - began
    answered, detail = _judge(body, replies)
    return FallbackEvidence(kind=fallback.kind(body), answered=answered, seconds=seconds, detail=detail)


def _desk(body: Body) -> Desk:
    """Return a desk with this one release and no way to a worker."""
    name = body.manifest.name
    release = f"{name}@1"  # a number is needed to route; the body is what is tried
    desk = Desk(
        service=name,
        run_folder=Path(),
        alias=None,
        workers=1,
        limits=Limits(),
        version="",
        clock=SystemClock(),
    )
    desk.open(release, body)
    ref = BodyRef(folder="", digest=body.digest)
    desk.adopt(Routes(traffic=Traffic(epoch=0, shares={release: 1.0}), bodies={release: ref}))
    return desk


def _judge(body: Body, replies: list[bytes]) -> tuple[bool, str]:
    if len(replies) != 1:
        return False, f"{len(replies)} replies came, wanted one."
    head, _, payload = replies[0].partition(b"\r\n\r\n")
    code = int(head.split(b" ", 2)[1])
    if fallback.kind(body) == "refuse":
        good = code == Code.NOT_NOW and b"\r\nretry-after: " in head
        return good, "Refused with Retry-After." if good else f"The reply was {code} and did not refuse as it should."
    if code != Code.OK:
        return False, f"The reply was {code}: {payload[:200].decode(errors='replace')}"
    record = msgspec.json.decode(payload)
    if record.get("degraded") is not True or b"\r\nx-degraded: " not in head:
        return False, "The answer is not marked as degraded."
    return _judge_prediction(body, record["predictions"][0])


def _judge_prediction(body: Body, prediction: dict[str, Any]) -> tuple[bool, str]:
    if body.manifest.task is Task.REGRESSION:
        good = math.isfinite(prediction["value"])
        return good, f"Answered the value {prediction['value']:g}, marked as degraded."
    shares = prediction["probabilities"]
    if prediction["label"] not in body.manifest.classes or list(shares) != list(body.manifest.classes):
        return False, f"The label `{prediction['label']}` or its probabilities are not those of the contract's classes."
    return True, f"Answered the label `{prediction['label']}`, marked as degraded."
