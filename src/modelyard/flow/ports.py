"""What the journeys need of the outside, wired in `app.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from modelyard.bundle.open import Answers
from modelyard.core.arrays import Columns
from modelyard.core.clock import Clock
from modelyard.core.ports import Audit, EngineLoader, Graphs, Progress, Releases, Runs, Spawn, Stages, Tables
from modelyard.core.space import Sampler


class Endpoint(Protocol):
    """Answers rows through a service started for this alone."""

    def __call__(self, body: Path, columns: Columns) -> Answers: ...


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Every ability that a build uses."""

    stages: Stages
    releases: Releases
    runs: Runs
    audit: Audit
    tables: Tables
    loader: EngineLoader
    graphs: Graphs
    sampler: Sampler
    spawn: Spawn
    endpoint: Endpoint
    progress: Progress
    clock: Clock
    work: Path  # a folder for what a search must remember between kills
    code_version: str
    change_ticket: str | None
    environment: dict[str, str]  # versions of what the outcome depends on

    @property
    def monotonic(self) -> Callable[[], float]:
        return self.clock.monotonic
