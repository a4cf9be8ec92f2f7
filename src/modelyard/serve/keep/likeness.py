"""Whether releases can share callers: who does not know which one answers must be able to ask any of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from modelyard.bundle.open import read_body
from modelyard.core.contract import Column, Contract
from modelyard.errors import UsageError


def check_alike(release: str, body: Path, stable: str, stable_body: Path) -> None:
    """Raise UsageError, naming each difference, where a release cannot stand in for the stable one.

    Raises: BundleFormat where one of the bodies cannot be read.
    """
    faults = differences(read_body(stable_body).contract, read_body(body).contract)
    if faults:
        raise UsageError(
            f"`{release}` cannot share callers with `{stable}`: {'; '.join(faults)}. "
            f"Let it answer alone: modelyard deploy {release}"
        )


def differences(stable: Contract, other: Contract) -> tuple[str, ...]:
    """Return in words why requests to one could not be answered by the other, or not be compared; empty where they can.

    A column may take missing values that the stable release does not take, and not the other way round.
    """
    return tuple(_differences(stable, other))


def _differences(stable: Contract, other: Contract) -> Iterable[str]:
    if stable.task is not other.task:
        yield f"its task is {other.task}, wanted {stable.task}"
    if set(stable.classes) != set(other.classes):
        yield f"its classes are {_list(other.classes)}, wanted {_list(stable.classes)}"
    ours = {column.name: column for column in stable.features}
    theirs = {column.name: column for column in other.features}
    for name in sorted(ours.keys() - theirs.keys()):
        yield f"it does not take `{name}`"
    for name in sorted(theirs.keys() - ours.keys()):
        yield f"it wants `{name}` too"
    for name in sorted(ours.keys() & theirs.keys()):
        yield from _of_column(ours[name], theirs[name])


def _of_column(ours: Column, theirs: Column) -> Iterable[str]:
    for what in ("kind", "format", "datatype", "shape"):
        seen, wanted = getattr(theirs, what), getattr(ours, what)
        if seen != wanted:
            yield f"`{ours.name}` has the {what} {seen}, wanted {wanted}"
    if ours.nullable and not theirs.nullable:
        yield f"`{ours.name}` must not be missing, and the stable release takes it missing"


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
