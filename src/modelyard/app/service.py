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
from modelyard.app.serving import supervisor_job
from modelyard.app.settings import Settings
from modelyard.app.spawn import COMMAND, child_environment
from modelyard.app.supervisor import run_supervisor
from modelyard.core.clock import Clock, stamp
from modelyard.core.codec import decode, encode
from modelyard.core.ids import ReleaseId, check_name
from modelyard.core.release import Service
from modelyard.errors import AlreadyExists, NotRunning, ServiceError
from modelyard.serve.guard.exposure import exposures, locked
from modelyard.serve.guard.keys import read_keys
from modelyard.serve.guard.tls import server_context
from modelyard.serve.keep import control
from modelyard.serve.keep.following import largest, resumed
from modelyard.serve.messages import ERROR_FILE, Status, SupervisorJob
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
        grpc_port: int | None = None,
        said: Callable[[str], None] = lambda _: None,
        listening: Callable[[Mapping[str, Any]], None] = lambda _: None,
    ) -> int:
        """Serve a release in this process until it is told to stop; return the exit status.

        `said` and `listening` are told, once it listens, where: in words, and as a record.
        """
        job = self._claim(ref, host, port, grpc_port)
        self._warn(job, said)

        def heard(event: str, facts: Mapping[str, Any]) -> None:
            if event == "started":
                scheme = "http" if job.tls_cert is None else "https"
                address = f"{scheme}://{job.host}:{facts['port']}"
                said(f"Service `{job.service}` listens on {address}; Ctrl-C drains and ends it.")
                listening({"service": job.service, "address": address})

        try:
            return run_supervisor(job, self.settings, heard)
        finally:
            self._put_state(job.service, "stopped")

    def detach(
        self,
        ref: str,
        *,
        host: str | None = None,
        port: int | None = None,
        grpc_port: int | None = None,
        said: Callable[[str], None] = lambda _: None,
    ) -> Status:
        """Serve a release in a process of its own; return once it is ready. `said` is told what it leaves open."""
        job = self._claim(ref, host, port, grpc_port)
        self._warn(job, said)
        folder = self.folder(job.service)
        error_file = folder / ERROR_FILE
        error_file.touch(mode=0o600)
        with error_file.open("ab") as errors:
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

    def _warn(self, job: SupervisorJob, said: Callable[[str], None]) -> None:
        for why in (*exposures(job), *locked(job, read_keys(self.folder(job.service)))):
            said(f"WARNING: {why}")

    def _drain_s(self, store: Store, name: str) -> float:
        service = store.services.get(name)
        return 0.0 if service is None else _spec(store, largest(service.traffic)).serving.drain_s

    def _claim(self, ref: str, host: str | None, port: int | None, grpc_port: int | None) -> SupervisorJob:
        """Write the service's row, and return what its supervisor is to do."""
        with self.store() as store:
            release = store.releases.get(ref)
            name = release.id.name
            if any(one.alive and one.run.service == name for one in self.all()):
                raise AlreadyExists(f"Service `{name}` runs already. Stop it first: modelyard stop {name}")
            spec = _spec(store, str(release.id))
            serving = spec.serving
            host, port = host or serving.host, serving.port if port is None else port
            server_context(serving.tls_cert, serving.tls_key)  # what cannot be used is said before anything is written
            records = [record for _, record in store.releases.evidence(release.id)]
            with store.audit.change("serve", resources=(name, str(release.id)), rollback_available=True):
                self._put(store, release.id, host, port, environment=spec.environment.value)
        folder = self.folder(name)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        job = supervisor_job(name, folder, spec, records, host=host, port=port)
        return job if grpc_port is None else replace(job, grpc_port=grpc_port)

    def _put(self, store: Store, id: ReleaseId, host: str, port: int, *, environment: str) -> None:
        before = store.services.get(id.name)
        epoch = 0 if before is None else before.traffic.epoch
        service = Service(
            name=id.name,
            traffic=resumed(
                None if before is None else before.traffic, control.local_traffic(self.folder(id.name)), str(id)
            ),
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
                    raise last_words(folder / ERROR_FILE, process.returncode) from None
        process.terminate()
        raise ServiceError(f"Service `{job.service}` was not ready within {READY_TIMEOUT_S:g} s; see {folder}.")


def _spec(store: Store, ref: str) -> System:
    return spec_of(store.releases.body(store.releases.get(ref).id))


def last_words(path: Path, code: int) -> ServiceError:
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
