"""The core installs small and quick, works from its wheel, and phones nobody."""

from __future__ import annotations

import json
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest

from tests.app.grpc_caller import DATATYPES, SERVING, check, free_port, infer, is_server_ready
from tests.extras.environments import CONSTRAINTS, INSTALL_TIMEOUT_S, ROOT, Environment, fresh
from tests.extras.released import Released
from tests.journeys.making import SHOP, ours, place_in, shop_rows

MOST_SECONDS = 90.0
MOST_MB = 800.0
UNFIT = ("torch", "nvidia", "cuda", "triton")
GRPC = {"grpcio", "grpclib", "h2"}  # what others speak it with
SWITCH = b"ORT_DISABLE_TELEMETRY=1"
TRACE = "*onnxruntime*"  # what the library leaves in the home of whoever has not switched its telemetry off
pytestmark = pytest.mark.extras


@dataclass(frozen=True)
class Installed:
    """The core in an environment of its own, and how long that took."""

    environment: Environment
    seconds: float

    def modelyard(self, *words: str, home: Path, **settings: str) -> tuple[int, str]:
        """Run the entry point as it was installed."""
        entry = str(self.environment.folder / "bin" / "modelyard")
        done = self.environment.call(entry, *words, home=home, settings=settings)
        return done.code, done.out + done.err


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as it is handed out."""
    folder = tmp_path_factory.mktemp("wheel")
    maker = fresh(tmp_path_factory.mktemp("maker") / "venv")
    words = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT))
    done = maker.call(*words, timeout_s=INSTALL_TIMEOUT_S)
    assert done.code == 0, done.err
    return next(folder.glob("modelyard-*.whl"))


@pytest.fixture(scope="module")
def core(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel and what it needs, nothing kept from earlier."""
    environment = fresh(tmp_path_factory.mktemp("core") / "venv")
    begun = time.monotonic()
    environment.install("--no-cache-dir", "-c", str(CONSTRAINTS), str(wheel))
    return Installed(environment, time.monotonic() - begun)


def test_the_core_is_small_and_quick_to_install(core: Installed) -> None:
    assert core.seconds <= MOST_SECONDS
    assert core.environment.size_mb <= MOST_MB


def test_the_core_brings_no_gpu_packages_and_fits_together(core: Installed) -> None:
    assert [name for name in core.environment.packages if name.startswith(UNFIT)] == []
    assert core.environment.call("-m", "pip", "check").code == 0


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    source = ROOT / "src"
    files = {
        path.relative_to(source).as_posix()
        for path in (source / "modelyard").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    with zipfile.ZipFile(wheel) as package:
        assert files <= set(package.namelist())
    assert {Path(name).suffix for name in files} >= {".py", ".html", ".css", ".js", ".typed"}


def test_the_command_works_away_from_the_source(core: Installed, nowhere: Path) -> None:
    code, told = core.modelyard("--help", home=nowhere)
    assert code == 0 and "serve" in told
    code, told = core.modelyard("schema", home=nowhere)
    assert code == 0 and json.loads(told)["type"] == "object"


def test_a_release_answers_and_draws_its_report_with_the_core_alone(
    core: Installed, shop: Released, nowhere: Path, tmp_path: Path
) -> None:
    row, page = tmp_path / "row.json", tmp_path / "report.html"
    row.write_text(json.dumps(shop.asked.row(1, named=True)))
    store = str(shop.place.home)
    code, told = core.modelyard("predict", shop.ref, str(row), home=nowhere, MODELYARD_HOME=store)
    assert code == 0 and json.loads(told)["served_by"] == shop.ref
    code, told = core.modelyard("report", shop.ref, "--out", str(page), home=nowhere, MODELYARD_HOME=store)
    assert code == 0, told
    assert page.read_text().startswith("<!DOCTYPE html>")


def test_no_process_of_a_service_phones_home(core: Installed, shop: Released, nowhere: Path) -> None:
    store = {"MODELYARD_HOME": str(shop.place.home)}
    code, told = core.modelyard("serve", shop.ref, "--port", "0", "--detach", home=nowhere, **store)
    assert code == 0, told
    try:
        environments = [Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") for pid in ours(shop.place.home)]
    finally:
        code, told = core.modelyard("stop", shop.name, home=nowhere, **store)
    assert code == 0, told
    assert len(environments) >= 3
    assert all(SWITCH in environment for environment in environments)
    assert list(nowhere.rglob(TRACE)) == []


def test_the_core_alone_takes_a_spec_to_a_service_that_speaks_grpc(core: Installed, tmp_path: Path) -> None:
    assert core.environment.packages.keys().isdisjoint(GRPC)
    spec = SHOP.replace("serving:\n", f"serving:\n  grpc_port: {free_port()}\n")
    place = place_in(tmp_path, spec, shop_rows())
    store = {"MODELYARD_HOME": str(place.home)}
    code, told = core.modelyard("run", home=place.folder, **store)
    assert code == 0, told
    code, told = core.modelyard("serve", "shop@1", "--port", "0", "--detach", "--json", home=place.folder, **store)
    assert code == 0, told
    try:
        rows = shop_rows().head(50).drop_nulls()
        with grpc.insecure_channel(f"127.0.0.1:{json.loads(told)['run']['grpc_port']}") as channel:
            assert (check(channel, "shop"), is_server_ready(channel)) == (SERVING, True)
            labels, shares = infer(channel, rows)
    finally:
        code, told = core.modelyard("stop", "shop", home=place.folder, **store)
    assert code == 0, told
    here = place.app.open("shop@1").predict(rows.select(*DATATYPES))
    assert here.labels is not None and here.probabilities is not None
    assert labels == [str(label) for label in here.labels]
    np.testing.assert_allclose(shares, here.probabilities, rtol=0, atol=1e-6)


def test_modelyard_in_python_switches_it_off_before_it_is_imported(
    core: Installed, shop: Released, nowhere: Path
) -> None:
    code = f"import modelyard; modelyard.open({shop.ref!r}).predict([{shop.asked.row(1, named=True)!r}])"
    done = core.environment.call("-c", code, home=nowhere, settings={"MODELYARD_HOME": str(shop.place.home)})
    assert done.code == 0, done.err
    assert list(nowhere.iterdir()) == []
