"""Stages by the hash of what went in: built once, and on record as built or cached with their time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelyard.core.codec import digest_record
from modelyard.flow.ports import Ports


class StageLog:
    """The stages of one build."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._seconds: dict[str, float] = {}
        self._built: dict[str, bool] = {}

    def key(self, stage: str, inputs: dict[str, Any]) -> str:
        """Return the hash of a stage's inputs, the code and what the code runs on."""
        facts = {"stage": stage, "code": self._ports.code_version, "environment": self._ports.environment}
        return digest_record({**facts, "inputs": inputs})

    def keep(self, name: str, key: str, fill: Callable[[Path], None]) -> Path:
        """Return the folder of a stage, filled now or before; `name` is what it is called on record."""
        begun = self._ports.monotonic()
        folder = self._ports.stages.find(key)
        cached = folder is not None
        if folder is None:
            self._ports.progress.stage(name)
            folder = self._ports.stages.keep(key, fill)
        self._note(name, self._ports.monotonic() - begun, built=not cached)
        return folder

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Put a stage that keeps its own parts on record."""
        begun = self._ports.monotonic()
        yield
        self._note(name, self._ports.monotonic() - begun, built=True)

    def outcomes(self) -> dict[str, str]:
        """Return each stage with how it came about, in words."""
        return {
            name: f"{'built' if self._built[name] else 'cached'}, {seconds:.2f} s"
            for name, seconds in self._seconds.items()
        }

    def _note(self, name: str, seconds: float, *, built: bool) -> None:
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds
        self._built[name] = self._built.get(name, False) or built
