"""What rollouts are tested with: releases of one training that differ in spec or are spoilt, and callers."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import threading
import time
from collections import Counter
from typing import Any

from msgspec.structs import replace

from modelyard.adapters.onnx_harm import Harm, spoilt
from modelyard.bundle.format import GRAPH, MANIFEST, SPEC_IN_EFFECT, FileEntry, Golden, Manifest
from modelyard.core.codec import decode, digest, encode
from modelyard.flow.rollout.courses import Courses
from modelyard.rollout.course import Course
from modelyard.spec.system import reopen
from tests.journeys.making import Place
from tests.journeys.own import until

ROW = {"age": 70, "city": "rome", "hours": 40.5}
ERRORS = {"metric": "error_rate", "at_most": 0.05}
QUICK = {"strategy": "canary", "steps": [{"share": 0.5, "least_time_s": 0.2, "least_samples": 20}]}


def release(place: Place, *, harm: Harm | None = None, amount: int = 0, seed: int = 0, **sections: Any) -> str:
    """Seal `shop@1` once more with other sections in its spec, spoilt where a harm is named."""
    folder = place.folder / f"sealed-{harm}-{seed}-{time.monotonic_ns()}"
    with place.app.store() as store:
        first = store.releases.get("shop@1")
        shutil.copytree(store.releases.body(first.id), folder)
        for path in (folder, *folder.iterdir()):
            path.chmod(0o700)
        manifest = decode((folder / MANIFEST).read_bytes(), Manifest)
        spec = json.loads((folder / SPEC_IN_EFFECT).read_bytes())
        for name, section in sections.items():
            spec[name] = spec.get(name, {}) | section if isinstance(section, dict) else section
        changed = {SPEC_IN_EFFECT: reopen(json.dumps(spec).encode()).canonical()}
        if harm is not None:
            rows = len(decode((folder / "golden.json").read_bytes(), Golden).rows)
            changed[GRAPH] = spoilt((folder / GRAPH).read_bytes(), harm, golden_rows=rows, amount=amount)
        for name, data in changed.items():
            (folder / name).write_bytes(data)
        files = manifest.files | {
            name: FileEntry(size=len(data), sha256=digest(data)) for name, data in changed.items()
        }
        manifest = replace(manifest, files=files, seed=manifest.seed + 1 + seed)
        (folder / MANIFEST).write_bytes(encode(manifest))
        return str(store.releases.seal("shop", folder, [], headline="again", spec_digest=first.spec_digest).id)


def serve(place: Place, ref: str = "shop@1") -> int:
    done = place.call("serve", ref, "--port", "0", "--detach", "--json")
    assert done.code == 0, done.err
    return int(done.json["run"]["port"])


def asked(port: int, path: str) -> int:
    """Return the code of a prediction at a path."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=15)) as client:
        client.request("POST", path, body=json.dumps({"rows": [ROW]}))
        return client.getresponse().status


def answer(port: int, headers: dict[str, str]) -> dict[str, str]:
    """Return the headers of the answer to a prediction, names in lower case."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=15)) as client:
        client.request("POST", "/predict", body=json.dumps({"rows": [ROW]}), headers=headers)
        return {name.lower(): value for name, value in client.getresponse().headers.items()}


def course_of(place: Place) -> Course:
    return Courses(place.home / "run" / "shop").need()


def ended(place: Place, *, timeout_s: float = 30.0) -> Course:
    """Return the course once it has ended and nobody needs to keep it."""
    courses = Courses(place.home / "run" / "shop")
    until(lambda: not courses.is_open, timeout_s=timeout_s)
    return courses.need()


class Callers:
    """Callers that ask one after the other until told to stop."""

    def __init__(self, port: int, count: int = 4, *, pause_s: float = 0.002) -> None:
        self.port, self.pause_s = port, pause_s
        self.seen: Counter[tuple[int, str]] = Counter()  # by code and who answered
        self.lost: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    @property
    def codes(self) -> set[int]:
        return {code for code, _ in self.seen}

    def _run(self) -> None:
        while not self._stop.is_set():
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)) as client:
                self._talk(client)

    def _talk(self, client: http.client.HTTPConnection) -> None:
        body = json.dumps({"rows": [ROW]})
        while not self._stop.wait(self.pause_s):
            try:
                client.request("POST", "/predict", body=body)
                reply = client.getresponse()
                reply.read()
            except (OSError, http.client.HTTPException) as fault:
                self.lost.append(repr(fault))
                return
            self.seen[reply.status, reply.headers["x-served-by"]] += 1
            if reply.headers.get("connection") == "close":
                return
