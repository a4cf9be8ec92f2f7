"""BODY REF ROWS: load a body with MLflow and a release with Modelyard, and write what both say of a Parquet file."""

from __future__ import annotations

import json
import sys
from typing import Any

import mlflow.pyfunc
import pandas  # type: ignore[import-untyped]

import modelyard


def main(body: str, ref: str, rows: str) -> None:
    frame = pandas.read_parquet(rows)
    frame.index = [f"row {place}" for place in range(len(frame))]
    answers = mlflow.pyfunc.load_model(body).predict(frame)
    ours = modelyard.open(ref).predict(frame)
    told: dict[str, Any] = {
        "frame": type(answers).__name__,
        "index": answers.index.tolist(),
        "columns": answers.columns.tolist(),
        "answers": {name: column.tolist() for name, column in answers.items()},
        "ours": {
            "label": None if ours.labels is None else ours.labels.tolist(),
            "probabilities": None if ours.probabilities is None else ours.probabilities.tolist(),
            "value": None if ours.values is None else ours.values.tolist(),
        },
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
