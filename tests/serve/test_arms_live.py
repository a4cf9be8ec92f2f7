"""What fronts count of each release is what callers saw, also across the death of a front and of the supervisor."""

from __future__ import annotations

import http.client
import os
import signal
import threading
from collections import Counter
from pathlib import Path

from modelyard.core.release import HeaderRule
from modelyard.core.rollout import Counted, Hits, Watch, Watched
from modelyard.serve.routing import choose
from modelyard.serve.told.arms import arm_counts
from tests.serve.bodies import ROW
from tests.serve.entry import changes
from tests.serve.running import Running, eventually, launch, service, sweep
from tests.serve.test_deploy import row_of

ONE, TWO = "income@1", "income@2"
CALLERS, USERS = 3, 60
WATCH = Watch(
    items=(
        Watched(counts="any", what=Counted.SLOWER, above_ms=0.0),
        Watched(counts="by city", what=Counted.POSITIVE, group="city"),
        Watched(counts="cost", what=Counted.COST, price_per_cpu_hour=1.0),
    ),
    positive=">50K",
)


class Crowd:
    """Callers with keys, some of whom a rule sends elsewhere; it keeps what each of the others was answered."""

    def __init__(self, running: Running) -> None:
        self.running, self.seen, self.lost = running, Counter[str](), 0
        self.users: dict[str, str] = {}
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(CALLERS)]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    def _run(self, number: int) -> None:
        turn = number
        while not self._stop.is_set():
            turn += CALLERS
            user, beta = f"user-{turn % USERS}", {"X_Beta": "yes"} if turn % 7 == 0 else {}
            try:
                reply = self.running.predict(ROW, X_User=user, **beta)
            except (OSError, http.client.HTTPException):
                with self._lock:
                    self.lost += 1
                continue
            with self._lock:
                assert reply.status == 200
                if beta:
                    assert reply.json["served_by"] == TWO
                else:
                    self.seen[reply.json["served_by"]] += 1
                    assert self.users.setdefault(user, reply.json["served_by"]) == reply.json["served_by"]


def counted(folder: Path) -> dict[str, int]:
    return {release: arm_counts(folder, release).requests for release in (ONE, TWO)}


def test_counts_are_what_callers_saw(bodies: dict[str, tuple[Path, str]], tmp_path: Path) -> None:
    with service(tmp_path / "income", bodies, fronts=2) as running:
        rules = (HeaderRule(header="x-beta", value="yes", release=TWO),)
        changes(running.folder).set_traffic(
            "income", {ONE: 0.9, TWO: 0.1}, key_header="x-user", rules=rules, watch=WATCH, expect_epoch=1
        )
        table = row_of(running.folder).traffic
        with Crowd(running) as crowd:
            eventually(lambda: sum(crowd.seen.values()) > 300 and len(crowd.users) == USERS, timeout_s=20)
        assert crowd.users == {user: choose(table, user)[0] for user in crowd.users}
        eventually(lambda: counted(running.folder) == crowd.seen)
        for release in (ONE, TWO):
            counts, met = arm_counts(running.folder, release), crowd.seen[release]
            assert (counts.errors, counts.degraded) == (0, 0)
            assert counts.units == sum(one == release for one in crowd.users.values())
            assert counts.rates == {"any": Hits(trials=met, hits=met)}
            assert sum(counts.classes.values()) == met
            assert counts.groups["by city"]["Paris"] == Hits(trials=met, hits=counts.classes[">50K"])
            assert counts.means["cost"].count == met and counts.means["cost"].total > 0
        _kill_a_front(running, crowd)
        before = counted(running.folder)
        running.process.send_signal(signal.SIGKILL)
        running.process.wait()
        again = launch(running.folder, fronts=2)
        try:
            running.port = eventually(running.wait_ready, timeout_s=20).run.port
            assert running.status().routes.traffic == table
            assert counted(running.folder) == before
            assert all(running.predict(ROW, X_User=user).json["served_by"] == met for user, met in crowd.users.items())
            eventually(lambda: sum(counted(running.folder).values()) == sum(before.values()) + USERS)
        finally:
            sweep(running.folder, again)


def _kill_a_front(running: Running, before: Crowd) -> None:
    """Kill a front under load: of what was with it, at most one request of each caller is not known of."""
    (victim, *_) = [child for child in running.status().run.children if child.kind == "front"]
    began = counted(running.folder)
    with Crowd(running) as crowd:
        eventually(lambda: sum(crowd.seen.values()) > 50, timeout_s=20)
        os.kill(victim.pid, signal.SIGKILL)
        eventually(lambda: victim.pid not in [child.pid for child in running.status().run.children])
        count = sum(crowd.seen.values())
        eventually(lambda: sum(crowd.seen.values()) > count + 50, timeout_s=20)
    assert {user: before.users[user] for user in crowd.users} == crowd.users
    eventually(lambda: _gap(running, began, crowd) <= CALLERS)


def _gap(running: Running, began: dict[str, int], crowd: Crowd) -> int:
    now = counted(running.folder)
    return max(abs(now[release] - began[release] - crowd.seen[release]) for release in (ONE, TWO))
