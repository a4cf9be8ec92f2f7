"""Callers in this process, who keep every reply they are given."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from modelyard.serve.request import JSON, Code, Request
from tests.serve.bodies import ROW, expected

DEADLINE_MS = 2000.0  # where a caller names none
BASE = expected([{**ROW, "age": 40}])[0]


async def until(look: Callable[[], Any], *, timeout_s: float = 5.0) -> None:
    end = time.monotonic() + timeout_s
    while not look():
        assert time.monotonic() < end, "It did not come to pass."
        await asyncio.sleep(0.002)


def share(age: float) -> float:
    """The probability of >50K, by plain arithmetic."""
    return 1 / (1 + math.exp(-((age - 40) / 20 + BASE)))


class Reply:
    """What a caller got."""

    def __init__(self, code: Code, body: bytes, served_by: bytes, degraded: bytes | None, retry: int | None) -> None:
        self.code, self.body, self.served_by, self.degraded, self.retry_after_s = code, body, served_by, degraded, retry
        self.at = time.monotonic()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Caller(Request):
    """A request that keeps each reply it is given, also those it must not be given."""

    __slots__ = ("ages", "due", "replies")

    def __init__(
        self, *ages: float, body: bytes | None = None, path: bytes = b"/predict", id: str = "r", **headers: str
    ) -> None:
        data = json.dumps({"rows": [{**ROW, "age": age} for age in ages]}).encode() if body is None else body
        named = {name.lower().replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        super().__init__(method=b"POST", path=path, headers=named, body=data, id=id, arrived=time.monotonic())
        self.ages = ages
        self.due = self.arrived + float(headers.get("X_Deadline_Ms", DEADLINE_MS)) / 1000
        self.replies: list[Reply] = []

    def answer(
        self,
        body: bytes,
        *,
        code: Code = Code.OK,
        kind: bytes = JSON,
        served_by: bytes = b"front",
        degraded: bytes | None = None,
        extra: bytes = b"",
    ) -> None:
        self._take(Reply(code, body, served_by, degraded, None))

    def refuse(
        self,
        code: Code,
        message: str,
        *,
        served_by: bytes = b"front",
        faults: Sequence[str] = (),
        retry_after_s: int | None = None,
        extra: bytes = b"",
    ) -> None:
        self._take(Reply(code, json.dumps({"error": message}).encode(), served_by, None, retry_after_s))

    def _take(self, reply: Reply) -> None:
        self.sent, self.on_gone = True, None
        self.replies.append(reply)

    def leave(self) -> None:
        """Go away, as a transport tells it."""
        self.gone = True
        if self.on_gone is not None:
            self.on_gone()
            self.on_gone = None

    @property
    def reply(self) -> Reply:
        (reply,) = self.replies
        return reply

    async def replied(self) -> Reply:
        await until(lambda: self.replies)
        return self.reply

    def check(self) -> None:
        """Raise AssertionError unless the reply fits what was asked, and says who gave it."""
        reply = self.reply
        if reply.code is not Code.OK:
            assert reply.json["error"] and reply.degraded is None
            assert (reply.retry_after_s is not None) is (reply.code is Code.NOT_NOW)
            return
        told = reply.json
        shares = [one["probabilities"][">50K"] for one in told["predictions"]]
        assert told["served_by"].encode() == reply.served_by
        assert told["degraded"] is (reply.degraded is not None)
        assert told["reason"] == (None if reply.degraded is None else reply.degraded.decode())
        if reply.degraded is None:
            np.testing.assert_allclose(shares, [share(age) for age in self.ages], atol=1e-6)
        else:
            assert len(shares) == len(self.ages) and b" fallback:" in reply.served_by
