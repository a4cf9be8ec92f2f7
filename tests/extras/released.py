"""A release of a small system, with rows and what `modelyard.open` answers to them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from modelyard.app.model import Model
from modelyard.bundle.open import Answers
from modelyard.core.ids import ReleaseId
from tests.extras.systems import SYSTEMS
from tests.journeys.making import Place
from tests.journeys.shared import built

ROWS = 200  # that are asked


@dataclass(frozen=True)
class Released:
    """A sealed release and where it is."""

    name: str
    place: Place

    @property
    def ref(self) -> str:
        return f"{self.name}@1"

    @property
    def body(self) -> Path:
        """The folder that MLflow and ONNX Runtime open."""
        with self.place.app.store() as store:
            return store.releases.body(ReleaseId(name=self.name, number=1))

    @property
    def asked(self) -> pl.DataFrame:
        """Feature columns of the rows that are asked, in which values are missing where they may be."""
        model = self.open()
        frame = SYSTEMS[self.name].rows().head(ROWS)
        return frame.select(column.name for column in model.bundle.body.contract.features)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.open().bundle.manifest.classes

    def open(self) -> Model:
        return self.place.app.open(self.ref)

    def answers(self) -> Answers:
        """Answer the rows in this process."""
        return self.open().predict(self.asked)

    def write_rows(self, path: Path) -> Path:
        """Write the rows as Parquet."""
        self.asked.write_parquet(path)
        return path

    def write_json(self, path: Path, rows: pl.DataFrame | None = None) -> Path:
        """Write the rows as JSON, column by column."""
        path.write_text(json.dumps((self.asked if rows is None else rows).to_dict(as_series=False)))
        return path


def released(factory: pytest.TempPathFactory, name: str) -> Released:
    """Return the release of a system, built by whoever asks first."""
    system = SYSTEMS[name]
    return Released(name, built(factory, name, system.text, system.rows))


def shares_of(answers: Answers) -> Any:
    """Return the probabilities as nested lists."""
    assert answers.probabilities is not None
    return answers.probabilities.tolist()


def labels_of(answers: Answers) -> list[str]:
    """Return the labels."""
    assert answers.labels is not None
    return [str(label) for label in answers.labels]
