"""Metrics of the order that probabilities give the rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelyard.core.arrays import Floats, Ints
from modelyard.measure.statistic import first, only


def roc_auc(y_true: Ints, probabilities: Floats, weights: Floats | None = None) -> float | None:
    """Return the chance that a positive ranks above a negative, ties counting half.

    Args:
        y_true: (n,) class numbers.
        probabilities: (n, classes); for two classes the second column ranks; for more, each class
            is set against the rest and the results are weighted by the class's share of rows.
    Returns: a share; None where the rows have one class only.
    Source: Hanley and McNeil, 1982, "The meaning and use of the area under a ROC curve".

    >>> roc_auc(np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.9, 0.1]]))
    0.75
    """
    return only(RocAuc.of(y_true, probabilities), weights, len(y_true))


def average_precision(y_true: Ints, probabilities: Floats, weights: Floats | None = None) -> float | None:
    """Return the area under precision over recall, in steps, for the positive class.

    Args:
        y_true: (n,) 0 or 1.
        probabilities: (n, 2).
    Returns: a share; None where no row is positive.
    Source: Manning et al., 2008, "Introduction to Information Retrieval", section 8.4.

    >>> round(average_precision(np.array([0, 1]), np.array([[0.4, 0.6], [0.2, 0.8]])), 3)
    1.0
    """
    return only(AveragePrecision(Ranks.of(y_true == 1, probabilities[:, 1])), weights, len(y_true))


@dataclass(frozen=True)
class Ranks:
    """Positives and negatives sorted by score, and where each positive falls among the rest."""

    positives: Ints  # rows, lowest score first
    negatives: Ints
    below: Ints  # for each positive: negatives with a lower score
    upto: Ints  # for each positive: negatives with a lower or equal score
    before: Ints  # for each positive: positives with a lower score

    @staticmethod
    def of(is_positive: np.ndarray, scores: Floats) -> Ranks:
        order = np.argsort(scores, kind="stable")
        hit = is_positive[order]
        positives, negatives = order[hit], order[~hit]
        theirs, ours = scores[negatives], scores[positives]
        return Ranks(
            positives=positives,
            negatives=negatives,
            below=np.searchsorted(theirs, ours, side="left"),
            upto=np.searchsorted(theirs, ours, side="right"),
            before=np.searchsorted(ours, ours, side="left"),
        )


@dataclass(frozen=True)
class RocAuc:
    """The area of one class against the rest, or the weighted mean over several."""

    ranks: tuple[Ranks, ...]
    is_gap: bool = False

    @staticmethod
    def of(y_true: Ints, probabilities: Floats) -> RocAuc:
        if probabilities.shape[1] == 2:
            return RocAuc((Ranks.of(y_true == 1, probabilities[:, 1]),))
        present = np.unique(y_true)
        return RocAuc(tuple(Ranks.of(y_true == each, probabilities[:, each]) for each in present))

    def parts(self, weights: Floats, rng: np.random.Generator | None = None) -> Floats:
        if len(self.ranks) == 1:
            return _area(self.ranks[0], weights)[0][:, None]
        total, share = np.zeros(len(weights)), np.zeros(len(weights))
        for ranks in self.ranks:
            area, positive = _area(ranks, weights)
            total += np.where(positive > 0, area * positive, 0.0)
            share += positive
        with np.errstate(invalid="ignore"):
            return (total / share)[:, None]

    def value(self, parts: Floats) -> Floats:
        return first(parts)


@dataclass(frozen=True)
class AveragePrecision:
    """Precision at each distinct score, weighted by the recall gained there."""

    ranks: Ranks
    is_gap: bool = False

    def parts(self, weights: Floats, rng: np.random.Generator | None = None) -> Floats:
        ranks = self.ranks
        ours = np.take(weights, ranks.positives, axis=1)
        found, theirs = _cumulate(ours), _cumulate(np.take(weights, ranks.negatives, axis=1))
        true = found[:, -1:] - np.take(found, ranks.before, axis=1)
        false = theirs[:, -1:] - np.take(theirs, ranks.below, axis=1)
        precision = np.divide(true, true + false, out=np.zeros_like(true), where=true + false > 0)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.einsum("ij,ij->i", ours, precision)[:, None] / found[:, -1:])

    def value(self, parts: Floats) -> Floats:
        return first(parts)


def _area(ranks: Ranks, weights: Floats) -> tuple[Floats, Floats]:
    """Return (b,) areas, NaN where a side is empty, and (b,) weights of the positives."""
    ours = np.take(weights, ranks.positives, axis=1)
    theirs = _cumulate(np.take(weights, ranks.negatives, axis=1))
    beaten = np.take(theirs, ranks.below, axis=1)
    beaten += np.take(theirs, ranks.upto, axis=1)
    positive = ours.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.einsum("ij,ij->i", ours, beaten) / (2 * positive * theirs[:, -1]), positive


def _cumulate(weights: Floats) -> Floats:
    """Return (b, n + 1) running sums along the rows, beginning with 0."""
    sums = np.zeros((len(weights), weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums
