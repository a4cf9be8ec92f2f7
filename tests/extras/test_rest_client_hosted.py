"""MLflow's client for its own scoring server is answered by ours."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tests.extras.environments import Environment
from tests.serve.bodies import CLASSES, GOLDEN_ROWS, expected, write_body
from tests.serve.running import service


@pytest.mark.extras
def test_the_client_of_mlflow_gets_a_frame_of_labels_and_probabilities(
    with_mlflow: Environment, nowhere: Path, tmp_path: Path
) -> None:
    body, rows = tmp_path / "income@1", tmp_path / "rows.json"
    asked = [{name: row[name] for name in ("age", "score", "city", "seen")} for row in GOLDEN_ROWS]
    rows.write_text(json.dumps(asked))
    with service(tmp_path / "run", {"income@1": (body, write_body(body))}) as running:
        done = with_mlflow.script("hosted_answers.py", str(running.port), str(rows), home=nowhere)
    assert done.code == 0, done.err
    told = done.json
    assert told["frame"] == told["records"]
    for record, logit in zip(told["frame"], expected(asked), strict=True):
        positive = 1 / (1 + math.exp(-logit))
        assert record.keys() == {"label", *(f"probability {name}" for name in CLASSES)}
        assert record["label"] == CLASSES[positive > 0.5]
        assert record[f"probability {CLASSES[1]}"] == pytest.approx(positive, abs=1e-6)
