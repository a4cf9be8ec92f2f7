"""A copy of a service in processes, a run folder, a port and a store of its own; a guardian ends all of it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from modelyard.app.bench import ROWS_PATH
from modelyard.app.copy_store import DATABASE, CopyReleases, CopyServices
from modelyard.app.drill_bodies import Copied
from modelyard.app.guardian import marked
from modelyard.app.rehearsed import RehearsedJob
from modelyard.app.service import last_words
from modelyard.app.settings import HOME
from modelyard.app.spawn import child_environment
from modelyard.core.clock import SystemClock
from modelyard.core.codec import digest, encode
from modelyard.core.drill import Sign
from modelyard.core.release import Service, Traffic
from modelyard.errors import NotRunning, ServiceError
from modelyard.serve.keep import control
from modelyard.serve.keep.change import Changes
from modelyard.serve.messages import ERROR_FILE, BodyRef, Status
from modelyard.store.database import Database, sqlite_url
from modelyard.store.open import open_audit
from modelyard.store.schema import migrate

READY_S = 60.0
END_S = 20.0
HEARD_S = 5.0
ASK_S = 5.0
TELLING = frozenset({"killed", "replaced", "quarantined", "supervisor_fault", "governed_by_local_copy"})


class Copy:
    """The processes of one copy. `events` are what its supervisor told, with the moment it was heard."""

    def __init__(self, copied: Copied, folder: Path, first: str, bodies: dict[str, BodyRef]) -> None:
        self.copied, self.folder, self.bodies = copied, folder, bodies
        self.name = copied.job.service
        self.run = folder / "run" / self.name
        self.events: list[tuple[float, str, dict[str, Any]]] = []
        self.services, self.releases = CopyServices(folder), CopyReleases(bodies)
        self.changes = Changes(
            folder=folder / "run",
            store=lambda: (self.services, self.releases),
            audit=open_audit(
                folder, user="drill", environment="sandbox", change_ticket=None, command="drill", clock=SystemClock()
            ),
            clock=SystemClock(),
        )
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._hearing: threading.Thread
        self._prepare(first)

    @property
    def database(self) -> list[Path]:
        """Return the files of the copy's store."""
        return sorted(path for path in self.folder.iterdir() if path.name.startswith(DATABASE))

    @property
    def pids(self) -> list[int]:
        """Return every living process of the copy."""
        return marked(self.folder)

    def start(self) -> None:
        """Start the supervisor, and return once the service is ready; raises ServiceError."""
        job = replace(self.copied.job, run_folder=str(self.run), port=self.port)
        with (self.run / ERROR_FILE).open("ab") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "modelyard.app.rehearsed"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                env={**child_environment(), HOME: str(self.folder)},
            )
        self._process = process
        self._hearing = threading.Thread(target=self._hear, args=(process,), daemon=True)
        self._hearing.start()
        assert process.stdin is not None
        wanted = RehearsedJob(home=str(self.folder), bodies=self.bodies, job=job)
        process.stdin.write(encode(wanted) + b"\n")
        process.stdin.flush()
        self.port = self._await_ready(process).run.port

    def _await_ready(self, process: subprocess.Popen[bytes]) -> Status:
        """Wait until the service is ready; raises what its supervisor said last where it ended."""
        end = time.monotonic() + READY_S
        while time.monotonic() < end:
            try:
                return control.wait_ready(self.run, 0.2)
            except (NotRunning, ServiceError):
                if process.poll() is not None:
                    raise last_words(self.run / ERROR_FILE, process.returncode) from None
        raise ServiceError(f"The copy of `{self.name}` was not ready within {READY_S:g} s.")

    def kill_supervisor(self) -> None:
        """Kill the supervisor, and return once it is gone and all that it told was heard; twice is harmless."""
        process = self._process
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        process.kill()  # before its input closes, at which it would drain
        process.wait()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        self._hearing.join(HEARD_S)  # of its children none holds the pipe
        process.stdout.close()

    def sign(self, since: float, only: frozenset[str] = TELLING) -> Sign | None:
        """Return the first event since a moment that says that something is wrong."""
        for at, event, facts in list(self.events):
            if at >= since and event in only:
                what = " ".join(str(facts[key]) for key in ("process", "release", "why") if key in facts)
                return Sign(at, f"event `{event}` {what}".strip())
        return None

    def facts(self) -> dict[str, str]:
        """Return who answers at each path of the plain rows form, and the digest of what the service says of itself."""
        found = {}
        for path in (ROWS_PATH, self.copied.job.alias):
            if path is not None:
                found[path] = str(json.loads(self._ask("POST", path, self.copied.requests[0])).get("served_by"))
        document = msgspec.json.decode(self._ask("GET", "/openapi.json", None))
        found["/openapi.json"] = digest(encode(document))
        return found

    def _ask(self, method: str, path: str, body: bytes | None) -> bytes:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ASK_S)
        headers = {} if body is None else {"Content-Type": "application/json"}
        with contextlib.closing(client):
            try:
                client.request(method, path, body=body, headers=headers)
                return client.getresponse().read()
            except (OSError, http.client.HTTPException) as fault:
                raise NotRunning(f"The copy of `{self.name}` does not answer {path}: {fault}.") from fault

    def _prepare(self, first: str) -> None:
        """Write the row by which a release answers first."""
        self.run.mkdir(parents=True, mode=0o700)
        database = Database(sqlite_url(self.folder / DATABASE))
        try:
            database.use_write_ahead_log()
            migrate(database)
        finally:
            database.close()
        row = Service(
            name=self.name, traffic=Traffic(epoch=1, shares={first: 1.0}), host="127.0.0.1", port=0,
            environment="sandbox", state="running", supervisor_pid=None, started=None,
        )  # fmt: skip
        self.services.put(row, expect_epoch=None)

    def _hear(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with contextlib.suppress(ValueError):  # closed meanwhile
            for line in process.stdout:
                told = json.loads(line)
                self.events.append((time.monotonic(), told["event"], told["facts"]))


@contextlib.contextmanager
def guarded_folder() -> Iterator[Path]:
    """Make a folder for a copy; on leaving, and if this process is killed, all that runs in it ends and it is gone."""
    folder = Path(tempfile.mkdtemp(prefix="modelyard-drill-"))
    guardian = subprocess.Popen(
        [sys.executable, "-m", "modelyard.app.guardian", str(folder)], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        yield folder
    finally:
        assert guardian.stdin is not None
        guardian.stdin.close()
        guardian.wait(END_S)


def kill(pid: int, number: int) -> None:
    """Send a signal to a process of a copy; raises ServiceError where it is gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError as fault:
        raise ServiceError(f"Process {pid} of the copy was gone before it was harmed.") from fault
