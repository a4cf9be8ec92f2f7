"""Long runs of a whole service: faults in turn, ends under load, reloads without growth."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

from modelyard.serve.keep import control
from tests.serve.bodies import ROW, write_body
from tests.serve.open_loop import Seen, ask
from tests.serve.running import eventually, service, write_bodies, write_row
from tests.serve.soaking import LIMITS, _size, soak

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

SECS = 600.0


def test_a_service_stays_available_through_ten_minutes_of_faults(tmp_path: Path) -> None:
    told = soak(tmp_path, secs=SECS)
    assert told.served >= 0.999 and told.plain >= 0.99, told
    assert {fault.kind for fault in told.faults} == {"kill", "hang", "reload", "bad batch", "promotion"}
    assert all(fault.whole_after_s is not None for fault in told.faults), told.faults
    early, late = told.pss_mb
    assert late < early + 10, told.pss_mb


def test_twenty_ends_under_load_lose_no_request(tmp_path: Path, bodies: dict[str, tuple[Path, str]]) -> None:
    for turn in range(20):
        with service(tmp_path / f"run{turn}", bodies, limits=LIMITS) as running:
            seen: list[Seen] = []
            asking = threading.Thread(
                target=lambda: seen.append(ask(running.port, {"rows": [ROW]}, rate=2000, secs=None))  # noqa: B023 - joined below
            )
            asking.start()
            eventually(lambda: running.metric('modelyard_requests_total{release="income@1"') > 2000)
            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(30) == 0
            asking.join(30)
            assert seen[0].lost == []
            assert set(seen[0].answers) == {"200"}, (turn, seen[0].answers)


def test_two_hundred_reloads_leave_no_growth(tmp_path: Path) -> None:
    first = write_body(tmp_path / "first"), tmp_path / "first"
    bodies = {"income@1": (first[1], first[0])}
    with service(tmp_path / "run", bodies, limits=LIMITS, keep_warm_s=0.2) as running:
        sizes = []
        for number in range(2, 202):
            folder = tmp_path / f"body{number}"
            bodies = {f"income@{number}": (folder, write_body(folder, shift=number / 100))}
            write_bodies(running.folder, bodies)
            write_row(running.folder, {f"income@{number}": 1.0}, epoch=number)
            assert control.poke(running.folder, "reload").ok
            eventually(lambda: running.predict(ROW).headers["x-served-by"] == f"income@{number}")  # noqa: B023
            eventually(lambda: set(running.status().routes.bodies) == {f"income@{number}"})  # noqa: B023
            if number in (20, 201):
                running.wait_ready()
                eventually(lambda: len(running.status().run.children) == 2)
                sizes.append(_size(running.status()))
        (early, early_files), (late, late_files) = sizes
        assert late < early + 5 and late_files <= early_files + 3, sizes
        assert len(running.ask("GET", "/metrics").data) < 200_000
