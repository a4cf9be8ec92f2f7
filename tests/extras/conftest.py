"""Releases and environments that the tests of this folder share; none changes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.extras.environments import ROOT, Environment, constrained, fresh
from tests.extras.released import Released, released
from tests.extras.systems import SYSTEMS
from tests.store.conftest import postgres_url

__all__ = ["postgres_url"]


@pytest.fixture(scope="session", params=sorted(SYSTEMS))
def any_release(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Released:
    """A release of each kind of task in turn."""
    return released(tmp_path_factory, request.param)


@pytest.fixture(scope="session", params=sorted(name for name, system in SYSTEMS.items() if system.raw))
def raw_release(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Released:
    """A release of each kind whose graph takes the columns themselves."""
    return released(tmp_path_factory, request.param)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Released:
    """A binary release."""
    return released(tmp_path_factory, "shop")


@pytest.fixture(scope="session")
def with_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Modelyard with the extra `mlflow`."""
    environment = fresh(tmp_path_factory.mktemp("mlflow") / "venv")
    environment.install(*constrained(f"{ROOT}[mlflow,postgres]"))
    return environment


@pytest.fixture(scope="session")
def with_onnxruntime(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """ONNX Runtime and numpy, nothing of ours."""
    environment = fresh(tmp_path_factory.mktemp("onnxruntime") / "venv")
    environment.install(*constrained("onnxruntime", "numpy"))
    return environment


@pytest.fixture(scope="session")
def with_tritonclient(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An independent client of the Open Inference Protocol; its dependencies conflict with ours."""
    environment = fresh(tmp_path_factory.mktemp("tritonclient") / "venv")
    environment.install("tritonclient[grpc,http]==2.73.0", "numpy==2.4.6")
    return environment


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    """An empty folder to work and be at home in."""
    folder = tmp_path / "nowhere"
    folder.mkdir()
    return folder
