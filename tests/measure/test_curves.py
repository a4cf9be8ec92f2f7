"""Curves, tables and histograms, against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from modelyard.core.evidence import Curve
from modelyard.core.metrics import Task
from modelyard.errors import DataError
from modelyard.measure import curves
from modelyard.measure.outcome import Outcome
from tests.measure.outcomes import answered, binary, multiclass, regression


def _area(curve: Curve) -> float:
    return float(np.trapezoid(curve.y, curve.x))


def test_the_roc_curve_has_scikit_learns_points() -> None:
    outcome = binary(300, ties=True)
    assert outcome.probabilities is not None
    (curve,) = curves.roc_curves(outcome, ("no", "yes"))
    x, y, _ = sk.roc_curve(outcome.y_true, outcome.probabilities[:, 1], drop_intermediate=False)
    assert curve.x == pytest.approx(tuple(x))
    assert curve.y == pytest.approx(tuple(y))


def test_the_precision_recall_curve_has_scikit_learns_points() -> None:
    outcome = binary(300, ties=True)
    assert outcome.probabilities is not None
    (curve,) = curves.precision_recall_curves(outcome, ("no", "yes"))
    precision, recall, _ = sk.precision_recall_curve(outcome.y_true, outcome.probabilities[:, 1])
    assert curve.x[1:] == pytest.approx(tuple(recall[::-1][1:]))
    assert curve.y[1:] == pytest.approx(tuple(precision[::-1][1:]))


def test_a_thinned_curve_keeps_its_ends_its_area_and_the_bound() -> None:
    outcome = binary(20_000)
    assert outcome.probabilities is not None
    (curve,) = curves.roc_curves(outcome, ("no", "yes"))
    assert len(curve.x) <= 500
    assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)
    assert _area(curve) == pytest.approx(sk.roc_auc_score(outcome.y_true, outcome.probabilities[:, 1]), abs=1e-3)


def test_each_of_many_classes_has_a_curve_unless_it_has_no_rows() -> None:
    outcome = multiclass(400, 5)
    without = outcome.take(outcome.y_true != 2)
    assert [curve.series for curve in curves.roc_curves(without, tuple("abcde"))] == ["a", "b", "d", "e"]


def test_one_class_has_no_curve() -> None:
    assert curves.roc_curves(binary(50, share=0.0), ("no", "yes")) == ()


def test_calibration_bins_hold_equal_mass_and_an_interval_around_each_share() -> None:
    share, low, high = curves.calibration_curves(binary(3000))
    assert [each.series for each in (share, low, high)] == ["", "low", "high"]
    assert share.weight == pytest.approx([200.0] * 15)
    assert all(a <= b <= c for a, b, c in zip(low.y, share.y, high.y, strict=True))
    assert all(np.diff(share.x) > 0)


def test_equal_probabilities_share_a_calibration_bin() -> None:
    share, *_ = curves.calibration_curves(binary(3000, ties=True))
    assert len(share.x) <= 11
    assert sum(share.weight) == 3000
    assert len(set(share.x)) == len(share.x)


def test_calibration_of_many_classes_is_of_the_highest_probability() -> None:
    outcome = multiclass(600, 4)
    assert outcome.labels is not None
    share, *_ = curves.calibration_curves(outcome)
    mean = float(np.average(share.y, weights=share.weight))
    assert mean == pytest.approx(float((outcome.labels == outcome.y_true).mean()))


def test_the_confusion_table_agrees_with_scikit_learn() -> None:
    outcome = multiclass(300, 4)
    table = curves.confusion(outcome, tuple("abcd"))
    assert np.array(table.counts).tolist() == sk.confusion_matrix(outcome.y_true, outcome.labels).tolist()


def test_residuals_are_truth_less_prediction() -> None:
    outcome = regression(2000, noise=0.5)
    points, low, middle, high = curves.residual_curves(outcome)
    assert len(points.x) == 500
    pairs = {(float(v), float(t - v)) for t, v in zip(outcome.y_true, np.asarray(outcome.values), strict=True)}
    assert set(zip(points.x, points.y, strict=True)) <= pairs
    assert sum(middle.weight) == 2000
    assert all(a < b < c for a, b, c in zip(low.y, middle.y, high.y, strict=True))


def test_predicted_and_actual_are_sampled_the_same_every_time() -> None:
    outcome = regression(2000)
    curve = curves.predicted_actual_curve(outcome)
    assert curve == curves.predicted_actual_curve(outcome)
    assert len(curve.x) == 500
    assert (curve.y[0], curve.y[-1]) == (outcome.y_true.min(), outcome.y_true.max())


def test_no_rows_give_no_curves() -> None:
    assert curves.calibration_curves(binary(0)) == ()
    assert curves.residual_curves(regression(0)) == ()
    assert curves.predicted_actual_curve(regression(0)).x == ()
    assert curves.roc_curves(binary(0), ("no", "yes")) == ()


def test_constant_predictions_have_one_bin_of_residuals() -> None:
    outcome = Outcome(task=Task.REGRESSION, y_true=np.arange(50.0), values=np.full(50, 24.5))
    _, _, middle, _ = curves.residual_curves(outcome)
    assert middle.weight == (50.0,)


@given(
    values=st.lists(st.floats(-1e9, 1e9) | st.just(float("nan")), max_size=60),
    bins=st.integers(1, 40),
)
def test_every_finite_value_is_counted_in_its_bin(values: list[float], bins: int) -> None:
    array = np.array(values, dtype=np.float64)
    histogram = curves.histogram(array, bins=bins)
    finite = array[np.isfinite(array)]
    if histogram is None:
        assert len(finite) == 0
        return
    assert sum(histogram.counts) == len(finite)
    assert len(histogram.edges) == bins + 1
    assert all(np.diff(histogram.edges) > 0)
    assert finite.max() < histogram.edges[-1]


def test_a_histogram_of_given_range_leaves_out_what_lies_outside() -> None:
    histogram = curves.histogram(np.array([-1.0, 0.0, 0.5, 1.0, 2.0]), bins=2, low=0.0, high=1.0)
    assert histogram is not None
    assert histogram.counts == (1, 2)


def test_a_curve_of_what_is_missing_is_refused() -> None:
    with pytest.raises(DataError, match="`probabilities`"):
        curves.roc_curves(answered([0, 1], [0, 1]), ("no", "yes"))
    with pytest.raises(DataError, match="`values`"):
        curves.residual_curves(answered([0, 1], [0, 1]))
    with pytest.raises(DataError, match="`labels`"):
        curves.confusion(regression(5), ())
