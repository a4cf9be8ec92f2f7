"""What a spec is checked against besides itself: its folder and the machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modelyard.core.machine import cores, memory_mb


@dataclass(frozen=True, kw_only=True)
class World:
    """The folder that paths in the spec start from, and what the machine has."""

    folder: Path
    cores: int
    memory_mb: int


def here(folder: Path) -> World:
    """Return this machine, with `folder` as where the spec stands."""
    return World(folder=folder, cores=cores(), memory_mb=memory_mb())
