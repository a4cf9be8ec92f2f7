"""`task`: what the model answers."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from pydantic import Field

from modelyard.core.metrics import Task
from modelyard.spec.faults import Fault
from modelyard.spec.section import Label, Section


class ModelType(StrEnum):
    """What kind of answer a model gives."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"
    GENERATION = "generation"


class TaskSpec(Section):
    """What the model answers, and from which column it learns that."""

    type: ModelType = Field(
        description="Kind of answer: a class (classification) or a number (regression).",
        json_schema_extra={"not": {"const": "generation"}},
    )
    target: str = Field(min_length=1, description="Column that holds the answer.")
    positive: Label | None = Field(
        default=None,
        description="Class that counts as positive where there are two; the rarer one where it is not given.",
    )

    @property
    def kinds(self) -> tuple[Task, ...]:
        """The tasks this can be as far as the spec tells; the number of classes is the data's."""
        if self.type is ModelType.REGRESSION:
            return (Task.REGRESSION,)
        return (Task.BINARY,) if self.positive is not None else (Task.BINARY, Task.MULTICLASS)


def check_task(task: TaskSpec) -> Iterator[Fault]:
    """Yield what does not go together in the task."""
    if task.type is ModelType.GENERATION:
        yield Fault(
            place=("task", "type"),
            seen='"generation"',
            wanted="classification or regression: generation is not built yet in this version",
        )
    if task.type is ModelType.REGRESSION and task.positive is not None:
        yield Fault(
            place=("task", "positive"),
            seen="a positive class in a regression",
            wanted="`positive` only with `type: classification`",
            reads=(("task", "type"),),
        )
