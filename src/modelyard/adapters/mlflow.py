"""A body as an MLflow model: `mlflow.pyfunc.load_model(folder)` opens it whole.

MLflow finds this module by the body's `MLmodel` file. There is no MLflow signature on purpose: the body's
contract judges what comes, and a second judge would refuse integers with gaps and drop unknown columns unsaid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas  # type: ignore[import-untyped]  # comes with the extra `mlflow`

from modelyard.adapters.onnx_engine import OnnxLoader
from modelyard.bundle.open import Answers, Bundle, open_bundle
from modelyard.errors import UsageError


class BundleModel:
    """What MLflow calls a Python function: frames in, frames out. Safe to use from one thread at a time."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    def predict(self, model_input: Any) -> Any:
        """Return a frame with the answers, its index that of the frame that came.

        Classification: `label`, and `probability CLASS` for each class. Regression: `value`.

        Args:
            model_input: a frame of pandas, a mapping of columns, or a list of mappings.
        Raises: ContractBroken with row, column and reason; UsageError for input of another type.
        """
        if isinstance(model_input, pandas.DataFrame):
            return self._frame(self._bundle.predict_values(_columns(model_input)), model_input.index)
        if isinstance(model_input, Mapping):
            return self._frame(self._bundle.predict_values(model_input), None)
        if isinstance(model_input, Sequence) and not isinstance(model_input, str | bytes):
            return self._frame(self._bundle.predict(model_input), None)
        raise UsageError(
            f"Rows are a {type(model_input).__name__}: wanted a pandas frame with the release's columns by name, "
            "a mapping of columns, or a list of mappings."
        )

    def _frame(self, answers: Answers, index: Any) -> Any:
        if answers.values is not None:
            return pandas.DataFrame({"value": answers.values}, index=index)
        assert answers.labels is not None and answers.probabilities is not None
        named = {"label": answers.labels.astype(object)}
        for place, name in enumerate(self._bundle.manifest.classes):
            named[f"probability {name}"] = answers.probabilities[:, place]
        return pandas.DataFrame(named, index=index)


def _load_pyfunc(path: str) -> BundleModel:
    """Open a body for MLflow, every byte verified; raises BundleAltered, BundleFormat."""
    return BundleModel(open_bundle(Path(path), OnnxLoader()))


def _columns(frame: Any) -> dict[str, list[Any]]:
    """Return a frame's columns as lists, None where pandas has NaN, NaT or NA."""
    objects = frame.astype(object).where(~frame.isna(), None)
    return {str(name): column.tolist() for name, column in objects.items()}
