"""Intervals: what they are made of, how they behave at the edges, how fast."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from modelyard.core.metrics import METRICS, Needs, Task
from modelyard.core.requirement import Observation, Slice
from modelyard.errors import DataError
from modelyard.measure.exact import proportion_interval, wilson_interval
from modelyard.measure.intervals import observe, observe_all, paired_difference
from modelyard.measure.outcome import Outcome
from modelyard.measure.resample import weightings
from tests.measure.outcomes import answered, binary, multiclass, regression

BINARY = [m.name for m in METRICS.values() if m.needs in (Needs.PROBABILITIES, Needs.LABELS) and Task.BINARY in m.tasks]


def _seen(name: str, outcome: Outcome, *, seed: int = 0, resamples: int = 400) -> Observation:
    return observe(name, outcome, confidence=0.95, rng=np.random.default_rng(seed), resamples=resamples)


def _edges(observation: Observation) -> tuple[float, float]:
    assert observation.low is not None
    assert observation.high is not None
    return observation.low, observation.high


@pytest.mark.parametrize(("hits", "trials"), [(0, 12), (12, 12), (5, 40), (399, 400)])
def test_exact_proportions_agree_with_scipy(hits: int, trials: int) -> None:
    exact = stats.binomtest(hits, trials).proportion_ci(0.9, method="exact")
    assert proportion_interval(hits, trials, 0.9) == pytest.approx((exact.low, exact.high), abs=1e-9)


@pytest.mark.parametrize(("hits", "trials"), [(0, 12), (12, 12), (5, 40)])
def test_wilson_intervals_agree_with_scipy(hits: int, trials: int) -> None:
    theirs = stats.binomtest(hits, trials).proportion_ci(0.9, method="wilson")
    low, high = wilson_interval(np.array([float(hits)]), np.array([float(trials)]), 0.9)
    assert (low[0], high[0]) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@pytest.mark.parametrize("name", BINARY)
def test_the_interval_holds_the_value_and_says_how_it_was_made(name: str) -> None:
    seen = _seen(name, binary(500))
    low, high = _edges(seen)
    assert seen.value is not None
    assert low < seen.value < high
    assert "exact" in seen.method or "400 resamples" in seen.method
    assert seen.unit == METRICS[name].unit


def test_the_bootstrap_of_the_auc_agrees_with_scipy_bootstrap() -> None:
    outcome = binary(300)
    assert outcome.probabilities is not None

    def area(scores: np.ndarray, labels: np.ndarray) -> float:
        ours, theirs = scores[labels == 1], scores[labels == 0]
        return float(stats.mannwhitneyu(ours, theirs).statistic / (len(ours) * len(theirs)))

    data = (outcome.probabilities[:, 1], outcome.y_true)
    theirs = stats.bootstrap(
        data, area, paired=True, vectorized=False, n_resamples=1500, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert _edges(_seen("roc_auc", outcome, resamples=4000)) == pytest.approx((theirs.low, theirs.high), abs=0.006)


def test_all_at_once_gives_what_one_by_one_gives() -> None:
    outcome = binary(300)
    names = ("roc_auc", "log_loss", "average_precision")
    together = observe_all(names, outcome, confidence=0.95, rng=np.random.default_rng(7), resamples=200)
    alone = tuple(observe(n, outcome, confidence=0.95, rng=np.random.default_rng(7), resamples=200) for n in names)
    assert together == alone


def test_the_same_seed_gives_the_same_interval() -> None:
    assert _seen("f1", binary(200), seed=3) == _seen("f1", binary(200), seed=3)


def test_blocks_do_not_change_how_many_resamples_there_are() -> None:
    blocks = list(weightings(binary(3000), np.random.default_rng(0), 1000))
    assert len(blocks) > 1
    assert sum(len(block) for block in blocks) == 1000
    assert all((block.sum(axis=1) == 3000).all() for block in blocks)


def test_clusters_are_drawn_whole() -> None:
    clusters = np.repeat(np.arange(20), 5)
    outcome = binary(100, clusters=clusters)
    block = next(iter(weightings(outcome, np.random.default_rng(0), 50)))
    by_cluster = block.reshape(50, 20, 5)
    assert (by_cluster == by_cluster[:, :, :1]).all()


def test_an_interval_of_clustered_rows_is_as_wide_as_that_of_the_clusters() -> None:
    alone = binary(60, shift=1.0)
    tenfold = alone.take(np.repeat(np.arange(60), 10))
    clustered = Outcome(
        task=Task.BINARY,
        classes=2,
        y_true=tenfold.y_true,
        labels=tenfold.labels,
        clusters=np.repeat(np.arange(60), 10),
    )
    low, high = _edges(_seen("accuracy", clustered, resamples=4000))
    exact_low, exact_high = _edges(_seen("accuracy", alone))
    naive_low, naive_high = _edges(_seen("accuracy", tenfold))
    assert high - low > 2 * (naive_high - naive_low)
    assert high - low == pytest.approx(exact_high - exact_low, rel=0.15)


def test_equal_weights_change_nothing_but_the_method() -> None:
    plain, weighted = binary(400), binary(400, weights=np.full(400, 2.5))
    assert _edges(_seen("log_loss", weighted)) == pytest.approx(_edges(_seen("log_loss", plain)), abs=1e-12)
    assert _seen("log_loss", weighted).method.endswith("rows weighted")
    assert _edges(_seen("recall", weighted, resamples=4000)) == pytest.approx(_edges(_seen("recall", plain)), abs=0.02)


@pytest.mark.parametrize("name", ["accuracy", "recall", "precision", "f1", "balanced_accuracy"])
def test_no_wrong_answer_in_forty_rows_is_not_taken_for_certainty(name: str) -> None:
    y = [0, 1] * 20
    low, high = _edges(_seen(name, answered(y, y)))
    assert high == 1.0
    assert 0.80 < low < 0.97


def test_no_wrong_answer_among_many_classes_is_not_taken_for_certainty() -> None:
    y = np.arange(200) % 20
    outcome = Outcome(task=Task.MULTICLASS, classes=20, y_true=y, labels=y)
    low, high = _edges(_seen("recall", outcome))
    assert (0.96 < low < 0.998, high) == (True, 1.0)


def test_perfect_ranking_keeps_the_edge_that_the_rarer_class_cannot_exclude() -> None:
    p = np.concatenate([np.linspace(0.1, 0.4, 80), np.linspace(0.6, 0.9, 20)])
    outcome = Outcome(
        task=Task.BINARY, classes=2, y_true=(p > 0.5).astype(np.int64), probabilities=np.column_stack([1 - p, p])
    )
    seen = _seen("roc_auc", outcome)
    assert _edges(seen) == pytest.approx((0.025 ** (1 / 20), 1.0))
    assert "what the rows cannot exclude" in seen.method


def test_no_loss_at_all_keeps_an_upper_edge() -> None:
    y = np.array([0, 1] * 50)
    outcome = Outcome(task=Task.BINARY, classes=2, y_true=y, probabilities=np.eye(2)[y])
    low, high = _edges(_seen("brier_loss", outcome))
    assert (low, high) == pytest.approx((0.0, 1 - 0.025 ** (1 / 100)))


def test_equal_groups_have_a_gap_whose_interval_reaches_zero() -> None:
    outcome = answered([1] * 200, [0, 0, 1, 1] * 50, groups=["a", "b"] * 100)
    low, high = _edges(_seen("demographic_parity_difference", outcome))
    assert low == 0.0
    assert 0.05 < high < 0.25


def test_groups_without_a_positive_answer_are_not_taken_for_equal_for_certain() -> None:
    outcome = answered([0, 1] * 40, [0] * 80, groups=["a", "a", "b", "b"] * 20)
    low, high = _edges(_seen("demographic_parity_difference", outcome))
    assert low == 0.0
    assert high > 0.03


def test_samples_count_the_rows_behind_the_number() -> None:
    outcome = answered([1, 1, 1, 0, 0, 0], [1, 0, 0, 1, 0, 0], groups=["a", "a", "b", "b", "b", None])
    counted = {
        n: _seen(n, outcome).samples for n in ("accuracy", "recall", "precision", "equal_opportunity_difference")
    }
    assert counted == {"accuracy": 6, "recall": 3, "precision": 2, "equal_opportunity_difference": 1}


def test_few_rows_have_a_value_but_no_interval() -> None:
    seen = _seen("log_loss", binary(7))
    assert seen.value is not None
    assert (seen.low, seen.high) == (None, None)
    assert "7 rows are too few" in seen.method


def test_few_positives_have_no_interval_of_the_auc() -> None:
    outcome = binary(300, share=0.01, seed=4)
    seen = _seen("roc_auc", outcome)
    assert seen.low is None
    assert "rows of the rarer class" in seen.method


def test_what_is_undefined_is_observed_as_such() -> None:
    seen = _seen("recall", answered([0] * 40, [0] * 40))
    assert (seen.value, seen.low, seen.high, seen.samples) == (None, None, None, 0)
    assert seen.method == "undefined: no row is positive"


def test_slice_and_group_are_written_on_the_observation() -> None:
    where = Slice(column="sex", value="Female")
    rng = np.random.default_rng(0)
    seen = observe("accuracy", binary(50), confidence=0.9, rng=rng, slice=where, group="race")
    assert (seen.slice, seen.group, seen.confidence) == (where, "race", 0.9)


def test_a_paired_difference_is_narrower_than_the_two_intervals_allow() -> None:
    a = binary(400)
    assert a.probabilities is not None
    p = np.clip(a.probabilities[:, 1] ** 1.02 + 0.01 * np.random.default_rng(1).normal(size=400), 0, 1)
    b = Outcome(task=Task.BINARY, classes=2, y_true=a.y_true, probabilities=np.column_stack([1 - p, p]))
    rng = np.random.default_rng(0)
    low, high = _edges(paired_difference("roc_auc", a, b, confidence=0.95, rng=rng, resamples=400))
    one_low, one_high = _edges(_seen("roc_auc", a))
    assert high - low < 0.3 * (one_high - one_low)
    assert low < 0.005
    assert high > -0.005


def test_a_paired_difference_has_the_sign_of_a_less_b() -> None:
    better, worse = regression(200, noise=0.5), regression(200, noise=2.0)
    seen = paired_difference("rmse", better, worse, confidence=0.95, rng=np.random.default_rng(0), resamples=200)
    assert seen.value is not None
    assert _edges(seen)[1] < 0


def test_a_paired_difference_of_other_rows_is_refused() -> None:
    with pytest.raises(DataError, match="same rows"):
        paired_difference("accuracy", binary(50), binary(50, seed=1), confidence=0.9, rng=np.random.default_rng(0))


def test_a_paired_difference_with_an_undefined_side_is_undefined() -> None:
    y = [0, 1] * 20
    seen = paired_difference(
        "precision", answered(y, y), answered(y, [0] * 40), confidence=0.95, rng=np.random.default_rng(0)
    )
    assert seen.value is None
    assert "no answer is positive" in seen.method


@pytest.mark.parametrize("name", ["roc_auc", "brier_loss", "f1"])
def test_many_classes_have_intervals_too(name: str) -> None:
    low, high = _edges(_seen(name, multiclass(300, 12), resamples=100))
    assert low < high


def test_rows_without_a_cluster_are_independent_rows() -> None:
    clusters = np.array(["a", None, "a", None, "b"], dtype=object)
    count, numbers = binary(5, clusters=clusters).units()
    assert count == 4
    assert numbers.tolist() == [0, 1, 0, 2, 3]


def test_rows_of_weight_zero_do_not_move_the_interval() -> None:
    outcome = regression(400)
    values = np.asarray(outcome.values) + np.where(np.arange(400) < 200, 0.0, 50.0)
    halved = Outcome(
        task=Task.REGRESSION, y_true=outcome.y_true, values=values, weights=(np.arange(400) < 200).astype(np.float64)
    )
    half = _edges(_seen("rmse", outcome.take(slice(0, 200)), resamples=2000))
    assert _edges(_seen("rmse", halved, resamples=2000)) == pytest.approx(half, abs=0.02)


@pytest.mark.parametrize("weight", [0.01, 100.0])
def test_the_doubt_of_a_row_is_as_heavy_as_the_row(weight: float) -> None:
    y = np.array([0, 1] * 20)
    outcome = Outcome(task=Task.BINARY, classes=2, y_true=y, labels=y, weights=np.full(40, weight))
    low, high = _edges(_seen("accuracy", outcome))
    assert 0.88 < low < 0.97
    assert high == 1.0


def test_a_metric_undefined_in_many_resamples_has_no_interval() -> None:
    y = np.array([1, 1] + [0] * 98)
    outcome = Outcome(task=Task.BINARY, classes=2, y_true=y, labels=y, weights=np.linspace(0.9, 1.1, 100))
    seen = _seen("recall", outcome)
    assert (seen.value, seen.low, seen.high) == (1.0, None, None)
    assert "no interval: it is undefined in" in seen.method
