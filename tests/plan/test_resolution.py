"""Projections against simulation and textbook figures."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace
from sklearn.metrics import roc_auc_score

from modelyard.core.contract import Part, Prepared
from modelyard.core.requirement import Direction, Requirement
from modelyard.plan.resolution import area_deviation, half_width, positive_share
from tests.release.samples import binary, regression


def requirement(metric: str, bound: float) -> Requirement:
    return Requirement(id=metric, metric=metric, direction=Direction.AT_LEAST, bound=bound)


def prepared(rows: int) -> Prepared:
    sample = binary().prepared
    return replace(sample, rows={**sample.rows, Part.TEST: rows})


def test_the_deviation_of_an_area_is_that_of_hanley_and_mcneil() -> None:
    # 58 normal and 51 abnormal cases with an area of 0.893 give 0.032 in the paper's example.
    assert area_deviation(0.893, 51, 58) == pytest.approx(0.032, abs=0.001)


def test_the_deviation_of_an_area_is_what_many_samples_show() -> None:
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(300):
        scores = np.concatenate([rng.exponential(1.0, 200), rng.exponential(5.0, 100)])
        areas.append(roc_auc_score(np.repeat([0, 1], [200, 100]), scores))
    assert area_deviation(float(np.mean(areas)), 100, 200) == pytest.approx(float(np.std(areas)), rel=0.2)


def test_a_share_resolves_as_the_normal_approximation_says() -> None:
    assert half_width(requirement("accuracy", 0.9), prepared(1000)) == pytest.approx(
        1.96 * (0.09 / 1000) ** 0.5, rel=1e-3
    )


def test_four_times_the_rows_resolve_twice_as_finely() -> None:
    few, many = (half_width(requirement("accuracy", 0.8), prepared(rows)) for rows in (500, 2000))
    assert few is not None and many is not None and few == pytest.approx(2 * many)


def test_recall_is_resolved_by_the_positive_rows_alone() -> None:
    table = prepared(1000)
    share = positive_share(table)
    width = half_width(requirement("recall", 0.8), table)
    assert 0 < share < 1
    assert width == pytest.approx(1.96 * (0.16 / (1000 * share)) ** 0.5, rel=1e-3)


def test_what_cannot_be_told_beforehand_is_not_guessed() -> None:
    assert half_width(requirement("r2", 0.9), regression().prepared) is None
    assert half_width(requirement("accuracy", 0.9), prepared(1)) is None
