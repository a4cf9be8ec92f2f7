"""`data`: where the rows are, how they are read, what each column is for, how they are split."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from modelyard.core.contract import Kind, Role
from modelyard.core.data_plan import NULL_VALUES, Format
from modelyard.spec.faults import Fault
from modelyard.spec.paths import path_faults
from modelyard.spec.section import Label, Section
from modelyard.spec.task import ModelType, TaskSpec
from modelyard.spec.world import World

LEAST_TRAIN_SHARE = 0.1
_ENCODING = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,40}")

ColumnRole = Literal[
    Role.FEATURE, Role.ID, Role.GROUP, Role.TIME, Role.WEIGHT, Role.AUDIT, Role.IGNORE
]  # the target is named by `task.target` alone


class SplitMethod(StrEnum):
    """How rows are told apart into train, calibrate, valid and test."""

    AUTO = "auto"
    RANDOM = "random"
    STRATIFIED = "stratified"
    GROUP = "group"
    TIME = "time"


class ColumnSpec(Section):
    """What is declared of one column; the rest is inferred and shown."""

    kind: Kind | None = Field(default=None, description="Type of the values; inferred where it is not given.")
    role: ColumnRole | None = Field(
        default=None,
        description="What the column is for; a feature, unless it looks like an id. "
        "`audit` is protected: for slices and fairness only, never seen by the model, masked in logs.",
    )
    format: str | None = Field(
        default=None,
        pattern="%",
        max_length=100,
        description="How dates or times that are not ISO 8601 are written, as strftime does.",
        json_schema_extra={"x-wanted": 'how dates are written, such as "%d/%m/%Y"'},
    )


class SplitSpec(Section):
    """How the rows are told apart. What is left after the three shares is the training part."""

    method: SplitMethod = Field(
        default=SplitMethod.AUTO,
        description="How rows are drawn; auto takes time or group where a column has that role, else stratified "
        "for classes and random for numbers.",
    )
    test: float = Field(
        default=0.2,
        ge=0,
        lt=1,
        description="Share of rows that is seen once, on the packed bundle; not used where `test_path` brings them.",
        json_schema_extra={"x-wanted": "a number above 0 and below 1 (0 only where `data.test_path` brings the rows)"},
    )
    calibrate: float = Field(
        default=0.1, ge=0, lt=1, description="Share of rows to calibrate probabilities on; not used for regression."
    )
    valid: float = Field(
        default=0.15, gt=0, lt=1, description="Share of rows to choose the candidate and the threshold on."
    )


def _one_sign(text: str) -> str:
    if len(text) != 1 or text in '"\r\n\0' or not text.isascii():
        raise ValueError("not one sign")
    return text


def _known_encoding(text: str) -> str:
    if not _ENCODING.fullmatch(text):
        raise ValueError("not a name")
    try:
        b"a".decode(text)  # a codec that does not give text raises LookupError too
    except UnicodeError:
        return text  # UTF-16 needs more than one byte
    except LookupError as error:
        raise ValueError("unknown") from error
    return text


class DataSpec(Section):
    """Where the rows are, how they are read, what each column is for, how they are split."""

    path: str = Field(
        min_length=1, description="File or folder of parts with the rows, relative to the spec's own folder."
    )
    test_path: str | None = Field(
        default=None, min_length=1, description="File or folder with test rows of their own, where there are such."
    )
    format: Format = Field(default=Format.AUTO, description="Format of the files; auto goes by their names.")
    separator: Annotated[str, AfterValidator(_one_sign)] = Field(
        default=",",
        description="Sign between the values of a CSV row.",
        json_schema_extra={"minLength": 1, "maxLength": 1, "x-wanted": "one sign, neither a quote nor a line break"},
    )
    encoding: Annotated[str, AfterValidator(_known_encoding)] = Field(
        default="utf-8",
        description="Encoding of CSV and JSON lines.",
        json_schema_extra={"x-wanted": "the name of a text encoding, such as utf-8 or latin-1"},
    )
    null_values: tuple[Label, ...] = Field(
        default=NULL_VALUES, max_length=100, description="Texts that mean a missing value."
    )
    allowed_malformed_share: float = Field(
        default=0.01, ge=0, lt=1, description="Share of rows that may be malformed; with more the run stops."
    )
    columns: Mapping[str, ColumnSpec] = Field(
        default={}, description="Columns with a type or role other than the inferred one, by name."
    )
    split: SplitSpec = Field(default=SplitSpec(), description="How the rows are told apart into parts.")

    def with_role(self, role: Role) -> tuple[str, ...]:
        """Return the names of the columns that the spec gives this role."""
        return tuple(name for name, column in self.columns.items() if column.role is role)


def check_data(data: DataSpec, task: TaskSpec, world: World) -> Iterator[Fault]:
    """Yield what is wrong with the paths, the roles and the split."""
    yield from path_faults(("data", "path"), data.path, data.format, world)
    if data.test_path is not None:
        yield from path_faults(("data", "test_path"), data.test_path, data.format, world)
    yield from _check_columns(data, task)
    yield from _check_split(data, task)


def _check_columns(data: DataSpec, task: TaskSpec) -> Iterator[Fault]:
    target = data.columns.get(task.target)
    if target is not None and target.role is not None:
        yield Fault(
            place=("data", "columns", task.target, "role"),
            seen=f"the role {target.role.value} for the target",
            wanted="no role: `task.target` makes it the target",
            reads=(("task", "target"),),
        )
    for name, column in data.columns.items():
        if column.format is not None and (column.kind is None or not column.kind.is_time):
            yield Fault(
                place=("data", "columns", name, "format"), seen="a format without `kind: date` or `kind: datetime`",
                wanted="one of these kinds beside it", reads=(("data", "columns", name, "kind"),),
            )  # fmt: skip
    for role in (Role.GROUP, Role.TIME, Role.WEIGHT):
        for name in data.with_role(role)[1:]:
            yield Fault(
                place=("data", "columns", name, "role"),
                seen=f"a second column with the role {role.value}",
                wanted="one at most",
                reads=(("data", "columns"),),
            )


def _check_split(data: DataSpec, task: TaskSpec) -> Iterator[Fault]:
    split, here = data.split, ("data", "split")
    needed = {SplitMethod.TIME: Role.TIME, SplitMethod.GROUP: Role.GROUP}.get(split.method)
    if needed is not None and not data.with_role(needed):
        yield Fault(
            place=(*here, "method"),
            seen=split.method.value,
            wanted=f"a column with `role: {needed.value}` under `data.columns` to split by",
            reads=(("data", "columns"),),
        )
    if split.method is SplitMethod.STRATIFIED and task.type is ModelType.REGRESSION:
        yield Fault(
            place=(*here, "method"), seen="stratified in a regression", wanted="random, group or time",
            reads=(("task", "type"),),
        )  # fmt: skip
    if split.test == 0 and data.test_path is None:
        yield Fault(
            place=(*here, "test"), seen="0 without `data.test_path`", wanted="a number above 0 and below 1",
            reads=(("data", "test_path"),),
        )  # fmt: skip
    if split.test > 0 and data.test_path is not None and "test" in split.model_fields_set:
        yield Fault(
            place=(*here, "test"),
            seen=f"{split.test} beside `data.test_path`",
            wanted="0, or no such line: the test rows come from their own file",
            reads=(("data", "test_path"),),
        )
    if split.calibrate > 0 and task.type is ModelType.REGRESSION and "calibrate" in split.model_fields_set:
        yield Fault(
            place=(*here, "calibrate"), seen=f"{split.calibrate} in a regression",
            wanted="0, or no such line: there are no probabilities to calibrate", reads=(("task", "type"),),
        )  # fmt: skip
    taken = sum(shares(data, task))
    if taken > 1 - LEAST_TRAIN_SHARE + 1e-9:
        yield Fault(
            place=here,
            seen=f"{round(taken, 6)} of the rows for test, calibrate and valid together",
            wanted=f"at most {1 - LEAST_TRAIN_SHARE}, so that a tenth is left to train on",
            reads=(("data", "test_path"), ("task", "type")),
        )


def shares(data: DataSpec, task: TaskSpec) -> tuple[float, float, float]:
    """Return the shares of test, calibrate and valid that are in effect."""
    split = data.split
    test = split.test if data.test_path is None else 0.0
    calibrate = 0.0 if task.type is ModelType.REGRESSION else split.calibrate
    return test, calibrate, split.valid
