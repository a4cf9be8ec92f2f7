"""Traffic split among releases: who may share callers, who is met, and what a change does to a running service."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from modelyard.core.contract import Column, Contract, Kind, Role
from modelyard.core.metrics import Task
from modelyard.core.release import HeaderRule, Traffic
from modelyard.errors import ServiceError, StoreConflict, UnknownName, UsageError
from modelyard.serve.keep.following import way_back
from modelyard.serve.keep.likeness import differences
from modelyard.serve.routing import choose
from tests.serve.bodies import ROW, contract, write_body
from tests.serve.entry import changes
from tests.serve.load import Load
from tests.serve.running import Running, eventually, launch, service, sweep
from tests.serve.test_deploy import row_of

# where a rollback goes


@pytest.mark.parametrize(
    ("shares", "previous", "wanted"),
    [
        ({"income@1": 0.9, "income@2": 0.1}, None, "income@1"),
        ({"income@1": 0.5, "income@2": 0.5}, None, "income@1"),
        ({"income@1": 0.1, "income@2": 0.9}, "income@1", "income@1"),
        ({"income@2": 1.0, "income@1": 0.0}, "income@1", "income@1"),
        ({"income@1": 1.0, "income@2": 0.0}, None, "income@1"),
        ({"income@3": 0.6, "income@4": 0.4}, "income@1", "income@1"),
    ],
)
def test_a_rollback_of_any_table_is_to_one_release_alone(
    shares: dict[str, float], previous: str | None, wanted: str
) -> None:
    rules = (HeaderRule(header="x-beta", value="yes", release="income@2"),)
    traffic = Traffic(epoch=7, shares=shares, previous=previous, rules=rules)
    assert way_back("income", traffic) == Traffic(epoch=8, shares={wanted: 1.0})


# who may share callers


def having(column: Column, **other: Any) -> Contract:
    whole = contract()
    return replace(
        whole, columns=tuple(replace(one, **other) if one.name == column.name else one for one in whole.columns)
    )


def test_releases_that_take_the_same_requests_may_share_callers() -> None:
    stable = contract()
    assert differences(stable, stable) == ()
    age = stable.column("age")
    assert differences(stable, having(age, nullable=True, minimum=0, maximum=120)) == ()
    assert differences(stable, replace(stable, classes=stable.classes[::-1])) == ()


def test_what_keeps_releases_from_sharing_callers_is_said() -> None:
    stable = contract()
    more = Column(name="height", kind=Kind.NUMBER, role=Role.FEATURE, nullable=True)
    score, age = stable.column("score"), stable.column("age")
    assert differences(stable, contract(Task.REGRESSION)) == (
        "its task is regression, wanted binary",
        "its classes are none, wanted <=50K, >50K",
    )
    assert differences(stable, replace(stable, columns=(*stable.columns, more))) == ("it wants `height` too",)
    assert differences(stable, having(age, role=Role.IGNORE)) == ("it does not take `age`",)
    assert differences(stable, having(age, kind=Kind.NUMBER)) == ("`age` has the kind number, wanted integer",)
    assert "`score` must not be missing" in differences(stable, having(score, nullable=False))[0]


# a running service


def answered_by(running: Running, count: int, **headers: str) -> Counter[str]:
    return Counter(running.predict(ROW, **headers).json["served_by"] for _ in range(count))


def test_a_split_is_kept_by_key_and_rule_and_by_whatever_comes_back_after_a_kill(
    bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    with service(tmp_path / "income", bodies, log_sample_per_s=1e6) as running, Load(running.port, 2) as load:
        verbs = changes(running.folder)
        rules = (HeaderRule(header="x-beta", value="yes", release="income@3"),)
        split = {"income@1": 0.75, "income@2": 0.25, "income@3": 0.0}
        done = verbs.set_traffic("income", split, rules=rules, key_header="x-user", previous="income@1", expect_epoch=1)
        assert (done.release, done.shares, done.previous, done.epoch) == ("income@1", split, "income@1", 2)
        table = row_of(running.folder).traffic
        met = {f"user-{number}": choose(table, f"user-{number}")[0] for number in range(40)}
        assert {"income@1", "income@2"} == set(met.values())
        for user, release in met.items():
            assert answered_by(running, 2, X_User=user) == {release: 2}
        assert answered_by(running, 5, X_Beta="yes", X_User="user-1") == {"income@3": 5}
        for number in range(20):
            own = f"own-{number}"
            assert answered_by(running, 1, X_Request_Id=own) == {choose(table, own)[0]: 1}
        eventually(lambda: _logged(running, "own-19"))
        for number in range(20):  # from the line alone, and the table of its epoch
            line = _logged(running, f"own-{number}")
            assert (line["epoch"], (line["release"], line["p_release"])) == (2, choose(table, line["request"]))
        with pytest.raises(StoreConflict, match="its epoch is 2, wanted 1"):
            verbs.set_traffic("income", {"income@1": 1.0}, expect_epoch=1)
        with pytest.raises(UsageError, match=r"sum to 0\.5"):
            verbs.set_traffic("income", {"income@1": 0.5}, expect_epoch=2)
        with pytest.raises(UnknownName):
            verbs.set_traffic("income", {"income@1": 0.5, "income@77": 0.5}, expect_epoch=2)
        wider = {"income@1": 0.25, "income@2": 0.75, "income@3": 0.0}
        verbs.set_traffic("income", wider, rules=rules, key_header="x-user", previous="income@1", expect_epoch=2)
        stayed = [user for user, release in met.items() if release == "income@2"]
        assert all(answered_by(running, 1, X_User=user) == {"income@2": 1} for user in stayed)
        load.__exit__()
        assert load.lost == [] and {status for status, _, _ in load.replies} == {200}
        before = row_of(running.folder)
        running.process.send_signal(signal.SIGKILL)
        running.process.wait()
        again = launch(running.folder)
        try:
            running.port = eventually(running.wait_ready, timeout_s=20).run.port
            assert running.status().routes.traffic == before.traffic == row_of(running.folder).traffic
            assert all(answered_by(running, 1, X_User=user) == {"income@2": 1} for user in stayed)
            back = verbs.rollback("income")
            assert (back.release, back.shares) == ("income@1", {"income@1": 1.0})
            assert answered_by(running, 5, X_Beta="yes") == {"income@1": 5}
        finally:
            sweep(running.folder, again)


def _logged(running: Running, request: str) -> Any:
    lines = (running.folder / "front.0.log").read_text().split("\n")[:-1]  # the last may still be being written
    return next((line for text in lines if (line := json.loads(text)).get("request") == request), None)


def test_a_table_with_a_release_that_does_not_get_ready_leaves_the_one_before(
    bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    digest = write_body(tmp_path / "bad", golden_is_wrong=True)
    other = write_body(tmp_path / "other", task=Task.REGRESSION)
    known = {**bodies, "income@9": (tmp_path / "bad", digest), "income@8": (tmp_path / "other", other)}
    with service(tmp_path / "income", known) as running:
        before = row_of(running.folder)
        verbs = changes(running.folder)
        with pytest.raises(UsageError, match="`income@8` cannot share callers with `income@1`: its task is regression"):
            verbs.set_traffic("income", {"income@1": 0.9, "income@8": 0.1}, expect_epoch=1)
        with pytest.raises(ServiceError, match="income@9` did not get ready"):
            verbs.set_traffic("income", {"income@1": 0.9, "income@9": 0.1}, expect_epoch=1)
        assert row_of(running.folder) == before
        assert answered_by(running, 3) == {"income@1": 3}


def test_a_release_without_a_share_holds_nothing_up(bodies: dict[str, tuple[Path, str]], tmp_path: Path) -> None:
    digest = write_body(tmp_path / "bad", golden_is_wrong=True)
    known = {**bodies, "income@9": (tmp_path / "bad", digest)}
    with service(tmp_path / "income", known) as running:
        row = row_of(running.folder)
        split = {"income@2": 1.0, "income@9": 0.0, "income@77": 0.0}
        made = replace(row.traffic, epoch=2, shares=split, shadow={"income@9": 1.0})
        verbs = changes(running.folder)
        verbs.store()[0].put(replace(row, traffic=made), expect_epoch=1)
        assert verbs.rollback("income").release == "income@2"  # whatever the others are
        verbs.store()[0].put(replace(row, traffic=replace(made, epoch=4)), expect_epoch=3)
        running.process.send_signal(signal.SIGKILL)
        running.process.wait()
        again = launch(running.folder)
        try:
            running.port = eventually(running.wait_ready, timeout_s=20).run.port
            assert running.status().routes.traffic.epoch == 4
            assert answered_by(running, 3) == {"income@2": 3}
            eventually(lambda: running.events("release_missing"))
        finally:
            sweep(running.folder, again)
