"""The verbs on services: serve, list, stop. The supervisor does the work; these write the row and poke it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from modelyard.app.sealed_spec import spec_of
from modelyard.app.settings import Settings
from modelyard.app.spawn import COMMAND, child_environment
from modelyard.app.supervisor import run_supervisor
from modelyard.core.clock import Clock, stamp
from modelyard.core.codec import decode, encode
from modelyard.core.ids import ReleaseId, check_name
from modelyard.core.release import Service, Traffic
from modelyard.errors import AlreadyExists, NotRunning, ServiceError
from modelyard.serve import control
from modelyard.serve.messages import ERROR_FILE, Limits, Status, SupervisorJob
from modelyard.spec.serving import ServingSpec
from modelyard.spec.system import System
from modelyard.store.open import Store

READY_TIMEOUT_S = 60.0
STOP_MARGIN_S = 10.0


@dataclass(frozen=True)
class ServiceVerbs:
    """Commands on services of this store."""

    settings: Settings
    store: Callable[..., AbstractContextManager[Store]]
    clock: Clock

    def folder(self, name: str) -> Path:
        """Return the run folder of a service."""
        return self.settings.home / "run" / name

    def serve(
        self,
        ref: str,
        *,
        host: str | None = None,
        port: int | None = None,
        said: Callable[[str], None] = lambda _: None,
    ) -> int:
        """Serve a release in this process until it is told to stop; return the exit status.

        `said` is told, once it listens, where.
        """
        job = self._claim(ref, host, port)

        def heard(event: str, facts: Mapping[str, Any]) -> None:
            if event == "started":
                said(
                    f"Service `{job.service}` listens on http://{job.host}:{facts['port']}; Ctrl-C drains and ends it."
                )

        try:
            return run_supervisor(job, self.settings, heard)
        finally:
            self._put_state(job.service, "stopped")

    def detach(self, ref: str, *, host: str | None = None, port: int | None = None) -> Status:
        """Serve a release in a process of its own; return once it is ready."""
        job = self._claim(ref, host, port)
        folder = self.folder(job.service)
        with (folder / ERROR_FILE).open("ab") as errors:
            process = subprocess.Popen(
                [*COMMAND, "supervisor"],
                stdin=subprocess.PIPE,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
                env=child_environment(),
            )
        assert process.stdin is not None
        with process.stdin as pipe:
            pipe.write(encode(job))
        return self._await(process, job)

    def all(self) -> list[control.Running]:
        """Return the services that run, and those whose supervisor died."""
        return list(control.running(self.settings.home / "run"))

    def status(self, name: str) -> Status:
        """Ask a service how it is; raises NotRunning."""
        return control.status(self.folder(name))

    def stop(self, name: str) -> str:
        """Drain and end a service; return what happened in words. Raises NotRunning."""
        known = [one.run.service for one in self.all()]
        if check_name(name) not in known:
            raise NotRunning(
                f"No service `{name}` runs. " + (f"There is: {', '.join(known)}." if known else "None does.")
            )
        with (
            self.store() as store,
            store.audit.change("stop", resources=(name,), rollback_available=True, must_not_wait=True),
        ):
            told = control.stop(self.folder(name), self._drain_s(store, name) + STOP_MARGIN_S)
        self._put_state(name, "stopped")
        return told

    def _drain_s(self, store: Store, name: str) -> float:
        service = store.services.get(name)
        return 0.0 if service is None else _spec(store, next(iter(service.traffic.shares))).serving.drain_s

    def _claim(self, ref: str, host: str | None, port: int | None) -> SupervisorJob:
        """Write the service's row, and return what its supervisor is to do."""
        with self.store() as store:
            release = store.releases.get(ref)
            name = release.id.name
            if any(one.alive and one.run.service == name for one in self.all()):
                raise AlreadyExists(f"Service `{name}` runs already. Stop it first: modelyard stop {name}")
            spec = _spec(store, str(release.id))
            serving = spec.serving
            host, port = host or serving.host, serving.port if port is None else port
            with store.audit.change("serve", resources=(name, str(release.id)), rollback_available=True):
                self._put(store, release.id, host, port, environment=spec.environment.value)
        folder = self.folder(name)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return SupervisorJob(
            service=name, run_folder=str(folder), host=host, port=port, alias=serving.endpoint, limits=_limits(serving)
        )

    def _put(self, store: Store, id: ReleaseId, host: str, port: int, *, environment: str) -> None:
        before = store.services.get(id.name)
        epoch = 0 if before is None else before.traffic.epoch
        service = Service(
            name=id.name,
            traffic=Traffic(epoch=epoch + 1, shares={str(id): 1.0}),
            host=host,
            port=port,
            environment=environment,
            state="running",
            supervisor_pid=None,
            started=stamp(self.clock.now()),
        )
        store.services.put(service, expect_epoch=None if before is None else epoch)

    def _put_state(self, name: str, state: str) -> None:
        with self.store() as store:
            before = store.services.get(name)
            if before is not None and before.state != state:
                traffic = replace(before.traffic, epoch=before.traffic.epoch + 1)
                store.services.put(
                    replace(before, state=state, traffic=traffic, supervisor_pid=None),
                    expect_epoch=before.traffic.epoch,
                )

    def _await(self, process: subprocess.Popen[bytes], job: SupervisorJob) -> Status:
        """Wait until the service is ready; a supervisor that ended says why in its error file."""
        folder = self.folder(job.service)
        deadline = self.clock.monotonic() + READY_TIMEOUT_S
        while self.clock.monotonic() < deadline:
            try:
                return control.wait_ready(folder, 0.2)
            except (NotRunning, ServiceError):
                if process.poll() is not None:
                    self._put_state(job.service, "stopped")
                    raise _last_words(folder / ERROR_FILE, process.returncode) from None
        process.terminate()
        raise ServiceError(f"Service `{job.service}` was not ready within {READY_TIMEOUT_S:g} s; see {folder}.")


def _spec(store: Store, ref: str) -> System:
    return spec_of(store.releases.body(store.releases.get(ref).id))


def _limits(serving: ServingSpec) -> Limits:
    return Limits(
        deadline_ms=float(serving.deadline_ms),
        most_deadline_ms=float(serving.deadline_ms) * 10,
        most_body_bytes=int(serving.max_body_mb * 1e6),
        queue_rows=serving.queue_rows,
        batch_rows=serving.max_batch_rows,
        progress_timeout_s=max(Limits().progress_timeout_s, 2 * serving.deadline_ms / 1000),
        grace_s=max(serving.drain_s, 0.1),
    )


def _last_words(path: Path, code: int) -> ServiceError:
    """Return what a supervisor that ended said last, with the code that it had for it."""
    lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()] if path.exists() else []
    try:
        said = decode(lines[-1].encode() if lines else b"", dict[str, str])
    except msgspec.DecodeError:
        tail = f" with: {lines[-1]}" if lines else " without a word"
        return ServiceError(f"The supervisor ended with status {code}{tail}. More may stand in {path}.")
    fault = ServiceError(said["message"])
    fault.code, fault.exit_code = said["error"], code
    return fault
