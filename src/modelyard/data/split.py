"""Deal the rows to the parts: at random, by class, by group, or by time. Pure: the same seed, the same parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from modelyard.core.arrays import Array, Ints
from modelyard.core.contract import Part
from modelyard.core.data_plan import Split, SplitMethod
from modelyard.errors import CannotSplit

PARTS = (Part.TRAIN, Part.CALIBRATE, Part.VALID, Part.TEST)  # the order in time, and of the codes below
_NAMES = tuple(part.value for part in PARTS)


def deal(plan: Split, rows: int, *, own_test: bool, key: Array | None = None) -> Ints:
    """Return the part of each row, as its place in `PARTS`.

    Args:
        rows: how many there are.
        own_test: whether the test part is a file of its own, so that none is dealt here.
        key: (rows,) the class, group or moment of each row, as the method needs; None for random.
    Raises: CannotSplit if a part that is asked for would be empty.
    """
    shares = _shares(plan, own_test)
    dice = np.random.default_rng(np.random.PCG64(plan.seed))
    if plan.method is SplitMethod.TIME and key is not None:
        parts = _by_time(key, shares)
    elif plan.method is SplitMethod.GROUP and key is not None:
        parts = _by_group(key, shares, dice)
    elif plan.method is SplitMethod.STRATIFIED and key is not None:
        parts = _by_class(key, shares, dice)
    else:
        parts = _at_random(rows, shares, dice)
    _check(parts, shares, plan, key)
    return parts


def _shares(plan: Split, own_test: bool) -> Array:
    """Return the share of each part, training first."""
    test = 0.0 if own_test else plan.test
    rest = 1.0 - test - plan.calibrate - plan.valid
    if rest <= 1e-9:
        raise CannotSplit(
            f"`split`: test {test:g}, calibrate {plan.calibrate:g} and valid {plan.valid:g} leave nothing for "
            "training; their sum must be under 1."
        )
    return np.array([rest, plan.calibrate, plan.valid, test])


def _counts(rows: int, shares: Array) -> Ints:
    """Round shares to whole rows that sum to all; largest remainders first, training before the others."""
    exact = shares * rows
    counts = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(-(exact - counts), kind="stable")
    counts[order[: rows - int(counts.sum())]] += 1
    if rows and counts[0] == 0:
        counts[int(np.argmax(counts))] -= 1
        counts[0] = 1
    return counts


def _at_random(rows: int, shares: Array, dice: np.random.Generator) -> Ints:
    parts = np.repeat(np.arange(len(PARTS)), _counts(rows, shares))
    return dice.permutation(parts)


def _by_class(classes: Array, shares: Array, dice: np.random.Generator) -> Ints:
    """Deal each class in the same shares; the first row of a class goes to training."""
    _, codes = np.unique(classes.astype(str), return_inverse=True)
    parts = np.zeros(len(codes), dtype=np.int64)
    order = np.argsort(codes, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        dealt = np.repeat(np.arange(len(PARTS)), _counts(len(members), shares))
        parts[members] = dice.permutation(dealt)
    return parts


def _by_group(groups: Array, shares: Array, dice: np.random.Generator) -> Ints:
    """Deal whole groups in random order, each to the part that lacks most of its share."""
    _, codes = np.unique(groups.astype(str), return_inverse=True)
    sizes = np.bincount(codes)
    wanted = shares * len(codes)
    places = [place for place in range(len(PARTS)) if wanted[place] > 0]
    lacking = {place: float(wanted[place]) for place in places}
    homes = np.zeros(len(sizes), dtype=np.int64)
    for group in dice.permutation(len(sizes)).tolist():
        size = int(sizes[group])
        home = max(places, key=lambda place: (lacking[place] / wanted[place], -place))
        if size > lacking[home]:
            home = max(places, key=lambda place: (lacking[place], -place))
        homes[group] = home
        lacking[home] -= size
    return homes[codes]


def _by_time(moments: Array, shares: Array) -> Ints:
    """Deal the oldest rows to training and the latest to test; rows of one moment stay together."""
    order = np.argsort(moments, kind="stable")
    ordered = moments[order]
    parts = np.zeros(len(order), dtype=np.int64)
    bounds = np.cumsum(_counts(len(order), shares))[:-1]
    for place, bound in enumerate(bounds, start=1):
        if bound < len(ordered):
            parts[order[np.searchsorted(ordered, ordered[bound], side="left") :]] = place
    return parts


def _check(parts: Ints, shares: Array, plan: Split, key: Array | None) -> None:
    counts = np.bincount(parts, minlength=len(PARTS))
    empty = [_NAMES[place] for place in range(len(PARTS)) if shares[place] > 0 and counts[place] == 0]
    if not empty:
        return
    distinct = f" with {len(np.unique(key.astype(str)))} distinct values to go by" if key is not None else ""
    raise CannotSplit(
        f"The split by `{plan.method}` leaves no row for {', '.join(empty)}: {len(parts)} rows{distinct}, shares "
        f"{_words(dict(zip(_NAMES, shares.tolist(), strict=True)))}. Bring more rows, or change `data.split`."
    )


def _words(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:g}" for name, share in shares.items())


def in_words(plan: Split, counts: Sequence[int], *, own_test: bool, stratified: bool) -> str:
    """Say how the rows were dealt."""
    method = {
        SplitMethod.RANDOM: "at random",
        SplitMethod.STRATIFIED: "at random within each class" if stratified else "at random (no classes to keep even)",
        SplitMethod.GROUP: "by group, no group in two parts",
        SplitMethod.TIME: "by time, the latest rows last",
    }[plan.method]
    seed = "" if plan.method is SplitMethod.TIME else f", seed {plan.seed}"
    sizes = ", ".join(f"{part} {count}" for part, count in zip(_NAMES, counts, strict=True))
    return f"{method}{seed}: {sizes}{'; test rows are a file of their own' if own_test else ''}"
