"""What a switch costs callers: blue-green and the way back at 2 000 requests/s, many times."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from modelyard.core.rollout import Strategy
from rollout_live import Heard, Place, calling, statuses, table_of
from rollout_models import AGAIN, GOOD, SERVING, Sealing, seal

RATE = 2000.0
AROUND_S = 0.5  # before and after a switch: what counts as during it
QUIET_S = 1.2  # between the end of one switch and the next, at least
WARM_S = 3.0
ENDED_S = 30.0
BLUE_GREEN = "{strategy: blue_green}"


def switch(home: Path, *, times: int, rate: float = RATE) -> list[str]:
    """Switch to another release and back, so many times, under load; return a table in Markdown."""
    place = Place(home)
    sealing = Sealing(rollout=BLUE_GREEN, serving=SERVING.replace("keep_warm_s: 5", "keep_warm_s: 600"))
    stable, candidate = seal(home, "switch", [GOOD, AGAIN], sealing)
    forth: list[tuple[float, float]] = []
    back: list[tuple[float, float]] = []
    with place.service(stable) as port, calling(place, "switch", port, rate=rate) as load:
        time.sleep(WARM_S)
        for _ in range(times):
            began = time.monotonic()
            place.rollouts.begin([candidate], Strategy.BLUE_GREEN)
            forth.append((began, time.monotonic()))
            time.sleep(AROUND_S + QUIET_S)
            began = time.monotonic()
            place.traffic.rollback("switch")
            back.append((began, time.monotonic()))
            time.sleep(AROUND_S)
            if place.wait_ended("switch", ENDED_S) is None:
                raise TimeoutError("The rollout did not end after it was taken back.")
            time.sleep(AROUND_S + QUIET_S)
        heard = load.finish()
    begun = forth[0][0]
    quiet = (heard.due > begun - WARM_S / 2) & ~_during(heard, forth + back, AROUND_S + 0.3)
    rows = [
        _row(heard, "blue-green", forth, quiet, place),
        _row(heard, "rollback", back, quiet, place),
        ["quiet", "", f"{quiet.sum():,}", str(int(_bad(heard)[quiet].sum())), f"{_p99(heard, quiet):.2f}", "1", "", ""],
    ]
    head = ["", "switches", "requests around", "failed or degraded", "p99, ms", "times quiet, all together",
            "times quiet, median and worst switch", "seconds, median and worst"]  # fmt: skip
    told = statuses(heard, _bad(heard)) or "none failed"
    return [
        f"Switches at {rate:g} requests/s; p99 of requests due within {AROUND_S:g} s before a command and after it "
        f"(bars: none failed, p99 at most 2 times quiet)",
        table_of(head, rows),
        f"All {len(heard.due):,} requests: {told}.",
    ]


def _row(heard: Heard, name: str, switches: list[tuple[float, float]], quiet: np.ndarray, place: Place) -> list[str]:
    during = _during(heard, switches, AROUND_S)
    base = _p99(heard, quiet)
    each = [_p99(heard, _during(heard, [one], AROUND_S)) / base for one in switches]
    took = [end - began for began, end in switches]
    return [
        name, str(len(switches)), f"{during.sum():,}", str(int(_bad(heard)[during].sum())),
        f"{_p99(heard, during):.2f}", f"{_p99(heard, during) / base:.2f}",
        f"{np.median(each):.2f}, {max(each):.2f}", f"{np.median(took):.2f}, {max(took):.2f}",
    ]  # fmt: skip


def _during(heard: Heard, switches: list[tuple[float, float]], around_s: float) -> np.ndarray:
    """Return which requests were due around a switch: from before its command until after it returned."""
    found = np.zeros(len(heard.due), dtype=bool)
    for began, end in switches:
        found |= (heard.due > began - around_s) & (heard.due < end + around_s)
    return found


def _bad(heard: Heard) -> np.ndarray:
    bad: np.ndarray = heard.failed | heard.degraded
    return bad


def _p99(heard: Heard, among: np.ndarray) -> float:
    return float(np.quantile(heard.took_s[among], 0.99)) * 1000
