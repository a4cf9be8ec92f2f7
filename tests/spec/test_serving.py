"""The settings of a service's processes, keys, certificate and addresses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.spec.making import LEAST, faults, loaded


@pytest.mark.parametrize(
    "more",
    [
        "tls_cert: /etc/cert.pem, tls_key: /etc/key.pem",
        "grpc_port: 9000, management_port: 9001, management_host: 10.0.0.1",
        "fronts: 4, workers: 2, threads: 8, memory_mb: 512, standby: false, keep_warm_s: 0",
        "keys: true, pin_versions: true, trace_sample: 0.1, otlp_endpoint: 'http://127.0.0.1:4318'",
        "max_batch_rows: 8, max_delay_ms: 0.5, queue_mb: 0.1, log_sample_per_s: 0",
    ],
)
def test_what_goes_together_is_taken(tmp_path: Path, more: str) -> None:
    assert faults(tmp_path, f"{LEAST}serving: {{{more}}}\n") == []


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("tls_cert: /etc/cert.pem", "a path beside `tls_cert`: TLS needs both"),
        ("tls_key: /etc/key.pem", "a path beside `tls_key`: TLS needs both"),
        ("tls_cert: cert.pem, tls_key: /k", "a path from the root"),
        ("port: 9000, grpc_port: 9000", "another port than `port`"),
        ("grpc_port: 9000, management_port: 9000", "another port than `grpc_port`"),
        ("otlp_endpoint: 127.0.0.1", "an address such as http://127.0.0.1:4318"),
        ("trace_sample: 1.5", "1"),
        ("memory_mb: 1", "16"),
        ("queue_rows: 8, max_batch_rows: 9", "at least `max_batch_rows`, 9"),
    ],
)
def test_what_does_not_is_said(tmp_path: Path, more: str, told: str) -> None:
    (fault,) = faults(tmp_path, f"{LEAST}serving: {{{more}}}\n")
    assert told in fault


def test_what_is_left_out_is_left_to_what_is_measured(tmp_path: Path) -> None:
    found = loaded(tmp_path, LEAST).spec.serving
    assert (found.workers, found.threads, found.max_batch_rows, found.memory_mb) == (None, None, None, None)
    assert (found.keys, found.grpc_port, found.management_port, found.tls_cert) == (False, None, None, None)
