"""What is known of the releases of a rollout: what fronts counted, and what labels said of what they answered."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from modelyard.bundle.answers import Joined
from modelyard.core.rollout import ArmCounts, Hits, Totals, Window
from modelyard.rollout.claims import Claim, claims
from modelyard.rollout.course import Course, Seen
from modelyard.rollout.labelled import LabelCounts, fold
from modelyard.rollout.watching import as_claimed
from modelyard.serve.told.arms import window


class Joining(Protocol):
    """Where labels are joined with answers; `store.outcomes.Outcomes`."""

    def ingest(self) -> int: ...

    def joined_since(self, place: int) -> Iterable[Joined]: ...


class Counts:
    """Counts of one service's rollout. `joining` is asked for once labels are needed."""

    def __init__(self, run_folder: Path, joining: Callable[[], Joining]) -> None:
        self._folder, self._joining = run_folder, joining
        self._labels: LabelCounts | None = None

    def seen(self, course: Course, now: float) -> dict[str, Seen]:
        """Return what was counted so far of each release."""
        labels = self._labelled(course)
        return {
            name: Seen(window=window(self._folder, name, None, now), labelled=labels.added_to(ArmCounts(), name))
            for name in _releases(course)
        }

    def so_far(self, course: Course, now: float) -> dict[str, Window]:
        """Return what fronts counted so far of each release."""
        return {name: window(self._folder, name, None, now) for name in _releases(course)}

    def windows(self, course: Course, now: float) -> dict[str, Window]:
        """Return what was counted of each release since the step began; raises DataError where counts fell."""
        labels = self._labelled(course)
        found = {}
        for name in _releases(course):
            before = course.since.get(name, Seen(window=Window(release=name, seconds=course.state.began)))
            seen = window(self._folder, name, before.window, now)
            counts = as_claimed(seen.counts, is_stable=name == course.state.stable)
            more = less(labels.added_to(ArmCounts(), name), before.labelled)
            counts = replace(
                counts,
                rates=counts.rates | more.rates,
                means=counts.means | more.means,
                groups=counts.groups | more.groups,
            )
            found[name] = replace(self._harmed(course, name, seen, now), counts=counts)
        return found

    def _harmed(self, course: Course, name: str, seen: Window, now: float) -> Window:
        """Return a window with what happened to a release since the table was changed, before the step began too."""
        before = course.before.get(name)
        if before is None:
            return seen
        longer = window(self._folder, name, before, now)
        return replace(
            seen,
            restarts=longer.restarts,
            hung=longer.hung,
            memory_replaced=longer.memory_replaced,
            not_finite_rows=longer.not_finite_rows,
        )

    def _labelled(self, course: Course) -> LabelCounts:
        """Return what labels say of all that was answered since the rollout began."""
        counts = self._labels or LabelCounts(place=course.place)
        asked = _asked(course)
        if asked:
            joining = self._joining()
            joining.ingest()
            counts = fold(
                counts, joining.joined_since(counts.place), asked, stable=course.state.stable, since=course.began
            )
        self._labels = counts
        return counts


def _asked(course: Course) -> list[Claim]:
    if not course.watch.keeps_answers:
        return []
    return [claim for claim in claims(course.requirements, course.policy) if claim.requirement.needs_labels]


def _releases(course: Course) -> tuple[str, ...]:
    return (course.state.stable, *course.state.running)


def less(now: ArmCounts, before: ArmCounts) -> ArmCounts:
    """Return what labels added to the rates, means and groups of a release since an earlier moment."""
    return ArmCounts(
        rates={key: _hits(hits, before.rates.get(key)) for key, hits in now.rates.items()},
        means={key: _totals(totals, before.means.get(key)) for key, totals in now.means.items()},
        groups={
            key: {group: _hits(hits, before.groups.get(key, {}).get(group)) for group, hits in by_group.items()}
            for key, by_group in now.groups.items()
        },
    )


def _hits(now: Hits, before: Hits | None) -> Hits:
    return now if before is None else Hits(trials=now.trials - before.trials, hits=max(0.0, now.hits - before.hits))


def _totals(now: Totals, before: Totals | None) -> Totals:
    if before is None:
        return now
    return Totals(
        count=now.count - before.count,
        total=now.total - before.total,
        squares=max(0.0, now.squares - before.squares),
    )
