"""What labelled rows add to the counts of a release, for every claim that needs labels.

Each row is folded in once, in the order in which it was joined; rows in one go or in several give the same counts, to
the last digit. A rate of several classes is counted in sets, as `claims` says: sets take the rows of each class in
order, and a row is in one set of a claim only. The area under the ROC curve of several classes pairs a row with the
next one of another class and asks which has more of the first one's class; rows between are passed over, so that
first rows come as often as their class does and the mean is the area, weighted by class.

Rows are not weighted by how likely they were to be kept: that has nothing to do with what was answered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from modelyard.bundle.answers import Joined
from modelyard.core.requirement import Slice
from modelyard.core.rollout import NO_HITS, NO_TOTALS, ArmCounts, Hits, Totals
from modelyard.measure.probability import SMALLEST
from modelyard.rollout.claims import Against, Claim

MOST_IN_WAITING = 10_000  # rows of one class that wait for those of the others; later ones are passed over

Waiting = dict[str, dict[str, tuple[float, ...]]]  # by what is counted, then by class


class ArmLabels(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What labelled rows say of one release, as `ArmCounts` has it; `waiting` are rows of sets not yet full."""

    rates: dict[str, Hits] = {}
    means: dict[str, Totals] = {}
    groups: dict[str, dict[str, Hits]] = {}
    waiting: Waiting = {}


class LabelCounts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The counts of all releases, and the place of the last row that is in them."""

    place: int = 0
    releases: dict[str, ArmLabels] = {}

    def added_to(self, counts: ArmCounts, release: str) -> ArmCounts:
        """Return what a front counted of a release together with what labels say of it."""
        mine = self.releases.get(release, ArmLabels())
        return msgspec.structs.replace(
            counts,
            rates=counts.rates | mine.rates,
            means=counts.means | mine.means,
            groups=counts.groups | mine.groups,
        )


def fold(
    counts: LabelCounts,
    rows: Iterable[Joined],
    claims: Sequence[Claim],
    *,
    stable: str,
    since: float = 0.0,
    stable_errors: Mapping[str, float] | None = None,
) -> LabelCounts:
    """Return the counts with more rows in them; those at a place that was folded before are passed over.

    Args:
        rows: in the order of their places. The last class of a binary answer is the positive one.
        since: seconds since 1970 when the step began. Rows answered before, and late ones, are passed over.
        stable_errors: for each margin of a median, by what it counts (`Claim.counts`), the absolute error that the
            stable release stayed below in half of the rows before; without it the margin is not counted.
    """
    asked = {
        claim.counts: claim
        for claim in claims
        if claim.requirement.needs_labels and claim.requirement.metric in _COUNTED
    }
    place = counts.place
    tallies = {name: _Tally.of(arm) for name, arm in counts.releases.items()}
    limits = stable_errors or {}
    for row in rows:
        if row.place <= place:
            continue
        place = row.place
        if row.late or row.at < since:
            continue
        tally = tallies.setdefault(row.release, _Tally())
        for claim in asked.values():
            if _in_slice(row, claim.requirement.slice):
                _COUNTED[claim.requirement.metric](tally, claim, row, _limit(claim, row.release == stable, limits))
    return LabelCounts(place=place, releases={name: tally.frozen() for name, tally in tallies.items()})


@dataclass
class _Tally:
    """The counts of one release while rows are folded in."""

    rates: dict[str, Hits] = field(default_factory=dict)
    means: dict[str, Totals] = field(default_factory=dict)
    groups: dict[str, dict[str, Hits]] = field(default_factory=dict)
    waiting: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    @staticmethod
    def of(arm: ArmLabels) -> _Tally:
        groups = {key: dict(by_group) for key, by_group in arm.groups.items()}
        waiting = {key: {name: list(held) for name, held in one.items()} for key, one in arm.waiting.items()}
        return _Tally(dict(arm.rates), dict(arm.means), groups, waiting)

    def frozen(self) -> ArmLabels:
        waiting = {key: {name: tuple(held) for name, held in one.items()} for key, one in self.waiting.items()}
        return ArmLabels(rates=self.rates, means=self.means, groups=self.groups, waiting=waiting)

    def hit(self, key: str, by: float) -> None:
        self.rates[key] = _more(self.rates.get(key, NO_HITS), by)

    def number(self, key: str, value: float) -> None:
        old = self.means.get(key, NO_TOTALS)
        square = old.squares + value * value
        self.means[key] = Totals(count=old.count + 1, total=old.total + value, squares=square)

    def group(self, key: str, name: str, by: float) -> None:
        groups = self.groups.setdefault(key, {})
        groups[name] = _more(groups.get(name, NO_HITS), by)

    def taken(self, key: str, kind: str, value: float, kinds: Sequence[str]) -> list[float] | None:
        """Hold a value of one kind; return a set with one of each kind where that makes one whole."""
        held = self.waiting.setdefault(key, {})
        mine = held.setdefault(kind, [])
        if len(mine) >= MOST_IN_WAITING:
            return None
        mine.append(value)
        if not all(held.get(one) for one in kinds):
            return None
        return [held[one].pop(0) for one in kinds]


def _more(hits: Hits, by: float) -> Hits:
    return Hits(trials=hits.trials + 1, hits=hits.hits + by)


def _in_slice(row: Joined, slice: Slice | None) -> bool:
    """Say whether a row is in a slice; numbers are compared as numbers."""
    if slice is None:
        return True
    value = row.columns.get(slice.column)
    if value is None or value == slice.value:
        return value is not None
    try:
        return float(value) == float(slice.value)
    except ValueError:
        return False


def _limit(claim: Claim, is_stable: bool, stable_errors: Mapping[str, float]) -> float | None:
    """Return the error that counts as larger, of a claim on a median."""
    if claim.against is not Against.MARGIN:
        return claim.requirement.bound
    before = stable_errors.get(claim.counts[0])
    return before if before is None or is_stable else before + (claim.requirement.margin or 0.0)


Count = Callable[[_Tally, Claim, Joined, float | None], None]


def _accuracy(tally: _Tally, claim: Claim, row: Joined, _: float | None) -> None:
    if row.answered is not None:
        tally.hit(claim.counts[0], row.answered == row.label)


def _recall(tally: _Tally, claim: Claim, row: Joined, limit: float | None) -> None:
    if len(row.classes) > 2:
        _balanced(tally, claim, row, limit)
    elif row.classes and row.label == row.classes[-1]:
        tally.hit(claim.counts[0], row.answered == row.label)


def _balanced(tally: _Tally, claim: Claim, row: Joined, _: float | None) -> None:
    if row.classes:
        _in_sets(tally, claim.counts[0], row, row.label)


def _precision(tally: _Tally, claim: Claim, row: Joined, _: float | None) -> None:
    if len(row.classes) > 2 and row.answered is not None:
        _in_sets(tally, claim.counts[0], row, row.answered)
    elif row.classes and row.answered == row.classes[-1]:
        tally.hit(claim.counts[0], row.answered == row.label)


def _in_sets(tally: _Tally, key: str, row: Joined, kind: str) -> None:
    whole = tally.taken(key, kind, float(row.answered == row.label), row.classes)
    if whole is not None:
        tally.hit(key, sum(whole) / len(whole))


def _f1(tally: _Tally, claim: Claim, row: Joined, _: float | None) -> None:
    """Count of two classes only: the mean over several is no rate of anything."""
    if len(row.classes) == 2 and row.classes[-1] in (row.label, row.answered):
        tally.hit(claim.counts[0], row.answered == row.label)


def _roc_auc(tally: _Tally, claim: Claim, row: Joined, _: float | None) -> None:
    key = claim.counts[0]
    if len(row.classes) == 2 and row.probabilities:
        negative, positive = row.classes
        whole = tally.taken(key, row.label, row.probabilities[1], (positive, negative))
        if whole is not None:
            tally.hit(key, _above(*whole))
    elif row.probabilities:
        held = tally.waiting.setdefault(key, {})
        first = next(iter(held), None)
        if first is None:
            held[row.label] = list(row.probabilities)
        elif first != row.label:
            of_first = row.classes.index(first)
            tally.hit(key, _above(held.pop(first)[of_first], row.probabilities[of_first]))


def _above(ours: float, theirs: float) -> float:
    return 0.5 if ours == theirs else float(ours > theirs)


def _log_loss(tally: _Tally, claim: Claim, row: Joined, _: float | None) -> None:
    if row.probabilities:
        stated = row.probabilities[row.classes.index(row.label)]
        tally.number(claim.counts[0], -math.log(min(max(stated, SMALLEST), 1.0)))


def _brier_loss(tally: _Tally, claim: Claim, row: Joined, _: float | None) -> None:
    if row.probabilities:
        squares = [(p - (row.label == name)) ** 2 for p, name in zip(row.probabilities, row.classes, strict=True)]
        tally.number(claim.counts[0], squares[-1] if len(squares) == 2 else sum(squares))


def _absolute(tally: _Tally, claim: Claim, row: Joined, _: float | None) -> None:
    if row.value is not None:
        tally.number(claim.counts[0], abs(row.value - float(row.label)))


def _squared(tally: _Tally, claim: Claim, row: Joined, _: float | None) -> None:
    if row.value is not None:
        error = row.value - float(row.label)
        tally.number(claim.counts[0], error * error)


def _larger(tally: _Tally, claim: Claim, row: Joined, limit: float | None) -> None:
    if row.value is not None and limit is not None:
        tally.hit(claim.counts[0], abs(row.value - float(row.label)) > limit)


def _parity(tally: _Tally, claim: Claim, row: Joined, _: float | None) -> None:
    """Count of groups that only labelled rows tell; fronts count those that requests carry."""
    group = row.columns.get(claim.requirement.group or "")
    if group is not None and len(row.classes) == 2:
        tally.group(claim.counts[0], group, row.answered == row.classes[1])


def _opportunity(tally: _Tally, claim: Claim, row: Joined, _: float | None) -> None:
    _in_group(tally, claim, row, claim.counts[0], 1)


def _odds(tally: _Tally, claim: Claim, row: Joined, _: float | None) -> None:
    of_positives, of_negatives = claim.counts
    _in_group(tally, claim, row, of_positives, 1)
    _in_group(tally, claim, row, of_negatives, 0)


def _in_group(tally: _Tally, claim: Claim, row: Joined, key: str, kind: int) -> None:
    """Count a row labelled with the class at that place, by whether it was answered positive."""
    group = row.columns.get(claim.requirement.group or "")
    if group is not None and len(row.classes) == 2 and row.label == row.classes[kind]:
        tally.group(key, group, row.answered == row.classes[1])


_COUNTED: dict[str, Count] = {
    "accuracy": _accuracy,
    "recall": _recall,
    "precision": _precision,
    "balanced_accuracy": _balanced,
    "roc_auc": _roc_auc,
    "f1": _f1,
    "log_loss": _log_loss,
    "brier_loss": _brier_loss,
    "mae": _absolute,
    "rmse": _squared,
    "median_absolute_error": _larger,
    "demographic_parity_difference": _parity,
    "equal_opportunity_difference": _opportunity,
    "equalized_odds_difference": _odds,
}
