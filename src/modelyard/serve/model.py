"""What a front knows of a release without its graph."""

from __future__ import annotations

from modelyard.bundle.format import Body
from modelyard.bundle.intake import Intake, Packed
from modelyard.core.arrays import Columns
from modelyard.core.contract import Contract, Kind
from modelyard.core.metrics import Task
from modelyard.serve.batching import Said
from modelyard.serve.messages import Limits


class Model:
    """A release's body with all that is asked of it again with every request."""

    def __init__(self, release: str, body: Body, limits: Limits) -> None:
        self.release, self.body, self.limits = release, body, limits
        self.release_bytes = release.encode()
        self.said = Said(release, release, "", None)  # of plain answers; the request's id is put in when one is written
        self.name, _, self.version = release.partition("@")
        self.contract: Contract = body.contract
        self.classes = body.manifest.classes
        self.unknown_category = body.manifest.unknown_category
        self.intake = Intake(body.contract, unknown_category=self.unknown_category)
        self.is_regression = body.manifest.task is Task.REGRESSION
        self.output_names = ("value",) if self.is_regression else ("label", "probabilities")
        self._complete = [  # categories of which training saw every value
            (place, column.name, frozenset(column.categories))
            for place, column in enumerate(self.intake.strings)
            if column.kind is Kind.CATEGORY and column.distinct == len(column.categories)
        ]
        self.watches_categories = bool(self._complete)  # values that training never saw are counted

    def unknown_categories(self, packed: Packed) -> list[str]:
        """Return the column of each category that training never saw, of the columns of which it saw all."""
        found = []
        wide = len(self.intake.strings)
        for place, name, known in self._complete:
            for value in packed.strings[place::wide]:
                if value is not None and value not in known:
                    found.append(name)
        return found

    def columns(self, packed: Packed, rows: int) -> Columns:
        """Return packed rows as columns."""
        return self.intake.columns(packed, rows)
