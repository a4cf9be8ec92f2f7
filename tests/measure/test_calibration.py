"""Fitting probabilities, against scipy's minimiser and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, special
from sklearn.calibration import _sigmoid_calibration

from modelyard.core.arrays import Floats, Ints
from modelyard.errors import DataError
from modelyard.measure.calibration import fit_platt, fit_temperature
from modelyard.measure.probability import log_loss


def _margins(rows: int, *, slope: float, intercept: float, seed: int = 0) -> tuple[Floats, Ints]:
    """Margins z whose positives come with sigmoid(slope * z + intercept)."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.normal(size=rows)
    return z, (rng.random(rows) < special.expit(slope * z + intercept)).astype(np.int64)


def test_platt_finds_the_sigmoid_that_drew_the_labels() -> None:
    z, y = _margins(20_000, slope=0.5, intercept=-0.7)
    fit = fit_platt(z, y)
    assert fit.fitted
    assert fit.slope == pytest.approx(0.5, abs=0.03)
    assert fit.intercept == pytest.approx(-0.7, abs=0.05)


@pytest.mark.parametrize("weighted", [False, True])
def test_platt_agrees_with_scikit_learn(weighted: bool) -> None:
    z, y = _margins(500, slope=1.7, intercept=0.4)
    weights = np.random.default_rng(0).random(500) if weighted else None
    if weights is not None:
        weights = weights / weights.mean()
    a, b = _sigmoid_calibration(z, y, weights)
    fit = fit_platt(z, y, weights)
    assert (fit.slope, fit.intercept) == pytest.approx((-a, -b), rel=1e-3)


def test_platt_of_separable_rows_is_finite() -> None:
    z = np.concatenate([np.linspace(-3, -1, 50), np.linspace(1, 3, 50)])
    fit = fit_platt(z, (z > 0).astype(np.int64))
    assert fit.fitted
    assert 1 < fit.slope < 100


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_platt_follows_the_scale_of_the_margins(scale: float) -> None:
    z, y = _margins(2000, slope=1.0, intercept=0.2)
    assert fit_platt(z * scale, y).slope * scale == pytest.approx(fit_platt(z, y).slope, rel=1e-6)


def test_margins_that_rank_the_wrong_way_are_left_alone() -> None:
    z, y = _margins(500, slope=-1.0, intercept=0.0)
    fit = fit_platt(z, y)
    assert (fit.slope, fit.intercept, fit.fitted) == (1.0, 0.0, False)
    assert "do not go with" in fit.reason


@pytest.mark.parametrize(
    ("z", "y", "words"),
    [
        (np.linspace(-1, 1, 20), np.arange(20) % 2, "20 rows are too few"),
        (np.linspace(-1, 1, 80), np.zeros(80, dtype=np.int64), "one class only"),
        (np.linspace(-1, 1, 80), (np.arange(80) < 5).astype(np.int64), "the rarer class has 5 rows"),
        (np.zeros(80), np.arange(80) % 2, "all margins are equal"),
    ],
)
def test_rows_that_cannot_carry_a_fit_leave_the_identity(z: Floats, y: Ints, words: str) -> None:
    fit = fit_platt(z, y)
    assert (fit.slope, fit.intercept, fit.fitted) == (1.0, 0.0, False)
    assert words in fit.reason


def _classes(rows: int, temperature: float) -> tuple[Floats, Ints]:
    rng = np.random.default_rng(1)
    logits = 2 * rng.normal(size=(rows, 4))
    drawn = [rng.choice(4, p=p) for p in special.softmax(logits / temperature, axis=1)]
    return logits, np.array(drawn, dtype=np.int64)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_is_found_again(temperature: float) -> None:
    logits, y = _classes(4000, temperature)
    fit = fit_temperature(logits, y)
    assert fit.fitted
    assert fit.temperature == pytest.approx(temperature, rel=0.08)
    assert fit.intercept == 0.0


def test_temperature_is_the_least_log_loss_that_scipy_finds() -> None:
    logits, y = _classes(1000, 2.0)

    def loss(slope: float) -> float:
        value = log_loss(y, special.softmax(slope * logits, axis=1))
        assert value is not None
        return value

    least = optimize.minimize_scalar(loss, bounds=(0.01, 10), method="bounded")
    fit = fit_temperature(logits, y)
    assert fit.slope == pytest.approx(least.x, rel=0.02)  # the targets are smoothed by one row in a thousand
    assert loss(fit.slope) == pytest.approx(least.fun, abs=1e-4)


def test_the_temperature_of_separable_rows_is_finite() -> None:
    y = np.arange(120) % 3
    fit = fit_temperature(4.0 * np.eye(3)[y] + 0.01 * np.random.default_rng(0).normal(size=(120, 3)), y)
    assert fit.fitted
    assert 0.1 < fit.slope < 100


def test_margins_that_know_nothing_have_no_temperature() -> None:
    rng = np.random.default_rng(0)
    logits, y = rng.normal(size=(2000, 3)), rng.integers(0, 3, 2000)
    logits[np.arange(2000), y] -= 0.5
    fit = fit_temperature(logits, y)
    assert (fit.slope, fit.fitted) == (1.0, False)


def test_few_rows_leave_the_temperature_alone() -> None:
    fit = fit_temperature(np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 3)
    assert (fit.temperature, fit.fitted) == (1.0, False)
    assert "too few" in fit.reason


def test_infinite_margins_are_refused() -> None:
    with pytest.raises(DataError, match="infinite"):
        fit_platt(np.array([np.inf, 0.0]), np.array([1, 0]))


def test_margins_and_labels_of_other_rows_are_refused() -> None:
    with pytest.raises(DataError, match="same rows"):
        fit_platt(np.array([1.0, 0.0]), np.array([1]))
