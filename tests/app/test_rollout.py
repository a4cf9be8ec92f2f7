"""Rollouts as a person begins them and finds them: through the command line, over real processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelyard.adapters.onnx_harm import Harm
from modelyard.core.evidence import RolloutEvidence
from modelyard.core.rollout import Cause, How
from modelyard.serve.keep import control
from tests.app.rolling import ERRORS, QUICK, Callers, answer, asked, course_of, ended, release, serve
from tests.journeys.making import Place, ours
from tests.journeys.own import until
from tests.journeys.shared import copy_of

SECTIONS: dict[str, Any] = {"requirements": [ERRORS], "rollout": QUICK}


@pytest.fixture(scope="module")
def own(shop: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return copy_of(shop, tmp_path_factory.mktemp("rollout"))


@pytest.fixture(autouse=True)
def no_process_stays(own: Place) -> Iterator[None]:
    yield
    own.quick("stop", "shop")
    until(lambda: not ours(own.home), timeout_s=10)


def test_a_good_canary_takes_over_by_itself_step_by_step(own: Place) -> None:
    good = release(own, seed=1, serving={"keep_warm_s": 1.0}, **SECTIONS)
    with Callers(serve(own)) as callers:
        begun = own.quick("deploy", good)
        assert begun.code == 0 and f"{good} gets 50 % of the traffic of `shop`" in begun.out, begun.err
        course = ended(own)
    assert course.ended is not None and course.ended.how is How.PROMOTED
    assert callers.codes == {200} and not callers.lost
    told = own.quick("status", "shop")
    assert told.out.startswith(f"shop: {good} 100 %") and "promoted after" in told.out
    with own.app.store() as store:
        kept = [one.payload for _, one in store.releases.evidence(store.releases.get(good).id)]
    assert [one.how for one in kept if isinstance(one, RolloutEvidence)] == [How.PROMOTED]
    assert own.quick("audit", "verify").code == 0


def test_one_that_answers_nan_goes_back_by_itself_and_nobody_notices(own: Place) -> None:
    bad = release(own, harm=Harm.NAN, **SECTIONS)
    with Callers(serve(own)) as callers:
        assert own.quick("deploy", bad).code == 0
        course = ended(own)
        before = sum(count for (_, by), count in callers.seen.items() if by.startswith(bad))
        until(lambda: sum(callers.seen.values()) > 200 + before, timeout_s=10)
    assert course.ended is not None and course.ended.how is How.TAKEN_BACK
    assert course.state.back[bad].cause is Cause.RULE and "NaN" in course.ended.reason
    assert own.quick("status", "shop").out.startswith("shop: shop@1 100 %")
    assert callers.codes == {200} and not callers.lost  # degraded answers are marked, and answers


def test_a_person_pauses_promotes_and_takes_back(own: Place) -> None:
    slow = {"strategy": "canary", "steps": [{"share": 0.1, "least_time_s": 600}, {"share": 0.5}]}
    good = release(own, seed=2, requirements=[ERRORS], rollout=slow)
    serve(own)
    assert own.quick("promote", "shop").code == 2
    assert own.quick("deploy", good).code == 0
    again = own.quick("deploy", good)
    assert again.code == 2 and "is open" in again.err and "modelyard rollback shop" in again.err
    assert own.quick("pause", "shop").code == 0
    assert own.quick("pause", "shop").code == 2
    assert own.quick("promote", "shop").code == 0
    until(lambda: course_of(own).state.step == 1, timeout_s=10)
    until(lambda: "paused" in own.quick("status", "shop").out, timeout_s=10)
    assert own.quick("resume", "shop").code == 0
    back = own.quick("rollback", "shop")
    assert back.code == 0 and "shop answers from shop@1" in back.out
    course = ended(own)
    assert course.ended is not None and course.ended.how is How.TAKEN_BACK and "by hand" in course.ended.reason


def test_a_controller_that_is_killed_is_followed_by_another_that_goes_on(own: Place) -> None:
    good = release(own, seed=3, serving={"keep_warm_s": 1.0}, **SECTIONS)
    with Callers(serve(own)) as callers:
        assert own.quick("deploy", good).code == 0
        killed: set[int] = set()
        while len(killed) < 3 and (own.home / "run" / "shop" / "rollout.open").exists():
            for child in control.status(own.home / "run" / "shop").run.children:
                if child.kind == "controller" and child.pid not in killed:
                    os.kill(child.pid, signal.SIGKILL)
                    killed.add(child.pid)
        course = ended(own)
    assert len(killed) >= 2 and course.ended is not None and course.ended.how is How.PROMOTED
    assert callers.codes == {200} and not callers.lost


def test_a_rollout_goes_on_where_the_service_is_started_again(own: Place) -> None:
    steps = [{"share": 0.5, "least_time_s": 3.0, "least_samples": 20}]
    good = release(own, seed=4, serving={"keep_warm_s": 1.0}, requirements=[ERRORS], rollout=QUICK | {"steps": steps})
    with Callers(serve(own)):
        assert own.quick("deploy", good).code == 0
        until(lambda: bool(course_of(own).windows), timeout_s=10)
    run = control.status(own.home / "run" / "shop").run
    for pid in (run.pid, *(child.pid for child in run.children)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with Callers(serve(own)) as callers:
        course = ended(own)
    assert course.ended is not None and course.ended.how is How.PROMOTED
    assert {by for _, by in callers.seen} == {"shop@1", good} and callers.codes == {200}


def test_groups_that_requests_do_not_carry_come_with_feedback(own: Place) -> None:
    parity = {"metric": "demographic_parity_difference", "group": "sex", "at_most": 0.5}
    steps = [{"share": 0.5, "least_samples": 10_000}]
    good = release(own, seed=7, requirements=[ERRORS, parity], rollout={"strategy": "canary", "steps": steps})
    port = serve(own)
    begun = own.quick("deploy", good)
    assert begun.code == 0 and "waits for feedback that tells `sex`" in begun.err, begun.err
    lines = []
    for number in range(40):
        told = answer(port, {"X-Request-Id": f"q{number}"})
        lines.append({"request": told["x-request-id"], "label": "no", "columns": {"sex": "FM"[number % 2]}})
    (own.folder / "outcomes.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    done = own.quick("feedback", "shop", "outcomes.jsonl")
    assert done.code == 0, done.err

    def groups() -> set[str]:
        seen = course_of(own).state.seen.get(good)
        return set() if seen is None else {group for by in seen.groups.values() for group in by}

    until(lambda: groups() == {"F", "M"}, timeout_s=10)
    assert own.quick("rollback", "shop").code == 0
    ended(own)


def test_blue_green_switches_at_once_and_keeps_the_way_back(own: Place) -> None:
    good = release(own, seed=5, requirements=[ERRORS], rollout={"strategy": "blue_green"})
    with Callers(serve(own)) as callers:
        begun = own.quick("deploy", good, "--strategy", "blue_green")
        assert begun.code == 0, begun.err
        assert own.quick("status", "shop").out.startswith(f"shop: {good} 100 %")
        assert "watched" in own.quick("status", "shop").out
        assert own.quick("rollback", "shop").code == 0
        ended(own)
    assert callers.codes == {200} and not callers.lost
    assert {by for _, by in callers.seen} == {"shop@1", good}


def test_a_rollback_takes_back_the_path_that_a_release_brought(own: Place) -> None:
    good = release(own, seed=7, serving={"endpoint": "/api/v2/shop"})
    port = serve(own)

    def codes() -> list[int]:
        return [asked(port, path) for path in ("/api/v1/shop", "/api/v2/shop")]

    assert codes() == [200, 404]
    assert own.quick("deploy", good).code == 0
    assert codes() == [404, 200]
    assert own.quick("rollback", "shop").code == 0
    assert codes() == [200, 404]


def test_traffic_is_split_by_hand_and_each_meeting_is_recomputed(own: Place) -> None:
    good = release(own, seed=8, requirements=[ERRORS])
    port = serve(own)
    words = ("--share", "shop@1=0.75", "--share", f"{good}=0.25", "--rule", f"X-Beta:yes={good}")
    done = own.quick("traffic", "shop", *words)
    assert done.code == 0 and f"shop@1 75 %, {good} 25 %" in done.out, done.err
    met = {}
    for number in range(60):
        headers = {"x-request-id": f"caller-{number}"} | ({"x-beta": "yes"} if number % 10 == 0 else {})
        reply = answer(port, headers)
        said = own.quick("traffic", "shop", "--who", reply["x-request-id"], *_headers(headers), "--json").json
        assert said["release"] == reply["x-served-by"]
        met[said["release"], said["probability"]] = True
    assert set(met) == {("shop@1", 0.75), (good, 0.25), (good, 1.0)}
    shown = own.quick("traffic", "shop").out
    assert "x-beta: yes meets" in shown and "modelyard rollback shop" in shown
    assert own.quick("traffic", "shop", "--clear", "rules", "--mirror", "shop@1=1").code == 2  # it has a share
    for wrong in (("--share", "shop@1"), ("--share", "shop@1=half"), ("--rule", "x=y"), ("--clear", "all")):
        assert own.quick("traffic", "shop", *wrong).code == 2
    assert own.quick("rollback", "shop").code == 0
    assert {answer(port, {})["x-served-by"] for _ in range(20)} == {"shop@1"}


def _headers(headers: dict[str, str]) -> list[str]:
    return [word for name, value in headers.items() for word in ("--header", f"{name}:{value}")]


def test_what_cannot_be_begun_changes_nothing(own: Place, tmp_path: Path) -> None:
    good = release(own, seed=6, **SECTIONS)
    assert own.quick("deploy", good, "--strategy", "canary").code != 0  # nothing runs
    serve(own)
    for words in (("shop@1",), (good, "other@1"), (good, "shop@1"), (good, "--strategy", "experiment")):
        done = own.quick("deploy", *words, *(() if "--strategy" in words else ("--strategy", "canary")))
        assert done.code == 2, done.out
        assert own.quick("status", "shop").out.startswith("shop: shop@1 100 %")
    assert not (own.home / "run" / "shop" / "rollout.open").exists()
