"""Whatever callers and workers do, and in whatever order: one reply for each request, in time, and nothing is left."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, ClassVar

import uvloop
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from modelyard.serve.request import Code
from tests.serve.bodies import CONSTANT, write_body
from tests.serve.scripted import LIMITS, Caller, Stage, stage, until

OLD, NEW = "income@1", "income@2"
ACTS = ["answer", "hold", "close", "all bad", "last bad", "late", "nan", "wrong id", "wrong shape", "garbage", "twice"]
NAMES = [f"{NEW}.0", f"{NEW}.q", f"{OLD}.0"]
SLACK_S = 0.3  # this machine is used by others too


class Calls(RuleBasedStateMachine):
    bodies: ClassVar[dict[str, tuple[Path, str]]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.loop = uvloop.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        limits = replace(LIMITS, queue_rows=16, breaker_least=8, breaker_open_s=0.03, progress_timeout_s=0.08)
        self.around = stage(Path(self.folder.name), self.bodies, previous={NEW: OLD}, limits=limits)
        self.played: Stage = self.run(self.around.__aenter__())
        self.callers: list[Caller] = []

    def run(self, act: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(act)

    @rule(
        ages=st.lists(st.integers(17, 90), min_size=1, max_size=6),
        deadline_ms=st.sampled_from([15, 60, 150, 400]),
        priority=st.sampled_from(["high", "normal", "normal", "low"]),
        times=st.integers(1, 3),
    )
    def ask(self, ages: list[int], deadline_ms: int, priority: str, times: int) -> None:
        for number in range(times):
            one = [min(90, age + number) for age in ages]
            self.callers.append(self.played.ask(*one, X_Deadline_Ms=str(deadline_ms), X_Priority=priority))

    @rule(name=st.sampled_from(NAMES), acts=st.lists(st.sampled_from(ACTS), min_size=1, max_size=3))
    def plan(self, name: str, acts: list[str]) -> None:
        worker = self.played.workers.get(name)
        if worker is not None:
            worker.go.clear()
            worker.acts.extend(acts)

    @rule(ms=st.sampled_from([0, 1, 5, 30, 100]))
    def wait(self, ms: int) -> None:
        self.run(asyncio.sleep(ms / 1000))

    @rule(name=st.sampled_from(NAMES))
    def end_worker(self, name: str) -> None:
        worker = self.played.workers.pop(name, None)
        if worker is not None:
            worker.stop()

    @rule(name=st.sampled_from(NAMES))
    def start_worker(self, name: str) -> None:
        if name not in self.played.workers:
            release, _, slot = name.rpartition(".")
            self.run(self.played.worker(release, None if slot == "q" else int(slot)))

    @rule(name=st.sampled_from(NAMES))
    def let_go(self, name: str) -> None:
        if name in self.played.workers:
            self.played.workers[name].go.set()

    @rule(which=st.integers(0, 4))  # what is drawn must not hang on the clock
    def leave(self, which: int) -> None:
        waiting = [caller for caller in self.callers if not caller.replies and not caller.gone]
        if which < len(waiting):
            waiting[which].leave()

    @invariant()
    def nobody_gets_two_replies(self) -> None:
        for caller in self.callers:
            assert len(caller.replies) <= (0 if caller.gone else 1)

    def teardown(self) -> None:
        try:
            self.run(until(lambda: all(caller.replies or caller.gone for caller in self.callers), timeout_s=3.0))
            self.run(asyncio.sleep(0.02))
            self.nobody_gets_two_replies()
            for caller in self.callers:
                if not caller.gone:
                    caller.check()
                    assert caller.reply.at < caller.due + SLACK_S
            self.played.check_empty()
            self._counts_are_true()
        finally:
            self.run(self.around.__aexit__(None, None, None))
            self.loop.close()
            self.folder.cleanup()

    def _counts_are_true(self) -> None:
        told = [caller.reply for caller in self.callers if not caller.gone]
        metrics = self.played.desk.metrics
        assert metrics.requests.total == len(told)
        assert metrics.degraded.total == sum(reply.degraded is not None for reply in told)
        rows = sum(len(caller.ages) for caller in self.callers if not caller.gone and caller.reply.code is Code.OK)
        assert metrics.rows.total == rows


def test_calls_and_workers_in_any_order(tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("bodies")
    made = {
        NEW: (folder / NEW, write_body(folder / NEW, fallback=[{"kind": "previous"}, CONSTANT])),
        OLD: (folder / OLD, write_body(folder / OLD, fallback=[{"kind": "refuse"}])),
    }
    Calls.bodies = made
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    case = Calls.TestCase
    case.settings = settings(max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=checks)
    case("runTest").debug()
