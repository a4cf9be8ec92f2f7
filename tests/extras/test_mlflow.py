"""A body opens whole with MLflow and answers as `modelyard.open` does."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from modelyard import adapters
from modelyard.errors import MissingExtra
from tests.extras.environments import Environment
from tests.extras.released import Released, labels_of, shares_of

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}  # no tracker is asked
UNFIT = ("torch", "nvidia", "cuda", "triton")


@pytest.mark.extras
def test_mlflow_gives_the_answers_that_modelyard_gives(
    any_release: Released, with_mlflow: Environment, nowhere: Path, tmp_path: Path
) -> None:
    rows = any_release.write_rows(tmp_path / "rows.parquet")
    done = with_mlflow.script(
        "mlflow_answers.py", str(any_release.body), any_release.ref, str(rows),
        home=nowhere, settings={**QUIET, "MODELYARD_HOME": str(any_release.place.home)},
    )  # fmt: skip
    assert done.code == 0, done.err
    told, here = done.json, any_release.answers()
    assert told["frame"] == "DataFrame"
    assert told["index"] == [f"row {place}" for place in range(len(here))]
    if here.values is not None:
        assert told["columns"] == ["value"]
        assert told["answers"]["value"] == told["ours"]["value"] == here.values.tolist()
        return
    names = [f"probability {name}" for name in any_release.classes]
    assert told["columns"] == ["label", *names]
    assert told["answers"]["label"] == told["ours"]["label"] == labels_of(here)
    shares = np.stack([told["answers"][name] for name in names], axis=1).tolist()
    assert shares == told["ours"]["probabilities"] == shares_of(here)


@pytest.mark.extras
def test_mlflow_writes_nothing_and_asks_no_store(shop: Released, with_mlflow: Environment, nowhere: Path) -> None:
    before = sorted(path.name for path in shop.body.iterdir())
    code = f"import mlflow.pyfunc; mlflow.pyfunc.load_model({str(shop.body)!r}).predict([{{'age': 30, 'city': 'x'}}])"
    done = with_mlflow.call("-c", code, home=nowhere, settings=QUIET)
    assert done.code == 0, done.err
    assert list(nowhere.iterdir()) == []
    assert sorted(path.name for path in shop.body.iterdir()) == before


@pytest.mark.extras
def test_mlflow_opens_no_body_in_which_a_byte_was_changed(
    shop: Released, with_mlflow: Environment, nowhere: Path, tmp_path: Path
) -> None:
    body = Path(shutil.copytree(shop.body, tmp_path / "body"))
    graph = body / "model.onnx"
    graph.chmod(0o600)
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    code = f"import mlflow.pyfunc; mlflow.pyfunc.load_model({str(body)!r})"
    done = with_mlflow.call("-c", code, home=nowhere, settings=QUIET)
    assert done.code != 0
    assert "BundleAltered" in done.err and "model.onnx" in done.err


@pytest.mark.extras
def test_rows_that_break_the_contract_are_refused_by_column(
    shop: Released, with_mlflow: Environment, nowhere: Path
) -> None:
    code = (
        "import mlflow.pyfunc, pandas;"
        f"mlflow.pyfunc.load_model({str(shop.body)!r}).predict(pandas.DataFrame({{'age': [1], 'town': ['x']}}))"
    )
    done = with_mlflow.call("-c", code, home=nowhere, settings=QUIET)
    assert done.code != 0
    assert "ContractBroken" in done.err and "`town`" in done.err


@pytest.mark.extras
def test_the_command_line_of_mlflow_predicts_with_a_body(
    shop: Released, with_mlflow: Environment, nowhere: Path, tmp_path: Path
) -> None:
    asked = tmp_path / "asked.json"
    asked.write_text(json.dumps({"dataframe_records": shop.asked.head(3).to_dicts()}))
    done = with_mlflow.call(
        "-m", "mlflow", "models", "predict", "-m", str(shop.body), "-i", str(asked), "-t", "json",
        "--env-manager", "local", home=nowhere, settings=QUIET,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert [row["label"] for row in done.json["predictions"]] == labels_of(shop.answers())[:3]


@pytest.mark.extras
def test_the_extras_are_pinned_whole_and_bring_no_gpu_packages(with_mlflow: Environment) -> None:
    pinned = {
        name.lower().replace("_", "-"): version
        for name, _, version in (line.strip().partition("==") for line in _constraints() if "==" in line)
    }
    installed = {name.replace("_", "-"): version for name, version in with_mlflow.packages.items()}
    ours = {name: version for name, version in installed.items() if name not in {"pip", "setuptools", "modelyard"}}
    assert {name: version for name, version in ours.items() if pinned.get(name) != version} == {}
    assert [name for name in ours if name.startswith(UNFIT)] == []
    assert with_mlflow.call("-m", "pip", "check").code == 0


def test_a_body_says_how_mlflow_opens_it_and_nothing_that_changes_from_run_to_run(shop: Released) -> None:
    model = json.loads((shop.body / "MLmodel").read_text())
    assert model.keys() == {"flavors", "model_uuid"}
    assert model["flavors"]["python_function"]["loader_module"] == "modelyard.adapters.mlflow"
    assert len(model["model_uuid"]) == 32


def test_without_the_extra_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "modelyard.adapters.mlflow", raising=False)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match=r"modelyard\[mlflow\]"):
        adapters.load("mlflow")


def _constraints() -> list[str]:
    return (Path(__file__).resolve().parents[2] / "constraints.txt").read_text().splitlines()
