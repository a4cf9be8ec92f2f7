"""Kills at any moment: the same command goes on, the same bundle comes out, no process stays behind."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from modelyard.core.evidence import BuildEvidence
from tests.journeys.making import SHOP, Place, ours, place_in, session_of, shop_rows
from tests.journeys.own import until

# A gate on time would let the machine's mood choose another candidate.
TEXT = SHOP.replace("budget: {trials: 4,", "budget: {trials: 8,")
MOST_ATTEMPTS = 60


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place where a run came to its end without a kill."""
    place = place_in(tmp_path_factory.mktemp("unbroken"), TEXT, shop_rows(800))
    assert place.call("run").code == 0
    return place


@pytest.fixture(scope="module")
def unbroken(whole: Place) -> str:
    """The digest of the body that a run without a kill seals, in a home of its own."""
    return body_of(whole)


def body_of(place: Place) -> str:
    (release,) = place.app.releases("shop")
    return release.body


def kill_all(running: subprocess.Popen[str]) -> None:
    """Kill every process of the session, and those that left it, before any can start another."""
    for _ in range(3):
        for pid in session_of(running.pid):
            with_kill(pid)
    running.wait()


def with_kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def killed_after(place: Place, seconds: float, *, everything: bool) -> bool:
    """Start a run and kill it after some seconds; say whether it was killed before its end."""
    with place.start("run", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            assert running.wait(timeout=seconds) == 0
        except subprocess.TimeoutExpired:
            if everything:
                kill_all(running)
            else:
                running.kill()
                running.wait()
            return True
    return False


def kill_until_done(place: Place, chance: random.Random, kills: int, *, longest_s: float, mixed: bool = False) -> int:
    """Kill run after run at moments spread over a run's length, then let one end; return how many were killed."""
    done = 0
    for attempt in range(MOST_ATTEMPTS):
        everything = not mixed or attempt % 2 == 0
        if not killed_after(place, chance.uniform(0.3, longest_s), everything=everything):
            break
        until(lambda: not ours(place.home), timeout_s=5)
        done += 1
        if done == kills:
            break
    last = place.call("run")
    assert last.code == 0, last.err
    return done


def check(place: Place, body: str) -> None:
    """The store opens, is whole, and holds one release with the body wanted."""
    assert body_of(place) == body
    verified = place.quick("audit", "verify")
    assert verified.code == 0, verified.out
    assert place.quick("show", "shop").code == 0
    build = place.app.show("shop")[1][0][1].payload
    assert isinstance(build, BuildEvidence) and len(build.trials) == 8
    left = [path for path in (place.folder).iterdir() if path.name not in ("rows.parquet", "system.yaml")]
    assert left == []


@pytest.mark.timeout(240)
def test_runs_killed_at_random_moments_end_in_the_same_bundle(unbroken: str, tmp_path: Path) -> None:
    place = place_in(tmp_path, TEXT, shop_rows(800))
    kills = kill_until_done(place, random.Random(4), 4, longest_s=5.0)
    assert kills >= 2
    check(place, unbroken)


@pytest.mark.timeout(240)
def test_a_kept_stage_that_was_altered_or_removed_is_built_again_to_the_same_bundle(
    unbroken: str, whole: Place
) -> None:
    place = whole
    stages = place.home / "stages"
    (prepared,) = stages.glob("*/train.parquet")
    data = bytearray(prepared.read_bytes())
    data[len(data) // 2] ^= 1
    prepared.write_bytes(bytes(data))
    models = sorted(stages.glob("*/model.onnx"))
    shutil.rmtree(models[0].parent)
    models[1].write_bytes(b"")
    assert place.call("run").code == 0
    assert prepared.exists() and prepared.read_bytes() != bytes(data)
    assert models[0].exists() and models[1].stat().st_size > 0
    check(place, unbroken)
    entries = place.quick("audit", "--last", "1000", "--json").json
    assert sum(one["operation"] == "stage.discard" and one["outcome"] == "done" for one in entries) == 2


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_twenty_kills_at_random_moments_end_in_the_same_bundle(unbroken: str, tmp_path: Path) -> None:
    kills, chance = 0, random.Random(20)
    for life in range(20):
        (tmp_path / str(life)).mkdir()
        place = place_in(tmp_path / str(life), TEXT, shop_rows(800))
        kills += kill_until_done(place, chance, 4, longest_s=8.0, mixed=True)
        check(place, unbroken)
        if kills >= 20:
            break
    assert kills >= 20


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_kills_of_the_main_process_alone_leave_no_process(tmp_path: Path) -> None:
    place = place_in(tmp_path, TEXT, shop_rows(800))
    for moment in (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0):
        if not killed_after(place, moment, everything=False):
            break
        until(lambda: not ours(place.home), timeout_s=2)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_budget_in_seconds_is_never_passed_by_more_than_a_tenth_however_often_it_is_killed(tmp_path: Path) -> None:
    seconds = 15.0
    text = SHOP.replace("budget: {trials: 4,", f"budget: {{seconds: {seconds},")
    place = place_in(tmp_path, text, shop_rows(800))
    chance = random.Random(5)
    kills = 0
    while kills < 8 and killed_after(place, chance.uniform(1.0, 5.0), everything=True):
        kills += 1
    assert kills > 0
    assert place.call("run").code == 0
    build = place.app.show("shop")[1][0][1].payload
    assert isinstance(build, BuildEvidence)
    (ledger,) = (place.home / "work").glob("*/spent.json")
    lost = sum(one["seconds"] for one in json.loads(ledger.read_text())["lost"])
    assert lost > 0.0
    assert lost + sum(trial.spent_s for trial in build.trials) <= 1.1 * seconds
