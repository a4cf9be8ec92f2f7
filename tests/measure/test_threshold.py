"""Choosing a decision threshold, against a search through every cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from modelyard.core.arrays import Floats, Ints
from modelyard.core.requirement import Direction
from modelyard.errors import DataError, EmptyData, UnknownName
from modelyard.measure.cuts import CUT_METRICS, Cuts
from modelyard.measure.exact import proportion_interval
from modelyard.measure.scores import score
from modelyard.measure.threshold import choose_threshold
from tests.measure.outcomes import answered, binary

AT_LEAST, AT_MOST = Direction.AT_LEAST, Direction.AT_MOST
SECOND = {
    "accuracy": sk.accuracy_score,
    "balanced_accuracy": sk.balanced_accuracy_score,
    "precision": sk.precision_score,
    "recall": sk.recall_score,
    "f1": sk.f1_score,
}


def _rows(rows: int, seed: int = 0, share: float = 0.3) -> tuple[Floats, Ints]:
    outcome = binary(rows, seed=seed, share=share)
    assert outcome.probabilities is not None
    return outcome.probabilities[:, 1], outcome.y_true


def test_recall_is_kept_at_the_best_precision_that_any_cut_has() -> None:
    p, y = _rows(500)
    choice = choose_threshold(p, y, maximise="precision", subject_to=[("recall", AT_LEAST, 0.8)])
    every = np.append(np.unique(p), 1.0)
    reached = [sk.precision_score(y, p >= t, zero_division=0) for t in every if sk.recall_score(y, p >= t) >= 0.8]
    assert choice.feasible
    assert choice.expected["precision"] == pytest.approx(max(reached))
    assert sk.recall_score(y, p >= choice.threshold) >= 0.8
    assert "recall at least 0.8" in choice.reason


@pytest.mark.parametrize("name", CUT_METRICS)
def test_no_cut_is_better_than_the_one_chosen(name: str) -> None:
    p, y = _rows(300, seed=2)
    choice = choose_threshold(p, y, maximise=name)
    best = max(SECOND[name](y, p >= t) for t in np.unique(p))
    assert choice.expected[name] == pytest.approx(best)


def test_what_is_expected_is_what_scikit_learn_counts_at_the_threshold() -> None:
    p, y = _rows(400, seed=3)
    weights = np.random.default_rng(0).random(400)
    choice = choose_threshold(p, y, maximise="f1", weights=weights)
    counted = {name: second(y, p >= choice.threshold, sample_weight=weights) for name, second in SECOND.items()}
    assert choice.expected == pytest.approx(counted)


def test_costs_choose_the_cheapest_cut() -> None:
    p, y = _rows(500, seed=4)
    choice = choose_threshold(p, y, costs=(1.0, 5.0))
    cost = [(((p >= t) & (y == 0)).sum() + 5 * ((p < t) & (y == 1)).sum()) / 500 for t in np.append(np.unique(p), 2.0)]
    assert choice.expected["cost"] == pytest.approx(min(cost))
    assert choice.threshold < 0.5


def test_costs_of_calibrated_probabilities_lead_near_the_textbook_threshold() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(200_000)
    y = (rng.random(200_000) < p).astype(np.int64)
    assert choose_threshold(p, y, costs=(1.0, 4.0)).threshold == pytest.approx(0.2, abs=0.03)


scores_in_ties = st.lists(st.tuples(st.integers(0, 8).map(lambda i: i / 8), st.booleans()), min_size=1, max_size=40)


@settings(max_examples=60)
@given(rows=scores_in_ties, bound=st.floats(0, 1))
def test_the_choice_holds_for_any_scores_and_ties(rows: list[tuple[float, bool]], bound: float) -> None:
    p, y = np.array([s for s, _ in rows]), np.array([int(hit) for _, hit in rows])
    choice = choose_threshold(p, y, maximise="accuracy", subject_to=[("recall", AT_LEAST, bound)])
    recalls = [float((p[y == 1] >= t).mean()) if y.any() else -1.0 for t in np.append(np.unique(p), 2.0)]
    assert choice.feasible == (max(recalls) >= bound - 1e-12)
    assert choice.threshold == float(np.float32(choice.threshold))
    assert np.abs(p - choice.threshold).min() > 1e-8 or choice.threshold == 0.0
    assert choice.expected["accuracy"] == pytest.approx(float(((p >= choice.threshold) == y).mean()))
    assert choice.feasible or choice.reason.startswith("No threshold keeps")


def test_a_threshold_stays_clear_of_every_score() -> None:
    p = np.array([0.1, 0.3, 0.5, 0.500001, 0.7])
    cuts = Cuts.of(p, np.array([0, 0, 0, 1, 1]), None)
    assert cuts.thresholds == pytest.approx([0.85, 0.6, 0.4, 0.2, 0.05])
    choice = choose_threshold(p, np.array([0, 0, 0, 1, 1]), maximise="accuracy")
    assert choice.threshold in (pytest.approx(0.6), pytest.approx(0.4))


def test_rare_events_keep_their_cuts_though_scores_lie_close() -> None:
    p, y = np.linspace(1e-4, 5e-3, 2000), np.repeat([0, 1], 1000)
    choice = choose_threshold(p, y, maximise="accuracy")
    assert choice.expected["accuracy"] == 1.0


def test_many_rows_whose_scores_lie_close_still_reach_the_best_cut() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(300_000)
    y = (rng.random(300_000) < p).astype(np.int64)
    choice = choose_threshold(p, y, maximise="f1")
    best = (1 - 0.381966**2) / (1.5 - 0.381966)  # of uniform calibrated scores, where t * t - 3 * t + 1 = 0
    assert choice.expected["f1"] == pytest.approx(best, abs=0.003)
    assert np.abs(p - choice.threshold).min() > 1e-6


def test_among_equals_the_cut_farthest_from_any_score_wins() -> None:
    p, y = np.array([0.1, 0.6, 0.65, 0.9]), np.array([0, 0, 1, 1])
    assert choose_threshold(p, y, maximise="recall").threshold == pytest.approx(0.35)


def test_one_score_for_all_leaves_all_or_none() -> None:
    p, y = np.full(50, 0.24), np.repeat([0, 1], [38, 12])
    assert choose_threshold(p, y, maximise="accuracy").expected["recall"] == 0.0
    assert choose_threshold(p, y, maximise="recall").expected["recall"] == 1.0


def test_what_cannot_be_kept_is_said_and_come_nearest_to() -> None:
    p, y = _rows(400, seed=5)
    wanted = [("recall", AT_LEAST, 0.95), ("precision", AT_LEAST, 0.95)]
    choice = choose_threshold(p, y, maximise="accuracy", subject_to=wanted)
    assert not choice.feasible
    assert choice.reason.startswith("No threshold keeps recall at least 0.95 and precision at least 0.95")
    gaps = [
        max(0.95 - sk.recall_score(y, p >= t), 0.95 - sk.precision_score(y, p >= t, zero_division=0))
        for t in np.unique(p)
    ]
    expected = choice.expected
    assert expected["recall"] is not None
    assert expected["precision"] is not None
    assert max(0.95 - expected["recall"], 0.95 - expected["precision"]) == pytest.approx(min(gaps))


def test_an_upper_bound_is_kept_too() -> None:
    p, y = _rows(400, seed=6)
    choice = choose_threshold(p, y, maximise="f1", subject_to=[("recall", AT_MOST, 0.5)])
    assert choice.feasible
    assert choice.expected["recall"] is not None
    assert choice.expected["recall"] <= 0.5


def test_room_left_on_validation_rows_makes_the_test_rows_pass() -> None:
    passed = 0
    for seed in range(60):
        p, y = _rows(4000, seed=seed)
        choice = choose_threshold(
            p[:1500],
            y[:1500],
            maximise="precision",
            subject_to=[("recall", AT_LEAST, 0.8)],
            confidence=0.95,
            judged_rows=2500,
        )
        found = (p[1500:] >= choice.threshold)[y[1500:] == 1]
        passed += proportion_interval(int(found.sum()), len(found), 0.95)[0] >= 0.8
    assert passed >= 48


def test_without_room_enough_the_nearest_is_taken_and_said() -> None:
    p, y = _rows(120, seed=7)
    choice = choose_threshold(
        p, y, maximise="recall", subject_to=[("precision", AT_LEAST, 0.7)], confidence=0.99, judged_rows=40
    )
    assert choice.feasible
    assert "without the room" in choice.reason


@pytest.mark.parametrize("name", CUT_METRICS)
def test_standard_errors_agree_with_simulation(name: str) -> None:
    p, y = _rows(2000, seed=8)
    cuts = Cuts.of(p, y, None)
    at = int(np.searchsorted(-cuts.thresholds, -0.5))
    labels = p >= cuts.thresholds[at]
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, 2000, 2000) for _ in range(400)]
    scored = [score(name, answered(list(y[rows]), list(labels[rows].astype(int)))) for rows in drawn]
    simulated = float(np.std([value for value in scored if value is not None]))
    assert cuts.standard_error(name, 2000)[at] == pytest.approx(simulated, rel=0.12)


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(UnknownName, match="roc_auc"):
        choose_threshold(np.array([0.5]), np.array([1]), maximise="roc_auc")


def test_no_rows_are_refused() -> None:
    with pytest.raises(EmptyData):
        choose_threshold(np.array([]), np.array([], dtype=np.int64))


@pytest.mark.parametrize(
    ("p", "y", "w"),
    [([0.5, np.nan], [0, 1], None), ([0.5, 1.5], [0, 1], None), ([0.5], [0, 1], None), ([0.5, 0.6], [0, 1], [0, 0])],
)
def test_rows_that_cannot_be_used_are_refused(p: list[float], y: list[int], w: list[float] | None) -> None:
    weights = None if w is None else np.array(w, dtype=np.float64)
    with pytest.raises(DataError):
        choose_threshold(np.array(p), np.array(y), weights=weights)


def test_costs_below_zero_are_refused() -> None:
    with pytest.raises(DataError, match="wanted both"):
        choose_threshold(np.array([0.5]), np.array([1]), costs=(-1.0, 2.0))
