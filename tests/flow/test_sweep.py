"""A build leaves a sweep on record beside its evidence, and serving reads its settings from there."""

from __future__ import annotations

from pathlib import Path

from modelyard.core.codec import decode, encode
from modelyard.core.evidence import BuildEvidence, Evidence
from modelyard.core.sweep import SweepEvidence
from modelyard.evaluate.sweep_choice import choose, settings_of
from tests.journeys.making import Place


def records(shop: Place) -> list[Evidence]:
    return [record for _, record in shop.app.show("shop")[1]]


def test_a_release_is_sealed_with_what_its_sweep_measured_and_what_follows(shop: Place) -> None:
    build, sweep = (record.payload for record in records(shop)[:2])
    assert isinstance(build, BuildEvidence) and isinstance(sweep, SweepEvidence)
    assert sweep.machine == build.lineage.machine and "sweep" in build.lineage.stages
    assert sweep.spent_s <= sweep.limit_s and 0 < sweep.load_s < sweep.spent_s
    assert (1, 1, 1) in {(p.workers, p.threads, p.batch_rows) for p in sweep.points}
    again = choose(sweep.points, deadline_ms=sweep.deadline_ms, waits=sweep.waits, cores=sweep.machine.cores)
    assert sweep.chosen == again
    assert decode(encode(records(shop)[1]), Evidence) == records(shop)[1]


def test_settings_come_from_the_record_and_the_spec_goes_before_it(shop: Place) -> None:
    found = records(shop)
    sweep = found[1].payload
    assert isinstance(sweep, SweepEvidence)
    measured = settings_of(found, deadline_ms=sweep.deadline_ms, cores=sweep.machine.cores)
    assert measured == sweep.chosen
    told = settings_of(found, deadline_ms=sweep.deadline_ms, cores=1, workers=3, batch_rows=99)
    assert (told.workers, told.threads, told.batch_rows) == (3, 1, 99)


def test_the_report_shows_the_sweep(shop: Place, tmp_path: Path) -> None:
    page = shop.app.report("shop", tmp_path / "page.html").read_text()
    assert 'id="serving"' in page and "(chosen)" in page.partition('id="serving"')[2]
