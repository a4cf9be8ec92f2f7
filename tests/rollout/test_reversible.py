"""When the way back from a change counts as proven."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from modelyard.core.clock import stamp
from modelyard.core.codec import decode, encode
from modelyard.core.drill import Drilled, DrillEvidence, Outcome, last_of_each
from modelyard.core.evidence import Evidence
from modelyard.core.machine import Machine
from modelyard.rollout.reversible import check_way_back, why_unproven

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY_S = 86_400.0
HERE = Machine(processor="one", cores=2, memory_mb=8000, system="Linux", python="3.11", libraries={"numpy": "2"})


def record(
    outcome: Outcome = Outcome.PASSED, *, days_ago: float = 1.0, machine: Machine = HERE, kind: str = "rollback_service"
) -> Evidence:
    began = stamp(NOW - timedelta(days=days_ago))
    drilled = Drilled(kind=kind, outcome=outcome, why="as it went", began=began, limit_s=5.0, sent=10, recovery_s=0.2)
    payload = DrillEvidence(machine=machine, rate=50.0, way_back="shop@1", drills=(drilled,))
    return Evidence(release="shop@2", body="0" * 64, recorded=began, payload=payload)


def unproven(*records: Evidence) -> str | None:
    return why_unproven(records, "service", HERE, 30 * DAY_S, NOW)


def test_a_passed_drill_here_and_of_late_is_a_proof() -> None:
    assert unproven(record()) is None


@pytest.mark.parametrize(
    ("records", "why"),
    [
        ((), "never rehearsed"),
        ((record(kind="worker_killed"),), "never rehearsed"),
        ((record(Outcome.NOT_TRIED),), "never rehearsed"),
        ((record(machine=replace(HERE, cores=4)),), "only on another machine"),
        ((record(machine=replace(HERE, libraries={"numpy": "3"})),), "other versions of its libraries"),
        ((record(Outcome.FAILED),), "did not pass its last drill: as it went"),
        ((record(days_ago=9), record(Outcome.FAILED, days_ago=2)), "did not pass"),
        ((record(days_ago=31),), "31 days ago, more than 30"),
    ],
)
def test_anything_else_is_none_and_says_why(records: tuple[Evidence, ...], why: str) -> None:
    said = unproven(*records)
    assert said is not None and why in said


def test_the_newest_drill_counts_in_whatever_order_records_come() -> None:
    records = [record(Outcome.FAILED, days_ago=5), record(days_ago=1), record(Outcome.NOT_TRIED, days_ago=0.5)]
    assert unproven(*records) is None and unproven(*reversed(records)) is None


@pytest.mark.parametrize("environment", ["sandbox", "staging", "production"])
def test_only_a_sandbox_goes_on_without_a_proof(environment: str) -> None:
    said = check_way_back((), "service", HERE, DAY_S, environment, NOW)
    assert (said is not None) is (environment != "sandbox")
    assert check_way_back([record()], "service", HERE, 30 * DAY_S, environment, NOW) is None


def test_a_record_of_drills_is_read_as_it_was_written_and_so_are_older_kinds() -> None:
    assert decode(encode(record()), Evidence) == record()
    older = b'{"release":"a@1","body":"b","recorded":"c","payload":{"type":"fallback","kind":"refuse","answered":true,'
    assert decode(older + b'"seconds":0.1,"detail":"d"}}', Evidence).payload.__struct_config__.tag == "fallback"


def test_the_newest_of_each_kind_is_kept() -> None:
    first, second = record(days_ago=3).payload, record(Outcome.FAILED).payload
    assert isinstance(first, DrillEvidence) and isinstance(second, DrillEvidence)
    found = last_of_each([first, second])
    assert list(found) == ["rollback_service"] and found["rollback_service"][1].outcome is Outcome.FAILED
