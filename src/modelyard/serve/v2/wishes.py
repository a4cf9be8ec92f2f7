"""What a request of the protocol wants otherwise than usual: some outputs, raw bytes, a time, a priority."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from modelyard.serve.doors import Malformed
from modelyard.serve.guard.priority import HIGH, LOW, NORMAL
from modelyard.serve.v2 import binary as v2_binary
from modelyard.serve.v2.binary import Scalar

Parameters = dict[str, Scalar]

PRIORITIES = {1: HIGH, 2: NORMAL, 3: LOW}  # the protocol's numbers, 0 being whatever is usual


class Wanted(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An output that is asked for."""

    name: str
    parameters: Parameters | None = None


class Wishes:
    """What a request wants otherwise than usual."""

    __slots__ = ("priority", "raw", "timeout_s", "wanted")

    def __init__(self, parameters: Parameters | None) -> None:
        self.timeout_s: float | None = timeout_of(parameters)
        self.priority: int | None = priority_of(parameters)
        self.wanted: tuple[str, ...] | None = None  # None: all outputs, in JSON
        self.raw: frozenset[str] = frozenset()  # outputs wanted as raw bytes


def wishes_of(names: tuple[str, ...], parameters: Parameters | None, outputs: Sequence[Wanted] | None) -> Wishes:
    """Return what a request to a model with outputs of these names wants; raises Malformed."""
    wishes = Wishes(parameters)
    raw = v2_binary.is_wanted(parameters, v2_binary.ALL_WANTED)
    if not outputs:
        if raw:
            wishes.wanted, wishes.raw = names, frozenset(names)
        return wishes
    seen: dict[str, bool] = {}
    for output in outputs:
        if output.name not in names:
            raise Malformed(f"Output `{output.name[:100]}` is not known. Known: {', '.join(names)}.")
        if output.name in seen:
            raise Malformed(f"Output `{output.name}` is asked for twice.")
        if output.parameters is not None and output.parameters.get("classification"):
            raise Malformed("The classification extension is not offered; ask for `label` and `probabilities`.")
        seen[output.name] = v2_binary.is_wanted(output.parameters, v2_binary.WANTED, otherwise=raw)
    wishes.wanted, wishes.raw = tuple(seen), frozenset(name for name, wanted in seen.items() if wanted)
    return wishes


def timeout_of(parameters: Parameters | None) -> float | None:
    """Return in seconds the parameter `timeout`, which is in microseconds; None or 0: none. Raises Malformed.

    >>> timeout_of({"timeout": 250_000})
    0.25
    """
    value = None if parameters is None else parameters.get("timeout")
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < 2**63:
        raise Malformed("The parameter `timeout` must be a whole number of microseconds.")
    return value / 1e6 if value else None


def priority_of(parameters: Parameters | None) -> int | None:
    """Return the class of `serve/guard/priority.py` that the parameter `priority` names; None: as everybody.

    Raises: Malformed.

    >>> priority_of({"priority": 1}) == HIGH
    True
    """
    value = None if parameters is None else parameters.get("priority")
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= len(PRIORITIES):
        raise Malformed("The parameter `priority` must be 0 (as usual), 1 (high), 2 (normal) or 3 (low).")
    return PRIORITIES.get(value)
