"""Metrics, the log, and what the kernel says of processes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from modelyard.errors import PortTaken
from modelyard.serve.keep.children import backoff_s
from modelyard.serve.keep.processes import end, hold_callers, is_same, listen, owner_of, start_ticks, wait_gone
from modelyard.serve.told import log as log_module
from modelyard.serve.told.log import Log
from modelyard.serve.told.metrics import BUCKETS_S, Metrics


def test_another_reader_of_the_format_reads_the_same_numbers() -> None:
    metrics = Metrics()
    metrics.requests.add("income@1", "rows", "200", by=3)
    metrics.faults.add("income@1", 'odd "name"\nwith \\', by=2)
    for value in (0.00005, 0.003, 99.0):
        metrics.seconds.add("income@1", "v2", value=value)
    samples = [
        sample
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
        if sample.value
    ]
    found = {(sample.name, *sample.labels.values()): sample.value for sample in samples}
    assert found["modelyard_requests_total", "income@1", "rows", "200"] == 3
    assert found["modelyard_contract_faults_total", "income@1", 'odd "name"\nwith \\'] == 2
    assert found["modelyard_request_seconds_count", "income@1", "v2"] == 3
    assert found["modelyard_request_seconds_sum", "income@1", "v2"] == pytest.approx(99.00305)
    assert found["modelyard_request_seconds_bucket", "income@1", "v2", "0.0001"] == 1
    assert found["modelyard_request_seconds_bucket", "income@1", "v2", str(BUCKETS_S[-1])] == 2
    assert found["modelyard_request_seconds_bucket", "income@1", "v2", "+Inf"] == 3


def test_the_log_keeps_every_line_in_order_and_its_files_stay_bounded(tmp_path: Path) -> None:
    path = tmp_path / "service.log"
    for turn in range(8):
        log = Log(path, most_bytes=2000)
        for number in range(20):
            log.write({"event": "request", "number": turn * 20 + number, "text": "x" * 20})
        log.close()
    files = sorted(tmp_path.iterdir())
    assert len(files) == log_module.KEPT
    assert all(file.stat().st_size < 4000 for file in files)
    assert [json.loads(line)["number"] for line in path.read_text().splitlines()][-1] == 159


def test_a_log_that_cannot_be_written_counts_and_goes_on(tmp_path: Path) -> None:
    log = Log(tmp_path / "no such folder" / "service.log", most_bytes=1000)
    log.write({"event": "lost"})
    log.close()
    assert log.dropped == 1


def test_lines_beyond_the_bound_are_dropped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "MOST_WAITING", 5)
    monkeypatch.setattr(log_module, "FLUSH_S", 60.0)
    log = Log(tmp_path / "service.log", most_bytes=1000)
    for number in range(8):
        log.write({"number": number})
    log.close()
    assert log.dropped == 3
    assert len((tmp_path / "service.log").read_text().splitlines()) == 5


def test_a_process_is_told_from_a_later_one_of_the_same_number() -> None:
    ticks = start_ticks(os.getpid())
    assert ticks is not None
    assert is_same(os.getpid(), ticks)
    assert not is_same(os.getpid(), ticks + 1)
    assert start_ticks(2**22 + 1) is None
    assert not end(os.getpid(), ticks + 1)  # or this test would be over


def test_the_end_of_a_process_is_waited_for() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        ticks = start_ticks(process.pid)
        assert ticks is not None
        assert not wait_gone(process.pid, ticks, timeout_s=0.01)
        process.kill()
        assert wait_gone(process.pid, ticks, timeout_s=5)


def test_a_taken_port_is_told_with_who_has_it() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        owner = owner_of(port)
        assert owner is not None and owner[0] == os.getpid()
        with pytest.raises(PortTaken, match=rf"Port {port} on 127\.0\.0\.1 is taken by process {os.getpid()}"):
            listen("127.0.0.1", port)


def test_an_address_that_is_not_ours_is_told() -> None:
    with pytest.raises(PortTaken, match="Cannot listen"):
        listen("192.0.2.1", 0)


def test_a_free_port_is_listened_on() -> None:
    with listen("127.0.0.1", 0) as sock, socket.create_connection(sock.getsockname()):
        assert owner_of(sock.getsockname()[1]) is not None


def test_callers_held_back_at_the_end_are_refused_and_those_before_are_kept() -> None:
    with listen("127.0.0.1", 0) as sock, socket.create_connection(sock.getsockname()) as early:
        early.sendall(b"hello")
        hold_callers(sock)
        with socket.socket() as late:
            late.settimeout(0.2)
            with pytest.raises(TimeoutError):
                late.connect(sock.getsockname())
        taken = sock.accept()[0]
        with taken:
            assert taken.recv(5) == b"hello"


def test_the_wait_before_a_restart_grows_and_is_bounded() -> None:
    waits = [backoff_s(failures) for failures in range(1, 12)]
    assert waits == sorted(waits) and waits[0] == 0 and waits[-1] == 10
