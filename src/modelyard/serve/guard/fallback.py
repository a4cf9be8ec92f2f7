"""What is answered when the model cannot: the release's own order of fallbacks, never silently.

An order is made ready once, when a release is opened. Its steps are tried one after another until one answers: another
release, which the front asks like any other; a rule over the columns, or a constant, which answer here; or a refusal.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Annotated

import msgspec

from modelyard.bundle.format import Body, Manifest
from modelyard.core.arrays import Columns
from modelyard.core.contract import Column, Contract, Kind
from modelyard.core.metrics import Task
from modelyard.errors import BundleFormat
from modelyard.serve.batching import Settled
from modelyard.serve.guard.rule import Condition, Meets, Unusable, chosen, ready

SUM_TOLERANCE = 1e-6
MOST_FAULTS = 20  # told at once


class Reason(StrEnum):
    """Why an answer is degraded, or there is none, as body, header and metrics say it."""

    WORKER_DOWN = "worker_down"  # no process of the release can be reached
    WORKER_FAILED = "worker_failed"  # it went away with the rows
    WORKER_HUNG = "worker_hung"  # it has had work for too long
    MODEL_ERROR = "model_error"  # the model fails on these rows
    BREAKER_OPEN = "breaker_open"  # it failed on too many; it is left alone for a while
    DEADLINE = "deadline"  # no answer in time


class Other:
    """Another release answers; the front asks it, with what is left of the deadline."""

    __slots__ = ("by", "release")

    def __init__(self, by: str, release: str) -> None:
        self.by, self.release = by, release  # "previous" or "variant", and which one that is


class Answering:
    """A step that answers by itself, at once and always."""

    __slots__ = ()
    by = ""

    def answer(self, columns: Columns, rows: int) -> Settled:
        """Return an answer to each of the rows, whose checked columns these are."""
        raise NotImplementedError


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that is written down: a label with its probabilities in the order of the classes, or a value."""

    label: str = ""
    probabilities: tuple[float, ...] = ()
    value: float | None = None


class Constant(Answering):
    """The same answer for every row."""

    __slots__ = ("given",)
    by = "constant"

    def __init__(self, given: Given) -> None:
        self.given = given

    def answer(self, columns: Columns, rows: int) -> Settled:
        """Return the answer, `rows` times; the columns are not looked at."""
        return _settled([self.given] * rows)


class Rule(Answering):
    """The answer of the first case that a row meets, or the one for all others."""

    __slots__ = ("answers", "cases")
    by = "rule"

    def __init__(self, cases: Sequence[Sequence[Meets]], answers: Sequence[Given]) -> None:
        self.cases, self.answers = cases, answers  # one answer more than there are cases, for what meets none

    def answer(self, columns: Columns, rows: int) -> Settled:
        """Return to each row the answer of its case."""
        return _settled([self.answers[place] for place in chosen(self.cases, columns, rows)])


class Refuse:
    """No answer: 503 with Retry-After."""

    __slots__ = ()
    by = "refuse"


Step = Other | Answering | Refuse


def order(body: Body, previous: str | None, *, own: str | None = None) -> tuple[Step, ...]:
    """Return the steps of a release in the order they are tried; the last one always ends it.

    A release is not its own fallback, so a step that means `own` is left out, and so is `previous` where there is
    none. What stands after a step that always answers is never reached, and left out too.

    Raises: BundleFormat with everything that is wrong with the order.
    """
    faults: list[str] = []
    steps: list[Step] = []
    for index, entry in _entries(body.manifest, faults):
        step = _step(entry, body, previous, faults, f"fallback {index}")
        ended = bool(steps) and not isinstance(steps[-1], Other)
        if step is not None and not ended and not (isinstance(step, Other) and step.release == own):
            steps.append(step)
    if faults:
        raise BundleFormat(f"The fallbacks cannot be used: {'; '.join(faults[:MOST_FAULTS])}.")
    ended = bool(steps) and not isinstance(steps[-1], Other)
    return tuple(steps) if ended else (*steps, Refuse())


def misfits(body: Body, other: Body) -> tuple[str, ...]:
    """Return why another release cannot answer in the place of one; nothing where it can.

    It must give the same kind of answer with the same classes in the same order, take the columns that callers send,
    and need no others. Whether a single row keeps its contract is seen when it is asked.
    """
    faults = []
    if body.manifest.task is not other.manifest.task:
        faults.append(f"its task is {other.manifest.task.value}, wanted {body.manifest.task.value}")
    elif body.manifest.classes != other.manifest.classes:
        faults.append(f"its classes are {_listed(other.manifest.classes)}, wanted {_listed(body.manifest.classes)}")
    given = {column.name: column for column in body.contract.features}
    known = {column.name: column for column in other.contract.columns}
    for name in given.keys() - known.keys():
        faults.append(f"it does not know the column `{name}`")
    for column in other.contract.features:
        sent = given.get(column.name)
        if sent is None:
            if not column.nullable:
                faults.append(f"it needs the column `{column.name}`")
        elif _shape(sent) != _shape(column):
            faults.append(f"its column `{column.name}` is {column.kind.value}, wanted {sent.kind.value}")
    return tuple(sorted(faults))


def _shape(column: Column) -> tuple[object, ...]:
    """Return what two columns must have in common for one to take the other's values."""
    kind = Kind.TEXT if column.kind.is_string else column.kind
    return kind, column.datatype, column.shape


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


# how fallbacks are written in a manifest


class _Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    label: str | None = None
    probabilities: dict[str, float] | list[float] | None = None
    value: float | None = None


class _Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    when: Annotated[tuple[Condition, ...], msgspec.Meta(min_length=1)]
    then: _Answer


class _Previous(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="previous"):
    pass


class _Variant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="variant"):
    release: str


class _Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="rule"):
    cases: Annotated[tuple[_Case, ...], msgspec.Meta(min_length=1)]
    otherwise: _Answer


class _Constant(_Answer, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="constant"):
    pass


class _Refuse(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="refuse"):
    pass


_Entry = _Previous | _Variant | _Rule | _Constant | _Refuse


def _entries(manifest: Manifest, faults: list[str]) -> Iterator[tuple[int, _Entry]]:
    for index, entry in enumerate(manifest.fallback):
        try:
            yield index, msgspec.convert(entry, type=_Entry)
        except msgspec.ValidationError as fault:
            faults.append(f"fallback {index}: {fault}")


def _step(entry: _Entry, body: Body, previous: str | None, faults: list[str], where: str) -> Step | None:
    if isinstance(entry, _Previous):
        return None if previous is None else Other("previous", previous)
    if isinstance(entry, _Variant):
        return Other("variant", entry.release)
    if isinstance(entry, _Refuse):
        return Refuse()
    if isinstance(entry, _Constant):
        given = _given(entry, body.manifest, faults, where)
        return None if given is None else Constant(given)
    cases, answers = [], []
    for number, case in enumerate(entry.cases):
        cases.append(list(_conditions(case.when, body.contract, faults, f"{where}, case {number}")))
        answers.append(_given(case.then, body.manifest, faults, f"{where}, case {number}"))
    answers.append(_given(entry.otherwise, body.manifest, faults, f"{where}, otherwise"))
    return Rule(cases, [given for given in answers if given is not None])  # one that lacks is a fault, and told


def _conditions(when: Sequence[Condition], contract: Contract, faults: list[str], where: str) -> Iterator[Meets]:
    for number, condition in enumerate(when):
        try:
            yield ready(condition, contract)
        except Unusable as fault:
            faults.append(f"{where}, condition {number}: {fault}")


def _given(answer: _Answer, manifest: Manifest, faults: list[str], where: str) -> Given | None:
    """Return an answer in the shape of the task; None where it is not one, and that is a fault."""
    if manifest.task is Task.REGRESSION:
        if answer.value is not None and math.isfinite(answer.value):
            return Given(value=float(answer.value))
        faults.append(f"{where}: `value` is {answer.value!r}, wanted a finite number")
        return None
    classes = manifest.classes
    if answer.label not in classes:
        near = difflib.get_close_matches(str(answer.label)[:100], classes, n=1)
        tail = f", nearest `{near[0]}`" if near else ""
        faults.append(f"{where}: `label` is {answer.label!r:.100}, wanted one of {_listed(classes)}{tail}")
        return None
    shares = answer.probabilities
    if shares is None:  # all of it is on the label
        shares = [1.0 if name == answer.label else 0.0 for name in classes]
    elif isinstance(shares, dict):
        shares = [shares[name] for name in classes] if shares.keys() == set(classes) else []
    if (
        len(shares) != len(classes)
        or not all(0 <= share <= 1 for share in shares)
        or abs(math.fsum(shares) - 1) > SUM_TOLERANCE
    ):
        faults.append(f"{where}: `probabilities` must have a share for each class, 1 in sum")
        return None
    return Given(label=str(answer.label), probabilities=tuple(map(float, shares)))


def _settled(given: Sequence[Given]) -> Settled:
    if given[0].value is not None:
        return Settled(values=[one.value for one in given if one.value is not None])
    return Settled(labels=[one.label for one in given], probabilities=[list(one.probabilities) for one in given])
