"""The graph of a release runs with ONNX Runtime alone, on the raw columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.extras.environments import Environment
from tests.extras.released import Released, labels_of, shares_of


@pytest.mark.extras
def test_onnxruntime_alone_gives_the_answers_that_modelyard_gives(
    raw_release: Released, with_onnxruntime: Environment, nowhere: Path, tmp_path: Path
) -> None:
    rows = raw_release.write_json(tmp_path / "rows.json")
    done = with_onnxruntime.script(
        "graph_answers.py", str(raw_release.body / "model.onnx"), str(rows),
        home=nowhere, settings={"ORT_DISABLE_TELEMETRY": "1"},
    )  # fmt: skip
    assert done.code == 0, done.err
    told, here = done.json, raw_release.answers()
    assert not told["ours"]
    assert set(told["inputs"]) <= set(raw_release.asked.columns)
    assert set(told["inputs"].values()) <= {"tensor(double)", "tensor(string)"}
    if here.values is not None:
        # ONNX Runtime adds up the trees in another order on several threads, in float32.
        np.testing.assert_allclose(np.ravel(told["outputs"]["value"]), here.values, rtol=1e-6)
        return
    assert np.ravel(told["outputs"]["label"]).tolist() == labels_of(here)
    np.testing.assert_allclose(told["outputs"]["probabilities"], shares_of(here), rtol=0, atol=1e-6)


def test_missing_values_are_among_the_rows_that_are_asked(shop: Released) -> None:
    assert shop.asked["hours"].null_count() > 0
