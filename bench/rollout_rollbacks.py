"""The way back from each state that a release, or what keeps it, can be in: timed, under load."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from modelyard.adapters.onnx_harm import Harm
from modelyard.core.release import Traffic
from modelyard.serve.keep import control
from modelyard.serve.keep.change import Changed
from rollout_live import Heard, Place, calling, kill, statuses, table_of, until
from rollout_models import AGAIN, GOOD, SERVING, Fault, Sealing, seal
from rollout_regressions import LEAKED_MB, MEMORY_MB

RATE = 500.0
WARM_S, BAD_S, AFTER_S = 1.5, 1.5, 4.0
DATABASE = "store.db"
KEPT = SERVING.replace("keep_warm_s: 5", "keep_warm_s: 600")

Trouble = Callable[[Place, str, str], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True, kw_only=True)
class Way:
    """A state from which the way back is timed."""

    name: str
    candidate: Fault = AGAIN
    serving: str = KEPT
    is_canary: bool = False
    trouble: Trouble


@contextlib.contextmanager
def _none(place: Place, name: str, candidate: str) -> Iterator[None]:
    yield


@contextlib.contextmanager
def _no_store(place: Place, name: str, candidate: str) -> Iterator[None]:
    """Put the database aside, and what cannot be opened in its place."""
    aside = place.home / "aside"
    aside.mkdir()
    found = [path for path in place.home.iterdir() if path.name.startswith(DATABASE)]
    assert found, f"there is no {DATABASE}"
    for path in found:
        path.rename(aside / path.name)
    (place.home / DATABASE).mkdir()
    try:
        yield
    finally:
        (place.home / DATABASE).rmdir()
        for path in aside.iterdir():
            path.rename(place.home / path.name)
        aside.rmdir()
        control.poke(place.run_folder(name), "reload")


@contextlib.contextmanager
def _no_supervisor(place: Place, name: str, candidate: str) -> Iterator[None]:
    kill(control.status(place.run_folder(name)).run.pid)
    time.sleep(0.2)
    yield


@contextlib.contextmanager
def _no_controller(place: Place, name: str, candidate: str) -> Iterator[None]:
    kill(until(lambda: place.controller(name), 10.0, "A controller"))
    yield


@contextlib.contextmanager
def _no_worker(place: Place, name: str, candidate: str) -> Iterator[None]:
    """Kill the release's workers three times, each as soon as it is there."""
    killed: set[int] = set()
    while len(killed) < 3:
        for pid in place.pids(name, "worker", candidate):
            if pid not in killed:
                killed.add(pid)
                kill(pid)
        time.sleep(0.02)
    yield


LEAKS = Fault(leaks=0.05, leaked_mb=LEAKED_MB)
WAYS = (
    Way(name="service, all is well", trouble=_none),
    Way(name="service, in a canary", is_canary=True, trouble=_none),
    Way(name="service, the store is gone", trouble=_no_store),
    Way(name="service, the supervisor is dead", trouble=_no_supervisor),
    Way(name="service, the controller is dead", is_canary=True, trouble=_no_controller),
    Way(name="service, the release hangs", candidate=Fault(harm=Harm.SLOW, amount=10_000_000), trouble=_none),
    Way(name="service, the release leaks", candidate=LEAKS, trouble=_none,
        serving=KEPT.replace("}", f", memory_mb: {MEMORY_MB}}}")),
    Way(name="service, the release crashes in a loop", trouble=_no_worker),
    Way(name="service, the release answers NaN", candidate=Fault(nans=0.05), trouble=_none),
)  # fmt: skip


def rollbacks(home: Path, *, times: int, rate: float = RATE) -> list[str]:
    """Time the way back from each state, so many times; return a table in Markdown."""
    place, rows = Place(home), []
    for number, way in enumerate(WAYS):
        found = [_measure(place, way, f"way{number}-{time_}", rate) for time_ in range(times)]
        worst = max(found, key=lambda one: one.last_s)
        rows.append([
            way.name, str(times), f"{max(one.command_s for one in found):.2f}", f"{worst.last_s:.2f}",
            "yes" if worst.last_s < 1 else "no", str(sum(one.failed_after for one in found)),
            str(sum(one.failed_before for one in found)), found[0].told, "; ".join({one.store for one in found}),
        ])  # fmt: skip
    head = ["rollback of", "times", "command, s at most", "last request to the release, s after the command began",
            "< 1 s", "failed that came after that", "failed before", "as", "store"]  # fmt: skip
    return [f"Rollbacks at {rate:g} requests/s", table_of(head, rows)]


@dataclass(frozen=True, kw_only=True)
class Timed:
    """What one way back took; failed requests before and after the last one on the bad release."""

    command_s: float
    last_s: float
    failed_before: int
    failed_after: int
    told: str
    store: str


def _measure(place: Place, way: Way, name: str, rate: float) -> Timed:
    stable, candidate = seal(place.home, name, [GOOD, way.candidate], Sealing(serving=way.serving))
    with place.service(stable) as port, calling(place, name, port, rate=rate) as load:
        time.sleep(WARM_S)
        if way.is_canary:
            place.command("deploy", candidate)
            table = Traffic(epoch=2, shares={stable: 0.9, candidate: 0.1})
        else:
            place.command("deploy", candidate, "--strategy", "all_at_once")
            table = Traffic(epoch=2, shares={candidate: 1.0})
        with way.trouble(place, name, candidate):
            time.sleep(0.3 if way.trouble is not _none else BAD_S)
            began = time.monotonic()
            changed = place.traffic.rollback(name)
            ended = time.monotonic()
            time.sleep(AFTER_S)
            heard = load.finish()
    return _timed(heard, table, candidate, stable, began, ended, changed)


def _timed(
    heard: Heard, table: Traffic, candidate: str, stable: str, began: float, ended: float, changed: Changed
) -> Timed:
    said = heard.served_by == candidate  # a request that the release kept waiting may have been sent long before
    last = float(heard.sent[said].max()) if said.any() else began
    bad = heard.failed | heard.degraded
    after = heard.sent > max(last, ended)
    return Timed(
        command_s=ended - began,
        last_s=max(0.0, last - began),
        failed_before=int((bad & ~after).sum()),
        failed_after=int((bad & after).sum()),
        told=statuses(heard, bad) or "none",
        store="written" if changed.store == "written" else "not reached",
    )
