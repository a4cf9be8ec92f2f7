"""The model card: says what a reader needs, in Markdown that hostile names cannot break."""

from __future__ import annotations

import re

import pytest
from msgspec.structs import replace

from modelyard.core.evidence import BuildEvidence
from modelyard.release import card
from tests.release import samples

EVERY = {"binary": samples.binary, "multiclass": samples.multiclass, "regression": samples.regression}
EVIL = "x|y <img src=x onerror=alert(1)> `code` [a](javascript:x) **b**\n# heading\n| cell |"


def written(build: BuildEvidence, goal: str = "Whom to invite.") -> str:
    evidence = [samples.recorded(build), samples.recorded(samples.fallback(), kind="fallback")]
    return card.render(samples.release(), evidence, goal=goal)


@pytest.mark.parametrize("task", EVERY)
def test_a_card_has_every_section_a_reader_looks_for(task: str) -> None:
    text = written(EVERY[task]())
    for heading in (
        "What it is for",
        "Data",
        "How it was chosen",
        "Requirements",
        "Measured",
        "Limits",
        "Fallback",
        "How to use it",
    ):
        assert f"\n## {heading}\n" in text
    assert "Whom to invite." in text


def test_every_requirement_stands_with_its_verdict_and_interval() -> None:
    text = written(samples.binary())
    assert "| roc_auc at least 0.92 | **pass** | 0.9271 (95 % interval 0.9237 to 0.9305, 16,281 rows) |" in text
    assert "**inconclusive**" in text


def test_the_limits_tell_ranges_categories_and_slices_too_small() -> None:
    text = written(samples.binary())
    assert "- `age`: 17 to 90, never missing" in text
    assert "- `workclass`: Private, Self-emp-not-inc, Local-gov, State-gov and 4 more, missing in 5.6 %" in text
    assert "- `signup`: 2019-12-22 07:33 to" in text
    assert "race = Other (3 rows)" in text


@pytest.mark.parametrize("task", EVERY)
def test_rows_of_every_table_have_as_many_cells_as_its_head(task: str) -> None:
    assert _ragged(written(EVERY[task]())) == []


def test_hostile_text_brings_in_neither_markup_nor_cells() -> None:
    build = samples.binary()
    data = build.prepared
    columns = tuple(replace(c, name=EVIL + str(i), categories=(EVIL,)) for i, c in enumerate(data.contract.columns))
    contract = replace(data.contract, columns=columns, target=EVIL, classes=(EVIL, "no"))
    build = replace(
        build,
        chosen=EVIL,
        candidates=tuple(replace(c, candidate=EVIL, reason=EVIL) for c in build.candidates),
        prepared=replace(data, contract=contract, sources=(EVIL,), split_method=EVIL),
        evaluation=replace(
            build.evaluation, slices=tuple(replace(s, column=EVIL, value=EVIL) for s in build.evaluation.slices)
        ),
    )
    text = written(build, goal=EVIL)
    outside = re.sub(r"`[^`\n]*`", "", text)
    assert _ragged(text) == []
    assert not re.search(r"(?<!\\)<img", outside)
    assert not re.search(r"(?<!\\)\]\(", outside)
    assert text.count("\n# ") == 0


def _ragged(text: str) -> list[str]:
    """Return the table rows whose number of cells differs from the row above."""
    wrong, wanted = [], 0
    for line in text.splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        if cells and wanted and cells != wanted:
            wrong.append(line)
        wanted = cells
    return wrong


def test_a_release_without_a_build_has_a_short_card() -> None:
    text = card.render(samples.release(), [])
    assert text.startswith("# income@1\n")
    assert "There is no record of a build." in text
    assert "modelyard predict income@1" in text


def test_the_same_evidence_gives_the_same_card() -> None:
    assert written(samples.binary()) == written(samples.binary())


@pytest.mark.parametrize("judged", [True, False])
def test_a_requirement_that_was_not_judged_stands_on_the_card_with_the_reason(judged: bool) -> None:
    build = samples.not_yet(samples.binary())
    text = written(build if judged else replace(build, evaluation=replace(build.evaluation, judgements=())))
    assert "Not judged at build: error_rate at most 0.01. error_rate is counted while a release serves" in text
