"""The data room: from files that people bring to checked, typed, split tables.

A `DataPlan` and paths enter; `Prepared` with Parquet parts, a quarantine file and possible leaks leaves,
and columns in memory for whoever reads rows. It must never guess in silence, drop a row without
a record, learn anything from rows outside the training part, or hand out a polars object.
"""

from __future__ import annotations

from modelyard.data.origin import digest_sources
from modelyard.data.prepare import prepare
from modelyard.data.stream import Batch, stream
from modelyard.data.tables import TableFiles
from modelyard.data.write import AnswerFile

__all__ = ["AnswerFile", "Batch", "TableFiles", "digest_sources", "prepare", "stream"]
