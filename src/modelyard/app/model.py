"""A release opened in this process, for whoever works in Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelyard.bundle.open import Answers, Bundle
from modelyard.core.ids import ReleaseId
from modelyard.errors import UsageError


class Model:
    """A sealed release, every byte verified when it was opened. Safe to use from one thread at a time."""

    def __init__(self, id: ReleaseId, bundle: Bundle) -> None:
        self.id, self.bundle = id, bundle

    def predict(self, rows: Any) -> Answers:
        """Answer rows: a list of mappings, a mapping of columns, or a frame of polars or pandas.

        Raises: ContractBroken with row, column and reason; UsageError for anything else.
        """
        if isinstance(rows, Mapping):
            return self.bundle.predict_values(rows)
        if isinstance(rows, Sequence) and not isinstance(rows, str | bytes):
            return self.bundle.predict(rows)
        return self.bundle.predict_values(_columns_of(rows))

    def records(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Answer rows with a record each: `label` and `probabilities` by class, or `value`; raises ContractBroken."""
        answers = self.predict(rows)
        if answers.values is not None:
            return [{"value": value} for value in answers.values.tolist()]
        assert answers.labels is not None and answers.probabilities is not None
        classes = self.bundle.manifest.classes
        return [
            {"label": label, "probabilities": dict(zip(classes, shares, strict=True))}
            for label, shares in zip(answers.labels.tolist(), answers.probabilities.tolist(), strict=True)
        ]

    def close(self) -> None:
        """Free the graph; twice is harmless."""
        self.bundle.close()

    def __repr__(self) -> str:
        return f"<modelyard release {self.id}, body {self.bundle.body.digest[:12]}>"


def _columns_of(frame: Any) -> dict[str, list[Any]]:
    """Return a frame's columns as lists, by the methods that polars and pandas frames have."""
    if hasattr(frame, "get_columns"):
        return {column.name: column.to_list() for column in frame.get_columns()}
    if hasattr(frame, "items") and hasattr(frame, "isna"):
        objects = frame.astype(object).where(~frame.isna(), None)
        return {str(name): column.tolist() for name, column in objects.items()}
    raise UsageError(f"Rows are a {type(frame).__name__}: wanted a list of mappings, a mapping of columns or a frame.")
