"""What the spec asks of the data, as the data room needs it: where it is, how it is written, how it is split."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from modelyard.core.contract import Kind, Role, Share

PartShare = Annotated[float, msgspec.Meta(ge=0, lt=1)]


class Goal(StrEnum):
    """What the spec asks for; whether a classification is binary follows from its classes."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"


class Format(StrEnum):
    """How a file is written. CSV and JSON lines may be gzipped, which is seen from their first bytes."""

    AUTO = "auto"  # by the ending of its name
    CSV = "csv"
    PARQUET = "parquet"
    JSONL = "jsonl"


class SplitMethod(StrEnum):
    """How rows are dealt to the parts."""

    RANDOM = "random"
    STRATIFIED = "stratified"  # each class in the same shares; random for a regression
    GROUP = "group"  # all rows of one group in one part
    TIME = "time"  # oldest first: train, calibrate, valid, test


NULL_VALUES = ("", "?", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None")


class Reading(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How files are read, in training and afterwards.

    `null_values` are texts that mean "missing", in every format. Blanks around a value of a CSV
    file are not part of it.
    """

    format: Format = Format.AUTO
    separator: Annotated[str, msgspec.Meta(min_length=1, max_length=1)] = ","
    encoding: str = "utf-8"
    null_values: tuple[str, ...] = NULL_VALUES
    most_rows: Annotated[int, msgspec.Meta(ge=1)] = 50_000_000
    most_columns: Annotated[int, msgspec.Meta(ge=1)] = 10_000
    longest_row_bytes: Annotated[int, msgspec.Meta(ge=1_000)] = 1_000_000


class Declared(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is said of a column beforehand; what is not said is inferred."""

    kind: Kind | None = None
    role: Role | None = None
    format: str | None = None  # of dates and times that are not ISO 8601, as strftime writes it: "%d/%m/%Y"


class Split(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many rows each part gets, as shares of all rows; the rest is for training.

    With a test file of its own, `test` counts for nothing: that file is the test part.
    """

    method: SplitMethod = SplitMethod.STRATIFIED
    test: PartShare = 0.2
    calibrate: PartShare = 0.1
    valid: PartShare = 0.1
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0


class DataPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The data section of a spec. `path` and `test_path` are a file, or a folder of parts in one format."""

    goal: Goal
    target: str
    path: str
    test_path: str | None = None
    positive: str | None = None  # the class of interest of a binary task; None: the rarer one
    columns: dict[str, Declared] = {}
    reading: Reading = Reading()
    allowed_malformed_share: Share = 0.01
    split: Split = Split()
