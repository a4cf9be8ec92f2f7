"""Shadow releases: callers notice nothing of them, whatever they do, and what they would have said is counted."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelyard.adapters.onnx_harm import Harm
from modelyard.core.rollout import Counted, Watch, Watched
from modelyard.serve.keep.courtesy import be_as_others, give_way
from modelyard.serve.messages import Limits
from modelyard.serve.routing import mirrored
from modelyard.serve.told.arms import arm_counts
from tests.serve.bodies import CLASSES, GOLDEN_ROWS, ROW, expected, write_body
from tests.serve.entry import changes
from tests.serve.load import Load, v2
from tests.serve.running import Reply, Running, eventually, service
from tests.serve.spoiled import spoil
from tests.serve.test_deploy import row_of

STABLE, OTHER, NAN, SLOW, STRICT = "income@1", "income@2", "income@3", "income@4", "income@5"
SLOW_TURNS = 150  # of work, a tenth of a second or more: longer than callers wait between two requests


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("shadowed")
    made = {
        STABLE: write_body(folder / STABLE),
        OTHER: write_body(folder / OTHER, shift=1.0),
        STRICT: write_body(folder / STRICT, unknown_category="refuse"),
    }
    for name, harm in ((NAN, Harm.NAN), (SLOW, Harm.SLOW)):
        write_body(folder / name)
        made[name] = spoil(folder / name, harm, amount=SLOW_TURNS)
    limits = Limits(progress_timeout_s=0.5, idle_check_s=0.4, grace_s=5.0, batch_rows=32)
    with service(folder / "income", {name: (folder / name, sha) for name, sha in made.items()}, limits=limits) as one:
        yield one


def shadowed(running: Running, release: str | None, share: float = 1.0) -> None:
    """Let a release get copies, or none."""
    epoch = row_of(running.folder).traffic.epoch
    shares = {STABLE: 1.0} if release is None else {STABLE: 1.0, release: 0.0}
    shadow = {} if release is None else {release: share}
    changes(running.folder).set_traffic("income", shares, shadow=shadow, expect_epoch=epoch)
    if release is None or share < 1:
        return
    before = copied(running, release)
    assert running.predict(ROW).status == 200
    eventually(lambda: copied(running, release) > before)  # some milliseconds after the reply
    settled(running, release)


def fates(running: Running, release: str) -> dict[str, int]:
    """Return the rows copied to a release, by what came of it."""
    start = f'modelyard_shadow_rows_total{{release="{release}",outcome='
    lines = running.ask("GET", "/metrics").data.decode().splitlines()
    found = {line.split('"')[3]: int(float(line.rpartition(" ")[2])) for line in lines if line.startswith(start)}
    return {fate: rows for fate, rows in found.items() if rows}


def copied(running: Running, release: str) -> int:
    return int(running.metric(f'modelyard_shadow_copied_rows_total{{release="{release}"}}'))


def settled(running: Running, release: str) -> dict[str, int]:
    """Wait until every copy has its outcome, and return the rows by outcome."""

    def whole() -> dict[str, int] | None:
        found = fates(running, release)
        return found if found and sum(found.values()) == copied(running, release) else None

    return eventually(whole)


def pid_of(running: Running, release: str) -> int:
    children = eventually(lambda: [one for one in running.status().run.children if one.name == f"{release}.0"])
    return children[0].pid


def _is_replaced(running: Running, release: str, pid: int) -> bool:
    return pid_of(running, release) != pid


def asked(running: Running) -> list[Reply]:
    """Ask all kinds of things, good and bad, each with its own id so that replies can be compared byte by byte."""
    many = [{**ROW, "age": 20 + number % 60} for number in range(600)]  # more than one batch
    bodies: list[tuple[str, Any]] = [
        ("/predict", {"rows": [ROW]}),
        ("/predict", {"rows": list(GOLDEN_ROWS)}),
        ("/predict", {"rows": many}),
        ("/predict", {"rows": [{**ROW, "city": "Rome"}]}),
        ("/predict", {"rows": [{**ROW, "age": "old"}]}),
        ("/predict", {"rows": [{**ROW, "age": 500}]}),  # the graph raises
        ("/predict", b"{"),
        ("/v2/models/income/infer", v2(*GOLDEN_ROWS)),
        ("/invocations", {"dataframe_records": [ROW]}),
        ("/nothing", {}),
    ]
    return [running.ask("POST", path, body, X_Request_Id=f"r-{place}") for place, (path, body) in enumerate(bodies)]


def test_callers_get_the_same_bytes_with_and_without_a_shadow(running: Running) -> None:
    shadowed(running, None)
    before = asked(running)
    statuses = [reply.status for reply in before]
    assert statuses == [200, 200, 200, 200, 422, 200, 400, 200, 200, 404]
    counts = running.metric("modelyard_requests_total"), running.metric('modelyard_requests_total{release="income@2"')
    for release in (OTHER, NAN):
        shadowed(running, release)
        after = asked(running)
        for one, other in zip(before, after, strict=True):
            assert (one.status, one.data) == (other.status, other.data)
            assert one.headers == other.headers
        settled(running, release)
    assert counts[0] > 0
    assert counts[1] == running.metric('modelyard_requests_total{release="income@2"') == 0


def test_agreement_is_what_both_bodies_say_of_the_same_rows(running: Running) -> None:
    shadowed(running, OTHER)
    compared = 'modelyard_shadow_compared_rows_total{release="income@2",answer='
    same, other = running.metric(compared + '"same"'), running.metric(compared + '"other"')
    before = fates(running, OTHER)
    rows = [{**ROW, "age": age, "score": score} for age in range(20, 60, 3) for score in (-2.0, 0.0, 2.0)]
    ours, theirs = expected(rows), expected(rows, shift=1.0)
    for start in range(0, len(rows), 2):
        reply = running.predict(*rows[start : start + 2])
        said = [one["label"] for one in reply.json["predictions"]]
        assert said == [CLASSES[logit > 0] for logit in ours[start : start + 2]]
    agreed = sum((one > 0) == (two > 0) for one, two in zip(ours, theirs, strict=True))
    assert 0 < agreed < len(rows)
    eventually(lambda: fates(running, OTHER)["answered"] == before["answered"] + len(rows))
    assert running.metric(compared + '"same"') - same == agreed
    assert running.metric(compared + '"other"') - other == len(rows) - agreed


def test_a_share_of_the_requests_is_copied_and_each_copy_has_one_outcome(running: Running) -> None:
    shadowed(running, OTHER, 0.25)
    before = copied(running, OTHER)
    ids = [f"own-{number}" for number in range(200)]
    for one in ids:
        assert running.predict(ROW, X_Request_Id=one).status == 200
    wanted = sum(mirrored(row_of(running.folder).traffic, one) == (OTHER,) for one in ids)
    assert 20 < wanted < 80
    eventually(lambda: copied(running, OTHER) - before == wanted)
    settled(running, OTHER)


def test_a_release_with_a_stricter_contract_refuses_copies_and_reads_the_others_itself(running: Running) -> None:
    shadowed(running, STRICT)
    before = fates(running, STRICT)
    assert running.predict({**ROW, "city": "Rome"}).status == 200
    assert running.predict({**ROW, "city": "Oslo"}).status == 200
    eventually(lambda: fates(running, STRICT).get("refused") == 1)
    eventually(lambda: fates(running, STRICT)["answered"] == before["answered"] + 1)


@pytest.mark.parametrize("harm", ["stopped", "killed", "nan", "slow"])
def test_callers_notice_nothing_of_a_shadow_that_is(running: Running, harm: str) -> None:
    release = {"nan": NAN, "slow": SLOW}.get(harm, OTHER)
    shadowed(running, release)
    before, degraded = settled(running, release), running.metric("modelyard_degraded_total")
    with Load(running.port, 3, deadline_ms=5000) as load:
        if harm == "stopped":
            os.kill(pid_of(running, release), signal.SIGSTOP)
            eventually(lambda: fates(running, release).get("dropped", 0) > before.get("dropped", 0))
        for _ in range(3 if harm == "killed" else 0):
            pid = pid_of(running, release)
            os.kill(pid, signal.SIGKILL)
            eventually(functools.partial(_is_replaced, running, release, pid))
        seen = len(load.replies)
        eventually(lambda: len(load.replies) > seen + 200)
        if harm == "nan":
            eventually(lambda: fates(running, release).get("failed", 0) > before.get("failed", 0))
    assert load.lost == []
    assert {(status, why) for status, why, _ in load.replies} == {(200, None)}
    after = settled(running, release)
    if harm == "slow":  # what it cannot take is dropped, not kept
        assert after.get("dropped", 0) > before.get("dropped", 0)
    status = running.status()
    assert status.ready
    assert all(front.suspects == () for front in status.fronts.values())
    assert running.metric("modelyard_degraded_total") == degraded
    assert running.ask("GET", "/v2/health/ready").status == running.ask("GET", "/v2/health/live").status == 200


def test_answers_that_are_not_finite_are_counted_for_the_release(running: Running) -> None:
    shadowed(running, NAN)
    running.predict(ROW)
    assert eventually(lambda: running.metric(f'modelyard_not_finite_rows_total{{release="{NAN}"}}')) > 0


def test_a_rollout_counts_of_a_shadow_what_callers_would_have_got(running: Running) -> None:
    epoch, shares = row_of(running.folder).traffic.epoch, {STABLE: 1.0, OTHER: 0.0, NAN: 0.0}
    watch = Watch(items=(Watched(counts="slow", what=Counted.SLOWER, above_ms=60_000),))
    shadow = {OTHER: 1.0, NAN: 1.0}
    changes(running.folder).set_traffic("income", shares, shadow=shadow, watch=watch, expect_epoch=epoch)
    before = {release: fates(running, release) for release in shadow}
    units = arm_counts(running.folder, STABLE).units
    rows = [{**ROW, "age": age} for age in range(20, 60, 4)]
    for row in rows:
        assert running.predict(row).status == 200
    for release in shadow:
        eventually(functools.partial(_have_come, running, release, before[release], len(rows)))
    logits = zip(expected(rows), expected(rows, shift=1.0), strict=True)
    agreed = sum((one > 0) == (two > 0) for one, two in logits)
    good = arm_counts(running.folder, OTHER)
    assert (good.requests, good.errors, sum(good.classes.values())) == (len(rows), 0, len(rows))
    assert (good.agreement.trials, good.agreement.hits) == (len(rows), agreed)
    assert good.rates["slow"].trials == 0  # copies wait for callers, so their times say nothing
    bad = arm_counts(running.folder, NAN)
    assert bad.requests == bad.errors + sum(bad.classes.values())
    assert bad.errors > 0
    assert arm_counts(running.folder, STABLE).units == units  # a copy is no caller


def _have_come(running: Running, release: str, before: dict[str, int], rows: int) -> bool:
    """Say whether a release got so many rows since then, but for those that it had no turn for."""
    now = fates(running, release)
    return sum(count - before.get(fate, 0) for fate, count in now.items() if fate != "dropped") == rows


def test_a_shadow_gives_way_on_the_processors_until_callers_may_meet_it(running: Running) -> None:
    shadowed(running, OTHER)
    pid = pid_of(running, OTHER)
    eventually(lambda: os.sched_getscheduler(pid) == os.SCHED_BATCH)
    assert os.sched_getscheduler(pid_of(running, STABLE)) == os.SCHED_OTHER
    epoch = row_of(running.folder).traffic.epoch
    changes(running.folder).set_traffic("income", {STABLE: 0.5, OTHER: 0.5}, expect_epoch=epoch)
    assert pid_of(running, OTHER) == pid
    assert os.sched_getscheduler(pid) == os.SCHED_OTHER
    changes(running.folder).rollback("income")


def test_a_process_that_gave_way_is_as_before_when_it_no_longer_does() -> None:
    own = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(own, stdin=subprocess.PIPE, start_new_session=True) as process:
        before = _turn_of(process.pid)
        assert give_way(process.pid)
        assert os.sched_getscheduler(process.pid) == os.SCHED_BATCH
        eventually(lambda: be_as_others(process.pid))
        assert _turn_of(process.pid) == before
    assert not give_way(process.pid)


def _turn_of(pid: int) -> tuple[int, int, str]:
    group = Path(f"/proc/{pid}/autogroup")
    nice = os.getpriority(os.PRIO_PROCESS, pid)
    return os.sched_getscheduler(pid), nice, group.read_text() if group.exists() else ""


def test_a_service_ends_without_waiting_for_a_shadow_that_is_stopped(
    bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    with service(tmp_path / "income", bodies) as running:
        shadowed(running, OTHER)
        os.kill(pid_of(running, OTHER), signal.SIGSTOP)
        for _ in range(20):
            assert running.predict(ROW).status == 200
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(timeout=20) == 0
        assert running.events("stopped")[0]["exit"] == 0
