"""Short turns on the processors: asked for by fronts, where the kernel has them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from modelyard.serve.keep import prompt
from modelyard.serve.keep.prompt import TURN_NS, be_prompt, turn_ns
from tests.serve.running import service

HAS_TURNS = turn_ns() is not None
ASKED = "from modelyard.serve.keep.prompt import be_prompt, turn_ns; print(be_prompt(), turn_ns())"


@pytest.mark.skipif(not HAS_TURNS, reason="this kernel does not say how long turns are")
def test_a_process_gets_short_turns_and_keeps_what_it_is_worth() -> None:
    own = f"import os; os.nice(3); {ASKED}; print(os.sched_getscheduler(0), os.nice(0))"
    done = subprocess.run([sys.executable, "-c", own], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", str(TURN_NS), str(os.SCHED_OTHER), str(os.nice(0) + 3)]


def test_a_process_that_gives_way_stays_as_it_is() -> None:
    own = f"import os; os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0)); {ASKED}"
    done = subprocess.run([sys.executable, "-c", own], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("False")


def test_where_there_is_no_such_call_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "vax")
    assert turn_ns() is None
    assert not be_prompt()
    monkeypatch.undo()
    monkeypatch.setattr(prompt, "_SYSCALLS", {platform.machine(): (10**6, 10**6)})
    assert not be_prompt()


@pytest.mark.skipif(not HAS_TURNS, reason="this kernel does not say how long turns are")
def test_fronts_have_short_turns_and_workers_those_of_all_others(
    bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    with service(tmp_path / "income", bodies) as running:
        pids = {kind: running.pid_of(kind) for kind in ("front", "worker")}
        assert turn_ns(pids["front"]) == TURN_NS
        assert turn_ns(pids["worker"]) == turn_ns(os.getpid())
