"""A build under way: what the stages after the search share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modelyard.core.arrays import Columns
from modelyard.core.contract import Contract, Part, Prepared
from modelyard.evaluate.evaluation import Question
from modelyard.flow.ports import Ports
from modelyard.flow.stage import StageLog
from modelyard.spec.load import LoadedSpec
from modelyard.train.features import FeatureSet
from modelyard.train.search import Search


@dataclass(frozen=True, kw_only=True)
class Making:
    """The spec, the ports, and what earlier stages left."""

    loaded: LoadedSpec
    ports: Ports
    log: StageLog
    prepared: Prepared
    parts: Path  # the folder of the table's parts
    task: Search
    question: Question
    valid: Columns

    @property
    def features(self) -> FeatureSet:
        return self.task.features

    @property
    def contract(self) -> Contract:
        return self.prepared.contract

    def rows(self, part: Part) -> Columns:
        """Read a part of the table."""
        return self.ports.tables.read(self.parts / f"{part}.parquet")
