"""The parameters that a search may vary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from modelyard.core.candidate import ParamValue


class Fixed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="fixed"):
    """One value."""

    value: ParamValue


class Range(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="range"):
    """Numbers from `low` to `high`, both possible; evenly in the logarithm where `log` is set."""

    low: float
    high: float
    log: bool = False
    integer: bool = False
    default: float | None = None  # what the first trial takes; the middle otherwise


class Choice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="choice"):
    """One of a few values; the first trial takes the first."""

    values: tuple[ParamValue, ...]


Dimension = Fixed | Range | Choice
Space = Mapping[str, Dimension]


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A candidate as the search sees it."""

    name: str
    algorithm: str  # the trainer
    encoding: str  # "tree" or "dense"
    space: dict[str, Dimension]
    function: str | None = None  # module:function, for the user's own
    class_weight: str | None = None  # "balanced"
    calibrate: bool = True

    @property
    def varies(self) -> bool:
        return any(not isinstance(dimension, Fixed) for dimension in self.space.values())


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much a search may spend: trials or seconds, one of them set; and the bounds of each trial."""

    trials: int | None = None
    seconds: float | None = None
    trial_timeout_s: float = 120.0
    memory_mb: int = 4096
    threads: int = 2


class Sampler(Protocol):
    """Proposes parameters from what has been tried."""

    def propose(
        self, space: Space, tried: Sequence[tuple[Mapping[str, ParamValue], float]], *, seed: int
    ) -> dict[str, ParamValue]:
        """Return the next parameters, the same for the same arguments; values are better when higher."""
        ...
