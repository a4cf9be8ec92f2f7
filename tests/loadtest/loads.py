"""Short loads, as tests ask for them."""

from __future__ import annotations

from typing import Any

from modelyard.core.load import Arrivals, LoadPlan, LoadResult
from modelyard.core.requirement import Direction, Requirement
from modelyard.loadtest.address import parse_address
from modelyard.loadtest.measure import Subject, measure


class Heard:
    """A progress that keeps what it was told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.lines: list[str] = []

    def stage(self, name: str, *, total: float | None = None) -> None:
        self.stages.append(name)

    def advance(self, done: float, note: str = "") -> None: ...

    def say(self, line: str) -> None:
        self.lines.append(line)


def plan(**changes: Any) -> LoadPlan:
    named: dict[str, Any] = {"arrivals": Arrivals.CONSTANT, "rate": 200.0, "connections": 64, "seconds": 2.0}
    return LoadPlan(**{**named, "warmup_s": 0.3, "timeout_s": 2.0, **changes})


def closed(connections: int, **changes: Any) -> LoadPlan:
    return plan(arrivals=Arrivals.CLOSED, rate=None, connections=connections, **changes)


def load(url: str, wanted: LoadPlan, *requirements: Requirement, bodies: tuple[bytes, ...] = (b"{}",)) -> LoadResult:
    subject = Subject(address=parse_address(url), bodies=bodies)
    return measure(subject, wanted, Heard(), requirements=requirements)


def p99_at_most(bound: float) -> Requirement:
    metric = "latency_p99_ms"
    return Requirement(id=metric, metric=metric, direction=Direction.AT_MOST, bound=bound, needs_labels=False)


def ms(result: LoadResult, q: float) -> float:
    found = result.quantile(q)
    assert found is not None
    return found.value_ms
