"""Starting a service's processes: what each is told, and the sockets that fronts inherit."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

from modelyard.core.codec import encode_pretty
from modelyard.serve.guard.exposure import is_loopback
from modelyard.serve.keep.children import Spawn
from modelyard.serve.keep.handover import take
from modelyard.serve.keep.processes import is_same, listen, take_callers
from modelyard.serve.keep.standby import Standby
from modelyard.serve.messages import (
    KEYS_FILE,
    ControllerJob,
    Doors,
    FrontJob,
    Routes,
    RunInfo,
    SupervisorJob,
    WorkerJob,
)


class Starter:
    """Holds the listening sockets, so that a front can be replaced while its callers wait in the kernel's queue."""

    def __init__(self, job: SupervisorJob, spawn: Spawn) -> None:
        self.job, self._spawn = job, spawn
        self.standby = Standby(lambda: spawn("worker", None)) if job.standby else None
        self._socks: dict[Doors, socket.socket] = {}

    def take_over(self, left: RunInfo) -> None:
        """Take the sockets of fronts that a dead supervisor left, where they listen on what is asked for."""
        wanted: dict[Doors, tuple[int | None, int | None]] = {
            "http": (self.job.port, left.port),
            "grpc": (self.job.grpc_port, left.grpc_port),
        }
        for doors, (asked, had) in wanted.items():
            if left.host != self.job.host or had is None or asked not in (0, had):
                continue
            for child in left.children:
                is_one = child.kind == "front" and child.name.startswith("grpc.") is (doors == "grpc")
                if is_one and is_same(child.pid, child.start_ticks):
                    sock = take(Path(self.job.run_folder), child.name)
                    if sock is None:
                        continue
                    if doors in self._socks:  # the same one; each front hears that it is not the last on it
                        sock.close()
                    else:
                        self._socks[doors] = sock

    def listen(self) -> None:
        """Take the service's addresses, where they were not taken over; raises PortTaken."""
        for sock in self._socks.values():
            take_callers(sock)
        if "http" not in self._socks:
            self._socks["http"] = listen(self.job.host, self.job.port)
        if self.job.grpc_port is not None and "grpc" not in self._socks:
            self._socks["grpc"] = listen(self.job.host, self.job.grpc_port)

    def port(self, doors: Doors) -> int | None:
        """Return the port that is listened on."""
        sock = self._socks.get(doors)
        return None if sock is None else int(sock.getsockname()[1])

    def hang_up(self) -> None:
        """Let go of the sockets: when the last front closes its own, callers are refused at once."""
        for sock in self._socks.values():
            sock.close()

    @property
    def fronts(self) -> dict[str, Doors]:
        """Return the fronts that are to run, by name."""
        names: dict[str, Doors] = {f"front.{number}": "http" for number in range(self.job.fronts)}
        return {**names, "grpc.0": "grpc"} if self.job.grpc_port is not None else names

    def front(self, name: str, routes: Routes) -> subprocess.Popen[bytes]:
        """Start a front."""
        job, doors = self.job, self.fronts[name]
        handle = self._socks[doors].fileno()
        front_job = FrontJob(
            name=name,
            doors=doors,
            service=job.service,
            run_folder=job.run_folder,
            listen_fd=handle,
            routes=routes,
            workers=job.workers,
            fronts=list(self.fronts.values()).count(doors),
            alias=job.alias,
            limits=job.limits,
            keys_file=str(Path(job.run_folder) / KEYS_FILE) if job.needs_key else None,
            guards_pages=job.needs_key and not is_loopback(job.host),
            tls_cert=job.tls_cert,
            tls_key=job.tls_key,
            pin_versions=job.pin_versions,
            trace_sample=job.trace_sample,
            log_sample_per_s=job.log_sample_per_s,
            otlp_endpoint=job.otlp_endpoint,
        )
        return self._spawn("front", encode_pretty(front_job), pass_fds=(handle,))

    def worker(
        self, release: str, slot: int | None, routes: Routes, now: float, *, hurries: bool = True
    ) -> subprocess.Popen[bytes]:
        """Start a worker; without a slot it is the quarantine's.

        One that hurries takes the process that stands by, if there is one.
        """
        job_json = encode_pretty(
            WorkerJob(
                release=release,
                slot=slot or 0,
                quarantine=slot is None,
                body=routes.bodies[release],
                run_folder=self.job.run_folder,
                threads=self.job.threads,
                memory_mb=self.job.memory_mb,
            )
        )
        process = None
        if self.standby is not None and hurries:
            process = self.standby.take(job_json)
            self.standby.pause(now)
        return process or self._spawn("worker", job_json)

    def controller(self) -> subprocess.Popen[bytes]:
        """Start what keeps the service's rollout."""
        job = ControllerJob(service=self.job.service, run_folder=self.job.run_folder)
        return self._spawn("controller", encode_pretty(job))

    def close(self) -> None:
        """End the process that stands by."""
        if self.standby is not None:
            self.standby.close()
