"""Callers of a running service."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from typing import Any

from tests.serve.bodies import ROW
from tests.serve.running import eventually

V2 = "/v2/models/income/infer"


def v2(*rows: dict[str, Any]) -> dict[str, Any]:
    kinds = {"age": "INT64", "score": "FP64", "city": "BYTES", "seen": "BYTES"}
    inputs = [
        {"name": name, "datatype": kind, "shape": [len(rows)], "data": [row[name] for row in rows]}
        for name, kind in kinds.items()
    ]
    return {"inputs": inputs}


class Load:
    """Callers that ask one after the other, on connections they keep, until told to stop."""

    def __init__(self, port: int, callers: int, *, deadline_ms: int = 1000) -> None:
        self.replies: list[tuple[int, str | None, float]] = []
        self.lost: list[str] = []
        self.port, self.deadline_ms = port, deadline_ms
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(callers)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        eventually(lambda: len(self.replies) > 20)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    def _run(self) -> None:
        headers = {"X-Deadline-Ms": str(self.deadline_ms)}
        body = json.dumps({"rows": [ROW]})
        while not self._stop.is_set():
            client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            try:
                client.connect()
            except ConnectionRefusedError:
                return  # the announced end
            with contextlib.closing(client):
                self._talk(client, body, headers)

    def _talk(self, client: http.client.HTTPConnection, body: str, headers: dict[str, str]) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                client.request("POST", "/predict", body=body, headers=headers)
                reply = client.getresponse()
                reply.read()
            except (OSError, http.client.HTTPException) as fault:
                self.lost.append(repr(fault))
                return
            self.replies.append((reply.status, reply.headers.get("X-Degraded"), time.monotonic() - began))
            if reply.will_close:
                return

    def since(self, count: int) -> list[tuple[int, str | None, float]]:
        return self.replies[count:]
