"""Drills on the report: the newest of each kind, with times, counts and reasons; nothing where there were none."""

from __future__ import annotations

import re

from modelyard.core.drill import Drilled, DrillEvidence, Outcome
from modelyard.core.evidence import Payload
from modelyard.core.machine import fingerprint
from modelyard.release import drills, report
from tests.release import samples
from tests.release.pages import Page

BEGAN = "2026-11-20T14:03:26.000000Z"
DONE = (
    Drilled(
        kind="worker_hung", outcome=Outcome.PASSED, why="39 of 71 requests were answered otherwise.", began=BEGAN,
        limit_s=30.0, detection_s=0.19, recovery_s=0.82, sent=71, degraded=39, worst_ms=740.0, changes=1,
    ),
    Drilled(
        kind="controller_killed", outcome=Outcome.FAILED, why="3 requests got <no> answer at all.", began=BEGAN,
        limit_s=30.0, detection_s=0.001, sent=146, lost=3, worst_ms=812.0, changes=2, changes_lost=1,
    ),
    Drilled(
        kind="out_of_memory", outcome=Outcome.NOT_TRIED, why="Nothing bounds the memory of a worker.", began=BEGAN,
        limit_s=30.0,
    ),
)  # fmt: skip


def evidence(*drilled: Drilled) -> DrillEvidence:
    return DrillEvidence(
        machine=fingerprint(), rate=50.0, way_back="income@1", left_out=("TLS", "API keys"), drills=drilled
    )


def page(*payloads: Payload) -> str:
    build = samples.recorded(samples.binary())
    return report.render(
        samples.release(), [build, *(samples.recorded(one, kind="drill") for one in payloads)], samples.SPEC
    )


def test_every_drill_is_a_row_with_its_outcome_and_its_reason() -> None:
    text = page(evidence(*DONE))
    read = Page(text)
    assert read.faults == [] and "#drills" in {a["href"] for a in read.all("a")}
    table = text.partition('id="drills"')[2].partition("</table>")[0]
    assert re.findall(r"(Passed|Failed|Not tried)</span></span>", table) == ["Passed", "Failed", "Not tried"]
    assert "worker hung" in table and "820 ms" in table and "190 ms" in table
    assert "3 requests got <no> answer at all." in read.text and "without TLS, API keys" in read.text


def test_a_later_drill_of_a_kind_takes_the_place_of_the_one_before() -> None:
    again = Drilled(kind="controller_killed", outcome=Outcome.PASSED, why="Well.", began=BEGAN, limit_s=30.0, sent=9)
    found = drills.view([samples.recorded(one) for one in (evidence(*DONE), evidence(again))])
    assert found is not None
    assert [(row.name, row.drilled.outcome.value) for row in found.rows] == [
        ("worker hung", "passed"), ("controller killed", "passed"), ("out of memory", "not tried"),
    ]  # fmt: skip


def test_a_release_without_drills_has_no_such_section() -> None:
    assert drills.view([samples.recorded(samples.binary())]) is None
    assert 'id="drills"' not in page()
