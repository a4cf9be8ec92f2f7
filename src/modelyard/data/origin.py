"""What a plan's files are, before they are read as tables."""

from __future__ import annotations

from pathlib import Path

from modelyard.core.data_plan import DataPlan
from modelyard.data.sources import digest, find


def digest_sources(plan: DataPlan) -> tuple[str, ...]:
    """Return the SHA-256 of the plan's files, and of its test files where it has some; raises DataError."""
    paths = (plan.path,) if plan.test_path is None else (plan.path, plan.test_path)
    return tuple(digest(find(Path(path), plan.reading.format)) for path in paths)
