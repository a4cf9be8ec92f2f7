"""`serving.fallback`: what answers when the model cannot, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from modelyard.spec.faults import Fault, Place, listed, quoted, show
from modelyard.spec.section import Label, Section
from modelyard.spec.task import ModelType, TaskSpec

SUM_TOLERANCE = 1e-6
RELEASE = r"^[a-z][a-z0-9_-]{0,62}@[1-9][0-9]{0,8}$"
MOST_CASES = 100
MOST_CONDITIONS = 20  # of one case
MOST_VALUES = 1000  # of one `one_of`

Scalar = str | int | float | bool
_BOUNDS_WANTED = "a number, or text for a date"


class Comparison(StrEnum):
    """What a rule asks of a value."""

    AT_LEAST = "at_least"
    ABOVE = "above"
    AT_MOST = "at_most"
    BELOW = "below"
    EQUALS = "equals"
    ONE_OF = "one_of"
    MISSING = "missing"

    @property
    def is_bound(self) -> bool:
        """Say whether values are compared by size."""
        return self in (Comparison.AT_LEAST, Comparison.ABOVE, Comparison.AT_MOST, Comparison.BELOW)


class PreviousFallback(Section):
    """The release that answered before this one; passed over where there is none."""

    kind: Literal["previous"] = Field(description="The release before this one answers, marked as degraded.")


class VariantFallback(Section):
    """Another sealed release that answers the same question, such as a smaller one."""

    kind: Literal["variant"] = Field(description="Another sealed release answers, marked as degraded.")
    release: str = Field(
        pattern=RELEASE,
        description="The release; it must answer the same rows with the same classes.",
        json_schema_extra={"x-wanted": "a release such as income-small@3: a name, `@` and a number from 1"},
    )


class Answer(Section):
    """What a rule answers: a label with probabilities, or a number."""

    label: Label | None = Field(default=None, description="Class to answer (classification).")
    probabilities: Mapping[str, Annotated[float, Field(ge=0, le=1)]] | None = Field(
        default=None, description="Probability of each class; together 1 (classification)."
    )
    value: float | None = Field(default=None, description="Number to answer (regression).")


class Condition(Section):
    """One question to a column. A missing value meets no condition but `missing`."""

    model_config = ConfigDict(serialize_by_alias=True)

    column: str = Field(min_length=1, description="Column to look at; one that the model is given.")
    test: Comparison = Field(alias="is", description="What its value must be.")
    value: Scalar | tuple[Scalar, ...] | None = Field(
        default=None,
        description="What it is compared with; a list for `one_of`, nothing for `missing`. Dates are ISO 8601 text.",
        json_schema_extra={"x-wanted": "a number, text, true or false; a list of them for `one_of`"},
    )


class Case(Section):
    """One case of a rule: what must hold together, and the answer where it does."""

    when: tuple[Condition, ...] = Field(
        min_length=1, max_length=MOST_CONDITIONS, description="Conditions that must all be met."
    )
    then: Answer = Field(description="What is answered to a row that meets them.")


class RuleFallback(Section):
    """A rule of cases, the first that a row meets answers it."""

    kind: Literal["rule"] = Field(description="A rule over the columns answers, marked as degraded.")
    cases: tuple[Case, ...] = Field(
        min_length=1, max_length=MOST_CASES, description="Cases in order; the first that a row meets answers it."
    )
    otherwise: Answer = Field(description="What is answered to a row that meets no case.")


class ConstantFallback(Section):
    """The same answer for every row: a label with probabilities, or a number."""

    kind: Literal["constant"] = Field(description="The same answer for every row, marked as degraded.")
    label: Label | None = Field(default=None, description="Class to answer (classification).")
    probabilities: Mapping[str, Annotated[float, Field(ge=0, le=1)]] | None = Field(
        default=None, description="Probability of each class; together 1 (classification)."
    )
    value: float | None = Field(default=None, description="Number to answer (regression).")


class RefuseFallback(Section):
    """No answer: 503 with Retry-After."""

    kind: Literal["refuse"] = Field(description="Answer 503 with Retry-After.")


Fallback = Annotated[
    PreviousFallback | VariantFallback | RuleFallback | ConstantFallback | RefuseFallback,
    Field(
        discriminator="kind",
        json_schema_extra={"x-wanted": "a mapping with `kind`: previous, variant, rule, constant or refuse"},
    ),
]


def answers(order: Sequence[Fallback]) -> Iterator[tuple[Place, Answer | ConstantFallback]]:
    """Yield every answer that stands in an order of fallbacks, with its place."""
    for index, fallback in enumerate(order):
        place: Place = ("serving", "fallback", index)
        if isinstance(fallback, ConstantFallback):
            yield place, fallback
        elif isinstance(fallback, RuleFallback):
            for number, case in enumerate(fallback.cases):
                yield (*place, "cases", number, "then"), case.then
            yield (*place, "otherwise"), fallback.otherwise


def conditions(order: Sequence[Fallback]) -> Iterator[tuple[Place, Condition]]:
    """Yield every condition that stands in an order of fallbacks, with its place."""
    for index, fallback in enumerate(order):
        if isinstance(fallback, RuleFallback):
            for number, case in enumerate(fallback.cases):
                for item, condition in enumerate(case.when):
                    yield ("serving", "fallback", index, "cases", number, "when", item), condition


def in_words(fallback: Fallback) -> str:
    """Return what a fallback does, in one line.

    >>> in_words(RefuseFallback(kind="refuse"))
    'refuse: 503 with Retry-After'
    """
    if isinstance(fallback, RefuseFallback):
        return "refuse: 503 with Retry-After"
    if isinstance(fallback, PreviousFallback):
        return "previous: the release before this one, marked as degraded"
    if isinstance(fallback, VariantFallback):
        return f"variant: {fallback.release}, marked as degraded"
    if isinstance(fallback, RuleFallback):
        cases = "1 case" if len(fallback.cases) == 1 else f"{len(fallback.cases)} cases"
        return f"rule: {cases} and otherwise {_said(fallback.otherwise)}, marked as degraded"
    return f"constant: {_said(fallback)}, marked as degraded"


def _said(answer: Answer | ConstantFallback) -> str:
    return f"{answer.value:g}" if answer.value is not None else str(answer.label)


def check_fallback(order: Sequence[Fallback], task: TaskSpec) -> Iterator[Fault]:
    """Yield what does not go together in the order of fallbacks."""
    yield from _check_order(order)
    for place, condition in conditions(order):
        yield from _check_condition(place, condition, task)
    for place, answer in answers(order):
        yield from _check_answer(place, answer, task)


def _check_order(order: Sequence[Fallback]) -> Iterator[Fault]:
    """Yield a fault for each step that is never reached, or was tried before."""
    ending: str | None = None
    seen: set[str] = set()
    for index, fallback in enumerate(order):
        place = ("serving", "fallback", index)
        if ending is not None:
            yield Fault(
                place=place, seen=f"{fallback.kind} after {ending}",
                wanted="nothing after a fallback that always answers", reads=(("serving", "fallback"),),
            )  # fmt: skip
        if not isinstance(fallback, PreviousFallback | VariantFallback):
            ending = ending or fallback.kind
            continue
        other = fallback.release if isinstance(fallback, VariantFallback) else fallback.kind
        if other in seen:
            yield Fault(
                place=place, seen=f"{other} a second time", wanted="each release once: it would fail again",
                reads=(("serving", "fallback"),),
            )  # fmt: skip
        seen.add(other)


def _check_condition(place: Place, condition: Condition, task: TaskSpec) -> Iterator[Fault]:
    value, test = condition.value, condition.test
    reads = ((*place, "is"),)
    if condition.column == task.target:
        yield Fault(
            place=(*place, "column"), seen=f"{quoted(condition.column)}, the target",
            wanted="a column that is known before the answer", reads=(("task", "target"),),
        )  # fmt: skip
    if test is Comparison.MISSING:
        wanted = None if value is None else "no such line: `missing` compares with nothing"
    elif value is None:
        wanted = f"`value`: `{test.value}` compares with it"
    elif test is Comparison.ONE_OF:
        good = isinstance(value, tuple) and 0 < len(value) <= MOST_VALUES
        wanted = None if good else f"a list of 1 to {MOST_VALUES} values: `one_of` looks among them"
    elif isinstance(value, tuple):
        wanted = f"one value; a list only with `is: {Comparison.ONE_OF.value}`"
    elif test.is_bound and isinstance(value, bool):
        wanted = f"{_BOUNDS_WANTED}: `{test.value}` compares by size"
    else:
        wanted = None
    if wanted is not None:
        yield Fault(place=(*place, "value"), seen=show(value), wanted=wanted, reads=reads)


def _check_answer(place: Place, answer: Answer | ConstantFallback, task: TaskSpec) -> Iterator[Fault]:
    reads = (("task", "type"),)
    number = task.type is ModelType.REGRESSION
    who = "a constant answers" if isinstance(answer, ConstantFallback) else "a rule answers"
    for name in ("value",) if number else ("label", "probabilities"):
        if getattr(answer, name) is None:
            yield Fault(
                place=(*place, name), seen="nothing", wanted=f"`{name}`: {who} a {task.type.value} with it",
                reads=reads,
            )  # fmt: skip
    for name in ("label", "probabilities") if number else ("value",):
        if getattr(answer, name) is not None:
            yield Fault(
                place=(*place, name), seen=show(getattr(answer, name)),
                wanted=f"no such line: a {task.type.value} is not answered with it", reads=reads,
            )  # fmt: skip
    if answer.probabilities is not None and not number:
        classes = listed([quoted(one) for one in answer.probabilities], most=8)
        total = sum(answer.probabilities.values())
        if abs(total - 1) > SUM_TOLERANCE:
            yield Fault(
                place=(*place, "probabilities"), seen=f"probabilities that add up to {total:.6g}", wanted="1 together"
            )
        if answer.label is not None and answer.label not in answer.probabilities:
            yield Fault(
                place=(*place, "label"), seen=show(answer.label),
                wanted=f"a class under `probabilities`: {classes}",
                reads=((*place, "probabilities"),),
            )  # fmt: skip
