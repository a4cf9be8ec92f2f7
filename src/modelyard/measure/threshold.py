"""Choosing the decision threshold of a binary task on validation rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modelyard.core.arrays import Bools, Floats, Ints
from modelyard.core.requirement import Direction
from modelyard.errors import DataError, UnknownName
from modelyard.measure.cuts import CUT_METRICS, Cuts
from modelyard.measure.exact import normal_quantile

Constraint = tuple[str, Direction, float]
Costs = tuple[float, float]

_CHANCE = 0.8  # two-sided: nine in ten that the judged sample clears what was left room for
_TIE = 1e-12


@dataclass(frozen=True, kw_only=True)
class ThresholdChoice:
    """A threshold (positive when the probability is at least this), why, and what to expect of it."""

    threshold: float
    reason: str
    expected: dict[str, float | None]  # metrics of labels on the validation rows; "cost" where costs were given
    feasible: bool  # every constraint holds on the validation rows


def choose_threshold(
    probabilities_positive: Floats,
    labels: Ints,
    *,
    maximise: str = "f1",
    subject_to: Sequence[Constraint] = (),
    costs: Costs | None = None,
    weights: Floats | None = None,
    confidence: float | None = None,
    judged_rows: int | None = None,
) -> ThresholdChoice:
    """Choose the threshold that keeps the constraints and is best at the objective.

    Args:
        probabilities_positive: (n,) of the validation rows, in [0, 1].
        labels: (n,) 0 or 1.
        maximise: accuracy, balanced_accuracy, precision, recall or f1.
        subject_to: (metric, direction, bound) each, metrics as above.
        costs: of a false positive and of a false negative; the lowest mean cost is then sought and
            `maximise` only breaks ties.
        confidence: with it, constraints are kept with room: so that the interval at this confidence,
            on a sample of `judged_rows` other rows (as many as these, if None), clears the bound nine
            times in ten. Without it they are kept on these rows, as they are.
    Returns: a threshold halfway between two scores and representable in float32, see `Cuts.of`. Among
        equals the one farthest from any score wins. Where no threshold keeps the constraints with
        room, the one that comes nearest, and the reason says so; `feasible` is false only where they
        do not hold on these rows either.
    Raises: UnknownName for a metric not of labels; DataError, EmptyData for rows that cannot be used.
    """
    _check((maximise, *(name for name, _, _ in subject_to)), costs)
    cuts = Cuts.of(probabilities_positive, labels, weights)
    slack = _slack(cuts, subject_to)
    roomy = slack - _room(cuts, subject_to, confidence, judged_rows)
    holds, has_room = slack >= -_TIE, roomy >= -_TIE
    at = _best(cuts, _nearest(roomy, holds, has_room), maximise, costs)
    return ThresholdChoice(
        threshold=float(cuts.thresholds[at]),
        reason=_reason(cuts, at, maximise, subject_to, costs, confidence, (bool(holds[at]), bool(has_room[at]))),
        expected=_expected(cuts, at, costs),
        feasible=bool(holds[at]),
    )


def _check(names: Sequence[str], costs: Costs | None) -> None:
    for name in names:
        if name not in CUT_METRICS:
            raise UnknownName("metric of labels that a threshold can be chosen by", name, CUT_METRICS)
    if costs is not None and not (min(costs) >= 0 and max(costs) > 0 and np.isfinite(costs).all()):
        raise DataError(f"Costs of a false positive and a false negative are {costs}: wanted both >= 0, one above.")


def _slack(cuts: Cuts, subject_to: Sequence[Constraint]) -> Floats:
    """Return by how much the tightest constraint is kept at each cut (negative: missed)."""
    slack = np.full(len(cuts.thresholds), np.inf)
    for name, direction, bound in subject_to:
        slack = np.minimum(slack, _kept_by(cuts, name, direction, bound))
    return slack


def _kept_by(cuts: Cuts, name: str, direction: Direction, bound: float) -> Floats:
    seen = cuts.metric(name)
    kept = seen - bound if direction is Direction.AT_LEAST else bound - seen
    return np.where(np.isfinite(kept), kept, -np.inf)  # what is undefined keeps nothing


def _room(cuts: Cuts, subject_to: Sequence[Constraint], confidence: float | None, judged_rows: int | None) -> Floats:
    """Return the room to leave at each cut, the most that any constraint asks.

    The judged interval reaches z standard errors below its own estimate, and that estimate differs
    from the one on these rows by the errors of both samples.
    """
    room = np.zeros(len(cuts.thresholds))
    if confidence is None:
        return room
    rows = cuts.effective_rows if judged_rows is None else float(max(1, judged_rows))
    for name, _, _ in subject_to:
        here = cuts.standard_error(name, cuts.effective_rows)
        there = cuts.standard_error(name, rows)
        asked = normal_quantile(confidence) * there + normal_quantile(_CHANCE) * np.hypot(here, there)
        room = np.maximum(room, asked)
    return room


def _nearest(roomy: Floats, holds: Bools, has_room: Bools) -> Bools:
    """Return the cuts to choose among: with room, else holding and nearest to it, else nearest."""
    if has_room.any():
        return has_room
    among = holds if holds.any() else np.ones(len(roomy), dtype=np.bool_)
    nearest = float(roomy[among].max())
    return among & (roomy >= nearest - _TIE) if np.isfinite(nearest) else among


def _best(cuts: Cuts, candidates: Bools, maximise: str, costs: Costs | None) -> int:
    """Return the best candidate: lowest cost or highest metric, then the widest gap."""
    rows = np.flatnonzero(candidates)
    if costs is not None:
        cost = cuts.cost(*costs)[rows]
        rows = rows[cost <= cost.min() + _TIE * max(costs)]
    quality = np.nan_to_num(cuts.metric(maximise)[rows], nan=-1.0)
    rows = rows[quality >= quality.max() - _TIE]
    return int(rows[np.argmax(cuts.gaps[rows])])


def _expected(cuts: Cuts, at: int, costs: Costs | None) -> dict[str, float | None]:
    seen = {name: float(cuts.metric(name)[at]) for name in CUT_METRICS}
    expected = {name: value if np.isfinite(value) else None for name, value in seen.items()}
    if costs is not None:
        expected["cost"] = float(cuts.cost(*costs)[at])
    return expected


def _reason(
    cuts: Cuts,
    at: int,
    maximise: str,
    subject_to: Sequence[Constraint],
    costs: Costs | None,
    confidence: float | None,
    kept: tuple[bool, bool],
) -> str:
    aim = f"the highest {maximise}"
    if costs is not None:
        aim = f"the lowest cost at {costs[0]:g} a false positive and {costs[1]:g} a false negative"
    wanted = " and ".join(
        f"{name} {direction.value.replace('_', ' ')} {bound:g}" for name, direction, bound in subject_to
    )
    holds, has_room = kept
    if not subject_to:
        chosen = f"{aim[0].upper()}{aim[1:]} on the validation rows"
    elif has_room:
        room = " with room for other rows" if confidence is not None else ""
        chosen = f"Of the thresholds that keep {wanted} on the validation rows{room}, {aim}"
    elif holds:
        chosen = f"{wanted} holds on the validation rows, but without the room that other rows need; the most room"
    else:
        chosen = f"No threshold keeps {wanted} on the validation rows; this one comes nearest"
    expected = _expected(cuts, at, costs)
    seen = ", ".join(f"{name} {'undefined' if value is None else f'{value:.3f}'}" for name, value in expected.items())
    return f"{chosen}: {seen} at {cuts.thresholds[at]:.6g}."
