"""The sweep on the report: every configuration, which one was chosen, and why; nothing where there was no sweep."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from msgspec.structs import replace

from modelyard.core.evidence import Payload
from modelyard.core.sweep import SweepEvidence
from modelyard.evaluate.sweep_choice import choose
from modelyard.release import report, sweeps
from tests.evaluate.sweeping import point, swept
from tests.release import samples
from tests.release.pages import Page

POINTS = (
    point(rows_per_s=12_000.0),
    point(batch_rows=64, rows_per_s=84_000.0),
    point(1, 2, rows_per_s=11_500.0),
    point(1, 2, 64, rows_per_s=90_000.0),
    point(2, 1, 64, rows_per_s=160_000.0),
)


def sweep() -> SweepEvidence:
    return swept(*POINTS, chosen=choose(POINTS, deadline_ms=1000.0, cores=2))


def page(*payloads: Payload) -> str:
    build = samples.recorded(samples.binary())
    evidence = [build, *(samples.recorded(one, kind="sweep") for one in payloads)]
    return report.render(samples.release(), evidence, samples.SPEC)


def test_every_configuration_is_a_row_and_the_chosen_one_is_marked() -> None:
    text = page(sweep())
    read = Page(text)
    assert read.faults == [] and "#serving" in {a["href"] for a in read.all("a")}
    table = text.partition('id="serving"')[2].partition("</table>")[0]
    rows = re.findall(r"<tr role=\"row\"( class=\"chosen\")?>\s*<th scope=\"row\".*?</tr>", table, re.DOTALL)
    assert [bool(row) for row in rows] == [False, True, False, False, False]
    assert "1 × 1 (chosen)" in read.text and "2 × 1" in read.text and "160,000" in read.text
    for reason in sweep().chosen.reasons:
        assert " ".join(reason.split()) in read.text
    assert "A worker was ready 250 ms after its start." in read.text


def test_bars_and_lines_are_well_formed_and_named() -> None:
    part = page(sweep()).partition('id="serving"')[2].partition("</section>")[0]
    pictures = re.findall(r"<svg.*?</svg>", part, re.DOTALL)
    assert len(pictures) == len(POINTS) + 1
    assert all(ET.fromstring(picture)[0].text for picture in pictures)
    assert "1 x 2" in pictures[-1] and "2 x 1" not in pictures[-1]  # a size alone is no line


def test_the_newest_sweep_is_shown() -> None:
    found = sweeps.view([samples.recorded(one) for one in (swept(point(rows_per_s=5.0)), sweep())])
    assert found is not None and len(found.rows) == len(POINTS)


@pytest.mark.parametrize("rate", [1e-3, 0.37, 5.0, 2e9])
def test_a_sweep_of_one_configuration_has_a_row_and_no_lines(rate: float) -> None:
    one = swept(point(rows_per_s=rate, spread=0.0), stopped="ended with <b>status</b> -9")
    text = page(one)
    assert Page(text).faults == [] and "&lt;b&gt;status" in text
    found = sweeps.view([samples.recorded(one)])
    assert found is not None and found.plot is None and found.rows[0].spread == ""


def test_a_release_without_a_sweep_has_no_such_section() -> None:
    assert sweeps.view([samples.recorded(samples.binary())]) is None
    assert 'id="serving"' not in page()


def test_the_same_sweep_gives_the_same_bytes() -> None:
    assert page(sweep()) == page(replace(sweep()))
