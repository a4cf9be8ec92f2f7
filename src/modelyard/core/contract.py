"""What the columns of a table are, learned from the training part and sealed in the release."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from modelyard.core.metrics import Task

Count = Annotated[int, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Dimension = Annotated[int, msgspec.Meta(ge=-1)]


class Kind(StrEnum):
    """The type of a column; `Columns` in core/arrays.py says how each is held in memory."""

    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    CATEGORY = "category"  # a string with values that come again
    TEXT = "text"  # a string of words
    DATE = "date"
    DATETIME = "datetime"
    TENSOR = "tensor"  # an array a row, such as an image or the ids of a text

    @property
    def is_numeric(self) -> bool:
        return self in (Kind.INTEGER, Kind.NUMBER, Kind.BOOLEAN)

    @property
    def is_string(self) -> bool:
        return self in (Kind.CATEGORY, Kind.TEXT)

    @property
    def is_time(self) -> bool:
        return self in (Kind.DATE, Kind.DATETIME)

    @property
    def is_cell(self) -> bool:
        """Say whether a value is eight bytes: a number, or a moment in microseconds."""
        return self.is_numeric or self.is_time


class Role(StrEnum):
    """What a column is for. Only features reach the model."""

    FEATURE = "feature"
    TARGET = "target"
    ID = "id"
    GROUP = "group"  # rows of one group never stand on both sides of a split
    TIME = "time"
    WEIGHT = "weight"
    AUDIT = "audit"  # protected: for slices and fairness only, masked in logs
    IGNORE = "ignore"


class Column(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One column as the training part showed it.

    `minimum` and `maximum` are of the numbers, or of microseconds since 1970 for dates and times.
    `categories` are the values seen of a category, most frequent first, at most `MOST_CATEGORIES`;
    `distinct` counts all of them.
    """

    name: str
    kind: Kind
    role: Role
    nullable: bool  # missing values were seen, so they are allowed
    missing_share: Share = 0.0
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] = ()
    distinct: Count = 0
    longest: Count = 0  # characters of the longest string
    format: str | None = None  # of dates and times written otherwise than ISO 8601, such as "%d/%m/%Y"
    datatype: str | None = None  # of a tensor's elements, as the Open Inference Protocol names them
    shape: tuple[Dimension, ...] = ()  # of a tensor, without the rows; -1 is any size


MOST_CATEGORIES = 1000


class Contract(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The columns of a table, in file order, with what is asked of them.

    `classes` are the labels of a classification as strings, in the order of the probabilities;
    for a binary task the positive class is the last.
    """

    task: Task
    target: str
    columns: tuple[Column, ...]
    classes: tuple[str, ...] = ()
    missing_texts: tuple[str, ...] = ()  # strings that mean a missing value, in files and in requests alike

    def column(self, name: str) -> Column:
        """Return the column of that name; raises KeyError."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def with_role(self, *roles: Role) -> tuple[Column, ...]:
        """Return the columns of these roles, in order."""
        return tuple(column for column in self.columns if column.role in roles)

    @property
    def features(self) -> tuple[Column, ...]:
        return self.with_role(Role.FEATURE)


class Quarantined(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row that could not be used: file, row (the header is row 1), column and reason."""

    file: str
    row: int
    column: str | None
    reason: str
    text: str  # the row as read, at most 500 characters


class Leak(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that may let the answer into the question."""

    rule: str  # "duplicate_rows" | "predicts_target" | "id_like" | "known_later"
    column: str | None
    strength: float
    reason: str


class Histogram(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Counts in `len(counts)` bins; bin i is [edges[i], edges[i + 1])."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


class ColumnProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A column's distribution in the training part, for the report and for drift."""

    column: str
    missing_share: Share
    distinct: Count
    mean: float | None = None
    deviation: float | None = None
    quantiles: dict[str, float] = {}  # "0.05", "0.25", "0.5", "0.75", "0.95"
    histogram: Histogram | None = None
    top: tuple[tuple[str, int], ...] = ()  # the ten most frequent values with their counts


class Part(StrEnum):
    """A part of the table and what it may be used for."""

    TRAIN = "train"
    CALIBRATE = "calibrate"  # early stopping never, calibration of probabilities only
    VALID = "valid"  # choosing candidates and the threshold
    TEST = "test"  # seen once, on the packed bundle


class Prepared(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The outcome of the data stage: a folder with one Parquet file a part, and what is known of them.

    Each `PART.parquet` holds the contract's columns (integers Int64, numbers Float64, booleans
    Boolean, strings String, dates Date, datetimes Datetime[us], the target of a classification as
    String), rows in source order.
    """

    contract: Contract
    rows: dict[Part, Count]
    rows_read: Count
    rows_quarantined: Count
    data_digest: str  # SHA-256 over the source files' bytes, in order
    sources: tuple[str, ...]
    profile: tuple[ColumnProfile, ...]
    leaks: tuple[Leak, ...]
    quarantine_sample: tuple[Quarantined, ...]  # the first 20; all of them are in quarantine.jsonl
    split_method: str
    notes: tuple[str, ...] = ()
