"""What all fronts counted of the releases, read by any process at any instant."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from modelyard.core.rollout import ArmCounts, Hits, Totals, Window
from modelyard.errors import DataError
from modelyard.serve.told.arm_families import (
    AGREEMENT,
    CLASSES,
    GROUPS,
    MEANS,
    NAMES,
    OUTPUTS,
    RATES,
    REQUESTS,
    UNITS,
    UPDATES,
)
from modelyard.serve.told.board_file import CELLS_AT, ENDING, Labels, Record, places, viewed, writer
from modelyard.serve.told.metrics import NOT_FINITE, RESTARTS

V = TypeVar("V")
N = TypeVar("N", int, float)
Sums = dict[tuple[str, Labels], list[float]]  # of all boards, by family and labels

TRIES = 200  # to read counts between two updates of a front
WAIT_S = 0.0005  # between them: an update takes less

_READ = NAMES | {RESTARTS, NOT_FINITE}


def arm_counts(run_folder: Path, release: str) -> ArmCounts:
    """Return what was counted of a release since the service was started, while its traffic was watched.

    Counts of one moment for each front, summed over all, those of dead ones too. `requests` are those that chance
    gave to the release, with a reply that left and that was not the caller's own fault. Of these `errors` were
    500, 503 or 504, whoever said so: the model, the breaker, a full queue, a deadline. `degraded` a fallback answered.
    `rates` of latency are of all that were answered, by a fallback too; classes, outputs, groups and cost only of
    what the release answered itself. `units` are requests without a key, and keys met for the first time since the
    shares changed; None where no request to any release had a key.
    """
    return _counts(_summed(run_folder), release)


def window(run_folder: Path, release: str, since: Window | None, now: float) -> Window:
    """Return what was observed of a release since an earlier window of the same kind, or of all time without one.

    `now` is in seconds on any clock that never goes back, from 0; `seconds` of a window without `since` is `now`
    itself, so that it can be a `since` later.
    Raises: DataError where counts fell, as the service was started anew in between.
    """
    sums = _summed(run_folder)
    restarts: dict[str, int] = {}
    for (family, labels), values in sums.items():
        if family == RESTARTS and labels[0] == release:
            restarts[labels[1]] = restarts.get(labels[1], 0) + int(values[0])
    bad_rows = sums.get((NOT_FINITE, (release,)), [0.0])
    whole = Window(
        release=release,
        seconds=now,
        counts=_counts(sums, release),
        restarts=restarts,
        hung=restarts.get("hung", 0),
        memory_replaced=restarts.get("memory", 0),
        not_finite_rows=int(bad_rows[0]),
    )
    return whole if since is None else _less(whole, since)


def _counts(sums: Sums, release: str) -> ArmCounts:
    requests = sums.get((REQUESTS, (release,)), [0.0] * 3)
    keyed = any(values[0] for (family, _), values in sums.items() if family == UNITS)
    units = sums.get((UNITS, (release,)), [0.0] * 2)
    groups: dict[str, dict[str, Hits]] = {}
    for (counts, group), values in _of(sums, GROUPS, release):
        groups.setdefault(counts, {})[group] = _hits(values)
    return ArmCounts(
        requests=int(requests[0]),
        errors=int(requests[1]),
        degraded=int(requests[2]),
        units=int(units[1]) if keyed else None,
        rates={counts: _hits(values) for (counts,), values in _of(sums, RATES, release)},
        means={counts: _totals(values) for (counts,), values in _of(sums, MEANS, release)},
        groups=groups,
        classes={name: int(values[0]) for (name,), values in _of(sums, CLASSES, release)},
        outputs=_totals(sums.get((OUTPUTS, (release,)), [0.0] * 3)),
        agreement=_hits(sums.get((AGREEMENT, (release,)), [0.0] * 2)),
    )


def _of(sums: Sums, family: str, release: str) -> Iterable[tuple[Labels, list[float]]]:
    """Yield a release's series of a family, in the order of their other labels."""
    for (name, labels), values in sorted(sums.items()):
        if name == family and labels[0] == release:
            yield labels[1:], values


def _hits(values: list[float]) -> Hits:
    return Hits(trials=int(values[0]), hits=values[1])


def _totals(values: list[float]) -> Totals:
    return Totals(count=int(values[0]), total=values[1], squares=values[2])


# reading


def _summed(run_folder: Path) -> Sums:
    sums: Sums = {}
    for path in sorted(run_folder.glob("*" + ENDING)):
        for record, values in _read(path):
            key = (record.family, record.labels)
            before = sums.get(key)
            sums[key] = values if before is None else [a + b for a, b in zip(before, values, strict=True)]
    return sums


def _read(path: Path) -> list[tuple[Record, list[float]]]:
    """Return what a board has of the releases, all of one moment: between two updates."""
    for _ in range(TRIES):
        view = viewed(path)
        if view is None:
            return []
        cells = view[CELLS_AT:].cast("d")
        there = [(record, first) for record, first in places(view) if record.family in _READ]
        steps = next((first for record, first in there if record.family == UPDATES), None)
        before = 0.0 if steps is None else cells[steps]
        found = [(record, list(cells[first : first + record.width])) for record, first in there]
        if steps is None or (before % 2 == 0 and cells[steps] == before) or not writer(view)[1]:
            return found
        time.sleep(WAIT_S)
    return found  # a front that stands still within an update: its parts are no more than their wholes


# what came since


def _less(now: Window, since: Window) -> Window:
    counts, before = now.counts, since.counts
    return Window(
        release=now.release,
        seconds=_fewer("seconds", now.seconds, since.seconds),
        counts=ArmCounts(
            requests=_fewer("requests", counts.requests, before.requests),
            errors=_fewer("errors", counts.errors, before.errors),
            degraded=_fewer("degraded", counts.degraded, before.degraded),
            units=None if counts.units is None else _fewer("units", counts.units, before.units or 0),
            rates=_each(counts.rates, before.rates, _fewer_hits),
            means=_each(counts.means, before.means, _fewer_totals),
            groups=_each(counts.groups, before.groups, lambda new, old: _each(new, old or {}, _fewer_hits)),
            classes=_each(counts.classes, before.classes, lambda new, old: _fewer("classes", new, old or 0)),
            outputs=_fewer_totals(counts.outputs, before.outputs),
            agreement=_fewer_hits(counts.agreement, before.agreement),
        ),
        restarts=_each(now.restarts, since.restarts, lambda new, old: _fewer("restarts", new, old or 0)),
        hung=_fewer("hung", now.hung, since.hung),
        memory_replaced=_fewer("memory_replaced", now.memory_replaced, since.memory_replaced),
        not_finite_rows=_fewer("not_finite_rows", now.not_finite_rows, since.not_finite_rows),
    )


def _fewer(what: str, now: N, before: N) -> N:
    if now < before:
        raise DataError(
            f"`{what}` fell from {before} to {now}: the service was started anew in between. Begin a new window."
        )
    return now - before


def _each(now: Mapping[str, V], before: Mapping[str, V], less: Callable[[V, V | None], V]) -> dict[str, V]:
    return {key: less(value, before.get(key)) for key, value in now.items()}


def _fewer_hits(now: Hits, before: Hits | None) -> Hits:
    if before is None:
        return now
    return Hits(trials=_fewer("trials", now.trials, before.trials), hits=_fewer("hits", now.hits, before.hits))


def _fewer_totals(now: Totals, before: Totals | None) -> Totals:
    if before is None:
        return now
    count = _fewer("count", now.count, before.count)
    squares = max(0.0, now.squares - before.squares)  # rounding may take it below
    return Totals(count=count, total=now.total - before.total, squares=squares)
