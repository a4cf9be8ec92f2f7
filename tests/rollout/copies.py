"""A copy of a service that is a script: what is seen when, and what callers met, on a clock of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from modelyard.core.drill import Asked, Became, Kept, Sight, Sign

EVERY_S = 0.02


class FakeClock:
    """Time that passes when somebody waits."""

    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.at)

    def monotonic(self) -> float:
        return self.at

    def pause(self, seconds: float) -> None:
        self.at += seconds


@dataclass
class Script:
    """What happens, in seconds from the harm: None where it never does."""

    seen_after: float | None = 0.1
    whole_after: float | None = 0.5
    bad: Became = Became.DEGRADED
    bad_for: float = 0.0  # callers are harmed from the harm on
    slow_s: float = 0.002
    kept: Kept = field(default_factory=lambda: Kept(1, 0))
    harm_fails: Exception | None = None
    first: Became = Became.ANSWERED  # before the harm


@dataclass
class FakeCopy:
    """The Rehearsal port over a script. It mends itself where `mend` is called or not."""

    script: Script
    clock: FakeClock
    opened: float = 0.0
    harmed: float = float("inf")
    done: list[str] = field(default_factory=list)

    def harm(self) -> None:
        self.done.append("harm")
        if self.script.harm_fails is not None:
            raise self.script.harm_fails
        self.harmed = self.clock.at

    def look(self) -> Sight:
        now, script = self.clock.at, self.script
        seen = script.seen_after is not None and now >= self.harmed + script.seen_after
        whole = now < self.harmed or (script.whole_after is not None and now >= self.harmed + script.whole_after)
        sign = Sign(self.harmed + (script.seen_after or 0.0), "a worker is gone") if seen else None
        return Sight(sign, whole, "" if whole else "it is not ready")

    def mend(self) -> None:
        self.done.append("mend")

    def asked(self) -> Sequence[Asked]:
        count = int((self.clock.at - self.opened) / EVERY_S)
        all_due = (self.opened + number * EVERY_S for number in range(count))
        return [one for one in map(self._one, all_due) if one.ended <= self.clock.at]

    def finish(self) -> tuple[Sequence[Asked], Kept]:
        self.done.append("finish")
        self.clock.pause(1.0)
        return self.asked(), self.script.kept

    def _one(self, due: float) -> Asked:
        script = self.script
        if due < self.harmed:
            return Asked(due, due + 0.002, script.first)
        if due < self.harmed + script.bad_for:
            return Asked(due, due + 0.002, script.bad)
        return Asked(due, due + script.slow_s, Became.ANSWERED)


class Theatre:
    """Opens copies by one script, and remembers them."""

    def __init__(self, script: Script) -> None:
        self.script, self.clock = script, FakeClock()
        self.copies: list[FakeCopy] = []
        self.left = 0

    @contextlib.contextmanager
    def open(self, kind: str) -> Iterator[FakeCopy]:
        copy = FakeCopy(self.script, self.clock, opened=self.clock.at)
        self.copies.append(copy)
        try:
            yield copy
        finally:
            self.left += 1
