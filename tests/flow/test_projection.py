"""How long a release would take to take over, told from what the newest one's build measured."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from modelyard.core.evidence import BuildEvidence
from modelyard.core.requirement import Stage
from modelyard.core.rollout import Strategy
from modelyard.errors import UsageError
from modelyard.flow.projection import Measured, newest, observed, rollout_lines
from modelyard.rollout.claims import claims
from modelyard.spec.system import System
from tests.journeys.making import Place
from tests.release import samples
from tests.spec.making import LEAST, REGRESSION, loaded

REQUIRED = """\
requirements:
  - {metric: error_rate, at_most: 0.02}
  - {metric: latency_p95_ms, at_most: 5}
  - {metric: recall, margin: 0.05, slice: sex=Female}
  - {metric: roc_auc, at_least: 0.8}
"""


CANARY = "rollout: {strategy: canary}\n"


def spec_of(folder: Path, more: str = CANARY, *, base: str = LEAST, required: str = REQUIRED) -> System:
    return loaded(folder, base + required + more).spec


def lines(spec: System, build: BuildEvidence | None = None) -> list[str]:
    return list(rollout_lines(spec, Measured("income@1", build or samples.binary())))


def test_the_hours_of_each_step_are_told_at_the_expected_traffic(tmp_path: Path) -> None:
    told = lines(spec_of(tmp_path, "rollout: {strategy: canary, expected_requests_per_s: 50}\n"))
    assert told[0] == (
        "canary: 10 %, 50 % of the traffic, then all of it; a step without a verdict after 24 hours goes back"
    )
    steps = [line for line in told if line.startswith("step ")]
    assert len(steps) == 2 and all("hours for half of all rollouts" in line for line in steps)
    assert any("error_rate: about" in line for line in told)
    assert any("income@1 when it was built" in line for line in told)
    assert "no service was looked at for error_rate: it is taken to be 0" in told
    assert any("label at once" in line for line in told)


def test_without_an_expected_traffic_requests_are_told_and_what_is_missing(tmp_path: Path) -> None:
    told = lines(spec_of(tmp_path))
    assert "`rollout.expected_requests_per_s` is not set" in told[1]
    assert any(line.strip().startswith("roc_auc: about") and "requests until half pass" in line for line in told)
    assert not any("hours for half" in line for line in told)


@pytest.mark.parametrize("rate", ["", ", expected_requests_per_s: 50"])
def test_what_nothing_judges_while_serving_is_told_before_a_build(tmp_path: Path, rate: str) -> None:
    required = REQUIRED + "  - {metric: calibration_error, at_most: 0.1}\n"
    told = lines(spec_of(tmp_path, f"rollout: {{strategy: canary, limit_hours: 1{rate}}}\n", required=required))
    assert "a step without a verdict after 1 hour goes back" in told[0]
    assert any(line.startswith("calibration_error") and "no step goes forward by itself" in line for line in told)


def test_before_the_first_release_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    told = list(rollout_lines(spec_of(tmp_path), None))
    assert len(told) == 2 and "no release of `income` is sealed yet" in told[1]


@pytest.mark.parametrize("strategy", [Strategy.ALL_AT_ONCE, Strategy.BLUE_GREEN])
def test_one_switch_takes_no_hours(tmp_path: Path, strategy: Strategy) -> None:
    (told,) = lines(spec_of(tmp_path, f"rollout: {{strategy: {strategy}}}\n"))
    assert "all of the traffic at once, before anything is judged" in told


def test_what_no_build_knows_is_told_as_unknown(tmp_path: Path) -> None:
    required = "requirements: [{metric: median_absolute_error, at_most: 9}]\n"
    more = "rollout: {strategy: canary, expected_requests_per_s: 5}\n"
    told = lines(spec_of(tmp_path, more, base=REGRESSION, required=required), samples.regression())
    assert any("step 1" in line and "no time can be named" in line for line in told)
    assert any("median_absolute_error: unknown" in line for line in told)


def test_a_primary_metric_that_cannot_be_compared_while_serving_is_told_before_a_build(tmp_path: Path) -> None:
    required = "requirements: [{metric: average_precision, at_least: 0.5}]\n"
    spec = spec_of(tmp_path, "rollout: {strategy: experiment, primary: average_precision}\n", required=required)
    with pytest.raises(UsageError, match="cannot be compared while serving"):
        list(rollout_lines(spec, None))


def test_a_build_tells_rates_and_the_share_of_requests_that_count(tmp_path: Path) -> None:
    spec, build = spec_of(tmp_path), samples.binary()
    seen = observed(claims(spec.requirement_records(), spec.policy()), build)
    counts = build.evaluation.confusion
    assert counts is not None
    positive = sum(counts.counts[1]) / sum(map(sum, counts.counts))
    female = next(part for part in build.evaluation.slices if part.value == "Female")
    found = seen["recall@sex=Female~stable"]
    assert found.mean == 0.662 and found.seen == pytest.approx(female.rows / build.evaluation.rows * positive)
    assert seen["error_rate"].mean == 0 and 0 <= seen["latency_p95_ms"].mean < 0.05
    assert seen["roc_auc"].seen == pytest.approx(min(positive, 1 - positive))


def test_the_margin_of_a_percentile_is_planned_by_the_shares_beyond_it(tmp_path: Path) -> None:
    required = "requirements: [{metric: latency_p95_ms, margin: 0.5}]\n"
    spec = spec_of(tmp_path, required=required)
    found = observed(claims(spec.requirement_records(), spec.policy()), samples.binary())["latency_p95_ms~stable"]
    assert found.mean == pytest.approx(0.05) and found.other is not None and 0 <= found.other < 0.05
    assert any("latency_p95_ms~stable: about" in line for line in lines(spec))


def test_the_deviation_of_a_row_follows_from_the_interval_of_its_mean(tmp_path: Path) -> None:
    required = "requirements: [{metric: mae, at_most: 30}, {metric: rmse, at_most: 50}]\n"
    spec = spec_of(tmp_path, base=REGRESSION, required=required)
    seen = observed(claims(spec.requirement_records(), spec.policy()), samples.regression())
    assert seen["mae"].spread == pytest.approx(0.93 / 1.96 * 3476**0.5, rel=0.001)  # 24.71 ± 0.93 of 3476 rows
    assert seen["rmse"].mean == pytest.approx(41.83**2)


def test_the_gap_of_two_groups_follows_from_what_was_measured_of_each(tmp_path: Path) -> None:
    # 1000 rows each: of group a 300 positive, 240 found beside 60 others; of group b 200, 100 beside 100.
    parts = tuple(
        replace(
            part, column="sex", rows=1000,
            observations=tuple(replace(one, value=given[one.metric]) for one in part.observations),
        )
        for part, given in zip(
            samples.binary().evaluation.slices[:2],
            (
                {"roc_auc": 0.9, "accuracy": 0.88, "precision": 0.8, "recall": 0.8},
                {"roc_auc": 0.9, "accuracy": 0.8, "precision": 0.5, "recall": 0.5},
            ),
            strict=True,
        )
    )  # fmt: skip
    build = samples.binary()
    build = replace(build, evaluation=replace(build.evaluation, slices=parts, rows=2000))
    names = ("demographic_parity_difference", "equal_opportunity_difference", "equalized_odds_difference")
    lines = "".join(f"  - {{metric: {name}, at_most: 0.4, group: sex}}\n" for name in names)
    spec = spec_of(tmp_path, required=f"requirements:\n{lines}")
    parity, chance, odds = (
        observed(claims(spec.requirement_records(), spec.policy()), build)[f"{name}@sex"] for name in names
    )
    assert [parity.mean, parity.other, parity.part, parity.seen] == pytest.approx([0.3, 0.2, 0.5, 1.0])
    assert [chance.mean, chance.other, chance.part, chance.seen] == pytest.approx([0.8, 0.5, 0.6, 0.25])
    assert odds == chance  # false positive rates are closer, at 60 of 700 and 100 of 800


def test_the_newest_release_with_a_build_is_found(shop: Place) -> None:
    with shop.app.store() as store:
        found = newest(store.releases, "shop")
        assert found is not None and found.release == "shop@1"
        assert newest(store.releases, "nothing") is None


def test_a_plan_tells_of_the_rollout(shop: Place, tmp_path: Path) -> None:
    shutil.copytree(shop.folder, tmp_path / "canary")
    spec = tmp_path / "canary" / shop.spec.name
    spec.write_text(spec.read_text() + CANARY)
    (told,) = (section for section in shop.app.plan(spec) if section.title == "Rollout")
    assert told.lines[0].startswith("canary: 10 %, 50 %")
    assert any("recall: about" in line for line in told.lines) and any("shop@1" in line for line in told.lines)
    (told,) = (section for section in shop.app.plan(shop.spec) if section.title == "Rollout")
    assert told.lines[0].startswith("all_at_once")


def test_a_gap_of_a_column_that_is_kept_back_waits_for_labelled_rows(tmp_path: Path) -> None:
    required = "requirements: [{metric: demographic_parity_difference, at_most: 0.1, group: sex}]\n"
    seen = spec_of(tmp_path, required=required).requirement_records()[0]
    audited = LEAST.replace("path: train.csv", "path: train.csv, columns: {sex: {role: audit}}")
    kept = spec_of(tmp_path, base=audited, required=required).requirement_records()[0]
    assert (seen.needs_labels, kept.needs_labels) == (False, True)
    assert kept.stages[Stage.ROLLOUT].population == "labelled requests"
