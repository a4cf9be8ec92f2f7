"""`serving`: how a release is served, and what answers when it cannot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from modelyard.spec.faults import Fault, listed, quoted, show
from modelyard.spec.section import Label, Section
from modelyard.spec.task import ModelType, TaskSpec

ENDPOINT = r"^/api/v[0-9]+/[a-z0-9\-]+$"
HOST = r"^([A-Za-z0-9]([A-Za-z0-9.\-]{0,251}[A-Za-z0-9])?|\[?[0-9A-Fa-f:]{2,45}\]?)$"
SUM_TOLERANCE = 1e-6


class UnknownCategory(StrEnum):
    """What becomes of a category that training never saw."""

    ACCEPT = "accept"
    REFUSE = "refuse"


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
    ConstantFallback | RefuseFallback,
    Field(discriminator="kind", json_schema_extra={"x-wanted": "a mapping with `kind`: constant or refuse"}),
]


class ServingSpec(Section):
    """How a release is served, and what answers when it cannot."""

    host: str = Field(
        default="127.0.0.1",
        pattern=HOST,
        description="Address to listen on.",
        json_schema_extra={"x-wanted": "a host name or an address, such as 127.0.0.1"},
    )
    port: int = Field(default=8080, ge=1, le=65535, description="Port to listen on.")
    endpoint: str | None = Field(
        default=None,
        pattern=ENDPOINT,
        description="A second address of the plain rows form, where wanted.",
        json_schema_extra={"x-wanted": "a path such as /api/v1/income: `/api/v`, a number, `/`, then a-z, 0-9 and `-`"},
    )
    deadline_ms: int = Field(default=1000, ge=1, le=600_000, description="Longest time until an answer.")
    max_batch_rows: int = Field(default=256, ge=1, le=100_000, description="Most rows in one batch to the model.")
    queue_rows: int = Field(
        default=4096, ge=1, le=10_000_000, description="Most rows that wait; beyond them the answer is 503 at once."
    )
    max_body_mb: float = Field(
        default=16.0, gt=0, le=1024, description="Largest request body, in millions of bytes; beyond it 413."
    )
    unknown_category: UnknownCategory = Field(
        default=UnknownCategory.ACCEPT,
        description="A category that training never saw: accept (the model treats it as unknown) or refuse (422).",
    )
    price_per_cpu_hour: float = Field(
        default=0.04, ge=0, le=1_000_000, description="Price of one core for an hour, for the cost figures."
    )
    drain_s: float = Field(default=10.0, ge=0, le=3600, description="Time that open requests get when a service stops.")
    fallback: tuple[Fallback, ...] = Field(
        default=(RefuseFallback(kind="refuse"),),
        min_length=1,
        max_length=8,
        description="What answers when the model cannot, in this order.",
    )


def check_serving(serving: ServingSpec, task: TaskSpec) -> Iterator[Fault]:
    """Yield what does not go together in serving."""
    if serving.queue_rows < serving.max_batch_rows:
        yield Fault(
            place=("serving", "queue_rows"),
            seen=str(serving.queue_rows),
            wanted=f"at least `max_batch_rows`, {serving.max_batch_rows}",
            reads=(("serving", "max_batch_rows"),),
        )
    for index, fallback in enumerate(serving.fallback):
        place = ("serving", "fallback", index)
        if index:
            yield Fault(
                place=place, seen=f"{fallback.kind} after {serving.fallback[0].kind}",
                wanted="nothing after a fallback that always answers", reads=(("serving", "fallback"),),
            )  # fmt: skip
        if isinstance(fallback, ConstantFallback):
            yield from _check_constant(fallback, task, index)


def _check_constant(constant: ConstantFallback, task: TaskSpec, index: int) -> Iterator[Fault]:
    place, reads = ("serving", "fallback", index), (("task", "type"),)
    number = task.type is ModelType.REGRESSION
    for name in ("value",) if number else ("label", "probabilities"):
        if getattr(constant, name) is None:
            yield Fault(
                place=(*place, name), seen="nothing",
                wanted=f"`{name}`: a constant answers a {task.type.value} with it", reads=reads,
            )  # fmt: skip
    for name in ("label", "probabilities") if number else ("value",):
        if getattr(constant, name) is not None:
            yield Fault(
                place=(*place, name), seen=show(getattr(constant, name)),
                wanted=f"no such line: a {task.type.value} is not answered with it", reads=reads,
            )  # fmt: skip
    if constant.probabilities is not None and not number:
        classes = listed([quoted(one) for one in constant.probabilities], most=8)
        total = sum(constant.probabilities.values())
        if abs(total - 1) > SUM_TOLERANCE:
            yield Fault(
                place=(*place, "probabilities"), seen=f"probabilities that add up to {total:.6g}", wanted="1 together"
            )
        if constant.label is not None and constant.label not in constant.probabilities:
            yield Fault(
                place=(*place, "label"), seen=show(constant.label),
                wanted=f"a class under `probabilities`: {classes}",
                reads=((*place, "probabilities"),),
            )  # fmt: skip
