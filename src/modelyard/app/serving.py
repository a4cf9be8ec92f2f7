"""From what a spec says, and what was measured at sealing, to what a supervisor is to run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from modelyard.core.evidence import Evidence
from modelyard.core.machine import cores
from modelyard.core.sweep import ServingSettings
from modelyard.evaluate.sweep_choice import settings_of
from modelyard.serve.messages import Limits, SupervisorJob
from modelyard.spec.serving import ServingSpec
from modelyard.spec.system import System

PROGRESS_SHARE = 0.4  # of the deadline, after which a batch's worker counts as hung: its rows can still be tried again


def supervisor_job(
    service: str, folder: Path, spec: System, records: Iterable[Evidence], *, host: str, port: int
) -> SupervisorJob:
    """Return what a supervisor is to run: as the spec says, and where it is silent as was measured at sealing."""
    serving = spec.serving
    measured = settings_of(
        records,
        deadline_ms=float(serving.deadline_ms),
        requirements=spec.requirement_records(),
        cores=cores(),
        workers=serving.workers,
        threads=serving.threads,
        batch_rows=serving.max_batch_rows,
        fronts=serving.fronts,
    )
    return SupervisorJob(
        service=service,
        run_folder=str(folder),
        host=host,
        port=port,
        fronts=serving.fronts,
        grpc_port=serving.grpc_port,
        management_host=serving.management_host,
        management_port=serving.management_port,
        alias=serving.endpoint,
        limits=limits(serving, measured),
        workers=measured.workers,
        threads=measured.threads,
        memory_mb=serving.memory_mb or measured.memory_mb,
        keep_warm_s=max(serving.keep_warm_s, 0.001),
        standby=serving.standby,
        needs_key=serving.keys,
        tls_cert=serving.tls_cert,
        tls_key=serving.tls_key,
        pin_versions=serving.pin_versions,
        trace_sample=serving.trace_sample,
        log_sample_per_s=serving.log_sample_per_s,
        otlp_endpoint=serving.otlp_endpoint,
    )


def limits(serving: ServingSpec, measured: ServingSettings) -> Limits:
    """Return the bounds of a service."""
    delay_ms = measured.max_delay_ms if serving.max_delay_ms is None else serving.max_delay_ms
    return Limits(
        deadline_ms=float(serving.deadline_ms),
        most_deadline_ms=float(serving.deadline_ms) * 10,
        most_body_bytes=int(serving.max_body_mb * 1e6),
        queue_rows=serving.queue_rows,
        queue_bytes=int(serving.queue_mb * 1e6),
        batch_rows=min(measured.batch_rows, serving.queue_rows),
        max_delay_ms=delay_ms,
        progress_timeout_s=max(measured.progress_timeout_s, PROGRESS_SHARE * serving.deadline_ms / 1000),
        grace_s=max(serving.drain_s, 0.1),
    )
