"""A hundred kills at random moments of promotions: callers are answered throughout, and one state is left."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from modelyard.core.rollout import How
from modelyard.errors import NotRunning
from modelyard.flow.rollout.courses import Courses
from modelyard.serve.keep import control
from tests.app.rolling import ERRORS, Callers, release, serve
from tests.journeys.making import Place, ours
from tests.journeys.own import until
from tests.journeys.shared import copy_of

KINDS = ("supervisor", "front", "controller", "stable", "candidate", "command")


@pytest.mark.soak
def test_a_hundred_kills_at_random_moments_of_promotions(shop: Place, tmp_path: Path) -> None:
    times = 100
    place = copy_of(shop, tmp_path)
    steps = [{"share": 0.2, "least_time_s": 0.2, "least_samples": 5}, {"share": 0.6, "least_time_s": 0.2}]
    rollout = {"strategy": "canary", "steps": steps}
    sections: dict[str, Any] = {"requirements": [ERRORS], "rollout": rollout, "serving": {"keep_warm_s": 0.3}}
    releases = [release(place, seed=seed, **sections) for seed in (1, 2)]
    chance, killed, ends = random.Random(5), dict.fromkeys(KINDS, 0), dict.fromkeys(How, 0)
    port = serve(place, releases[0])
    run = place.home / "run" / "shop"
    try:
        with Callers(port, 3) as callers:
            for turn in range(times):
                kind = KINDS[turn % len(KINDS)]
                now = control.local_traffic(run)
                assert now is not None
                stable = max(now.shares, key=lambda name: now.shares[name])
                new = releases[1] if stable == releases[0] else releases[0]
                killed[kind] += promote(place, new, stable, kind, chance)
                if control.is_there(run) and not _supervised(run):
                    place.call("serve", stable, "--port", str(port), "--detach")
                courses = Courses(run)
                until(lambda courses=courses: not courses.is_open, timeout_s=60)  # type: ignore[misc]
                course = courses.need()
                assert course.ended is not None
                ends[course.ended.how] += 1
                settled(place, course.wanted)
    finally:
        place.quick("stop", "shop")
        until(lambda: not ours(place.home), timeout_s=15)
    asked = sum(callers.seen.values())
    told = f"{times} kills {killed}; ended {ends}; {asked} answers by code {callers.codes}; lost {len(callers.lost)}\n"
    sys.stdout.write(told)
    assert sum(killed.values()) >= times * 0.8
    # One answer may be cut for each caller where its own front is killed; all else is answered, if need be degraded.
    assert callers.codes <= {200, 503}
    assert len(callers.lost) <= 3 * killed["front"]
    assert sum(count for (code, _), count in callers.seen.items() if code == 503) <= asked * 0.001


def promote(place: Place, new: str, stable: str, kind: str, chance: random.Random) -> int:
    """Begin a rollout and kill a process of a kind at a random moment of it; say whether it was there."""
    run = place.home / "run" / "shop"
    with place.start("deploy", new) as command:
        if kind == "command":
            time.sleep(chance.uniform(0.5, 1.5))
            command.kill()
            command.communicate()
            return 1
        command.communicate(timeout=60)
    time.sleep(chance.uniform(0.0, 2.0))
    return _kill(run, kind, new, stable)


def _kill(run: Path, kind: str, new: str, stable: str) -> int:
    try:
        info = control.status(run).run
    except NotRunning:
        return 0
    pids = {
        "supervisor": [info.pid],
        "front": [one.pid for one in info.children if one.kind == "front"],
        "controller": [one.pid for one in info.children if one.kind == "controller"],
        "stable": [one.pid for one in info.children if one.name == f"{stable}.0"],
        "candidate": [one.pid for one in info.children if one.name == f"{new}.0"],
    }[kind]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return min(1, len(pids))


def _supervised(run: Path) -> bool:
    with contextlib.suppress(NotRunning):
        control.status(run)
        return True
    return False


def settled(place: Place, wanted: dict[str, float]) -> None:
    """Hold against each other what the course, the store, the local copy and all fronts say."""
    run = place.home / "run" / "shop"

    def one_state() -> bool:
        local = control.local_traffic(run)
        with place.app.store() as store:
            row = store.services.get("shop")
        with contextlib.suppress(NotRunning):
            fronts = control.status(run).fronts.values()
            epochs = {report.epoch for report in fronts}
            assert local is not None and row is not None
            return (
                local.shares == wanted
                and row.traffic.shares == wanted
                and row.traffic.epoch == local.epoch
                and epochs == {local.epoch}
            )
        return False

    until(one_state, timeout_s=30)
