"""The difference of two releases: complete, careful with intervals, readable by people and programs."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from modelyard.core.codec import decode, encode
from modelyard.core.evidence import BuildEvidence
from modelyard.release.diff import DiffReport, ReleaseView, Shift, diff, shift
from tests.release import samples
from tests.release.tables import observation


def view(
    build: BuildEvidence, number: int = 1, *, spec_text: str = samples.SPEC, body: str = samples.BODY
) -> ReleaseView:
    return ReleaseView(release=replace(samples.release(number=number), body=body), build=build, spec_text=spec_text)


def names(changes: tuple[object, ...]) -> set[str]:
    return {getattr(change, "name", "") for change in changes}


def test_a_release_differs_from_itself_in_nothing() -> None:
    found = diff(view(samples.binary()), view(samples.binary()))
    assert found.same_body
    assert found.same_test_rows
    assert (found.spec_lines, found.data, found.columns, found.model, found.body, found.libraries) == ((),) * 6
    assert {m.shift for m in found.metrics} <= {Shift.SAME, Shift.UNKNOWN}


def test_what_changed_is_listed_with_both_sides() -> None:
    before = samples.binary()
    data, line = before.prepared, before.lineage
    columns = tuple(
        replace(c, maximum=80.0) if c.name == "age" else c for c in data.contract.columns if c.name != "signup"
    )
    after = replace(
        before,
        chosen="linear",
        threshold=0.5,
        prepared=replace(data, data_digest="0" * 64, contract=replace(data.contract, columns=columns)),
        lineage=replace(line, machine=replace(line.machine, libraries={"numpy": "9.9"})),
    )
    spec_text = samples.SPEC.replace("at_least: 0.92", "at_least: 0.93")
    found = diff(view(before), view(after, 2, spec_text=spec_text, body="0" * 64))
    assert "-    at_least: 0.92" in found.spec_lines
    assert "+    at_least: 0.93" in found.spec_lines
    assert names(found.data) == {"digest"}
    assert names(found.columns) == {"age", "signup"}
    assert {"candidate", "threshold"} <= names(found.model)
    assert {"numpy", "onnxruntime"} <= names(found.libraries)
    assert not found.same_body
    assert not found.same_test_rows
    for told in (
        "income@1 → income@2",
        "17 to 90, never missing → ",
        "threshold: 0.41 → 0.5",
        "different test rows",
        "absent",
    ):
        assert told in found.text


@pytest.mark.parametrize(
    ("metric", "before", "after", "wanted"),
    [
        ("roc_auc", (0.92, 0.002), (0.93, 0.002), Shift.BETTER),
        ("roc_auc", (0.93, 0.002), (0.92, 0.002), Shift.WORSE),
        ("rmse", (40.0, 1.0), (45.0, 1.0), Shift.WORSE),
        ("roc_auc", (0.92, 0.01), (0.93, 0.01), Shift.WITHIN),
        ("size_mb", (3.0, 0.0), (2.0, 0.0), Shift.BETTER),
        ("size_mb", (3.0, 0.0), (3.0, 0.0), Shift.SAME),
        ("roc_auc", (0.92, 0.01), (None, 0.0), Shift.UNKNOWN),
        ("own_metric", (1.0, 0.1), (2.0, 0.1), Shift.DIFFERENT),
    ],
)
def test_numbers_differ_only_where_their_intervals_do_not_meet(
    metric: str, before: tuple[float, float], after: tuple[float | None, float], wanted: Shift
) -> None:
    assert shift(observation(metric, *before), observation(metric, *after)) is wanted


def test_a_metric_that_only_one_release_has_is_listed_as_absent_on_the_other_side() -> None:
    assert shift(None, observation("f1", 0.5, 0.1)) is Shift.UNKNOWN
    found = diff(view(samples.binary()), view(samples.regression()))
    auc = next(m for m in found.metrics if m.metric == "roc_auc" and not m.population)
    assert auc.after is None
    assert auc.difference is None


def test_a_slice_that_moved_beyond_its_interval_is_in_the_text_and_a_quiet_one_is_counted() -> None:
    before = samples.binary()
    parts = list(before.evaluation.slices)
    parts[0] = replace(parts[0], observations=(replace(parts[0].observations[0], value=0.5, low=0.49, high=0.51),))
    after = replace(before, evaluation=replace(before.evaluation, slices=tuple(parts)))
    text = diff(view(before), view(after, 2)).text
    assert "roc_auc where sex=Male" in text
    assert "roc_auc where sex=Female" not in text
    assert "did not move beyond the intervals" in text


def test_the_report_travels_as_json() -> None:
    found = diff(view(samples.binary()), view(samples.binary(threshold=0.5), 2))
    assert decode(encode(found), DiffReport) == found


def test_control_characters_of_a_spec_do_not_reach_the_terminal() -> None:
    found = diff(view(samples.binary()), view(samples.binary(), 2, spec_text="name: \x1b[31mred\n"))
    assert "\x1b" not in found.text


def test_a_requirement_that_a_build_could_not_judge_is_a_change_of_verdicts() -> None:
    found = diff(view(samples.binary()), view(samples.not_yet(samples.binary()), 2))
    (change,) = found.verdicts
    assert change.name == "error_rate at most 0.01" and change.after == "not judged at build"
