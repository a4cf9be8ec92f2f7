"""The composition root: settings from the environment, processes of our own, the verbs from Python."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import modelyard
from modelyard.app.__main__ import KINDS
from modelyard.app.fitter import TRAINERS, trainer_of
from modelyard.app.settings import VARIABLES, Settings, read_settings
from modelyard.app.spawn import child_environment, command_with_us, spawn
from modelyard.app.system import App
from modelyard.app.wiring import code_version
from modelyard.core.ids import ReleaseId
from modelyard.errors import ContractBroken, SpecFaults, UnknownName, UsageError
from modelyard.spec.parameters import Algorithm
from modelyard.train.job import FitJob
from tests.journeys.making import Place, shop_rows
from tests.journeys.own import until

ROW = {"age": 70, "city": "rome", "hours": 40.5}


def test_without_variables_the_store_is_in_the_home_folder() -> None:
    found = read_settings({})
    assert found.home == Path("~/.modelyard").expanduser()
    assert (found.database_url, found.quota_bytes, found.change_ticket) == (None, None, None)
    assert found.user


def test_every_variable_is_read() -> None:
    given = dict(zip(VARIABLES, ("/x/y", "sqlite:///z", "1.5", "T-7", "ada"), strict=True))
    assert read_settings(given) == Settings(
        home=Path("/x/y"), database_url="sqlite:///z", quota_bytes=1_500_000_000, change_ticket="T-7", user="ada"
    )


@pytest.mark.parametrize("quota", ["much", "1e999", "nan", "-1"])
def test_a_quota_that_is_no_size_is_refused(quota: str) -> None:
    with pytest.raises(UsageError, match="MODELYARD_QUOTA_GB"):
        read_settings({"MODELYARD_QUOTA_GB": quota})


def test_the_code_version_is_the_same_twice_and_begins_with_the_number() -> None:
    assert code_version() == code_version()
    assert code_version().startswith(f"{modelyard.__version__}+")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_process_has_its_module(kind: str) -> None:
    module = Path(modelyard.__file__).parent / "app" / f"{kind}.py"
    assert "def main() -> None:" in module.read_text()


@pytest.mark.parametrize("words", [[], ["nothing"], ["fitter", "more"], ["--while", "x", "fitter"]])
def test_another_kind_of_process_is_refused(words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "modelyard.app", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Wanted one of fitter, timing, supervisor, front, worker" in done.stderr


def test_every_algorithm_of_the_spec_has_a_trainer() -> None:
    assert TRAINERS.keys() == {str(algorithm) for algorithm in Algorithm}


def test_an_unknown_trainer_is_refused(tmp_path: Path) -> None:
    job = FitJob(
        trainer="magic", function=None, function_path=None, params={}, seed=0, threads=1, memory_mb=1000, timeout_s=1.0,
        classes=2, class_weight=None, names=(), features="", target="", weight=None, predict={}, folder=str(tmp_path),
    )  # fmt: skip
    with pytest.raises(UnknownName, match="`magic`"):
        trainer_of(job)


def test_a_process_of_ours_ends_when_whoever_started_it_is_killed(tmp_path: Path) -> None:
    starter = (
        "import sys, time; from modelyard.app.spawn import spawn\n"
        "ones = [spawn('fitter'), spawn('timing')]\n"
        "print(*(one.pid for one in ones), flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()]
        process.kill()
    assert len(pids) == 2
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), timeout_s=10)


def test_ctrl_c_does_not_reach_a_process_of_ours() -> None:
    with spawn("fitter") as process:
        assert os.getpgid(process.pid) == process.pid != os.getpgid(0)
        os.kill(process.pid, signal.SIGCONT)
        out, _ = process.communicate(b"")
    assert (process.returncode, out) == (0, b"")
    assert command_with_us()[-2:] == ("--while", str(os.getpid()))
    assert child_environment()["OPENBLAS_NUM_THREADS"] == "1"


def test_the_verbs_from_python_are_those_of_the_shell(shop: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELYARD_HOME", str(shop.home))
    model = modelyard.open("shop@1")
    assert repr(model).startswith("<modelyard release shop@1, body ")
    answers = model.predict([ROW])
    assert answers.labels is not None and list(answers.labels) == ["yes"]
    model.close()
    model.close()
    system = modelyard.load(shop.spec)
    assert [section.title for section in system.plan()][:2] == ["Data", "Columns"]
    assert str(modelyard.App().releases()[0].id) == "shop@1"
    with pytest.raises(UnknownName, match="`nothing`"):
        modelyard.open("nothing")


def test_a_frame_is_answered_as_its_rows_are_and_anything_else_is_refused(shop: Place) -> None:
    rows = shop_rows(30, seed=5).select("age", "city", "hours")
    model = shop.app.open("shop")
    frame, dicts = model.predict(rows), model.predict(rows.to_dicts())
    assert frame.probabilities is not None and dicts.probabilities is not None
    assert np.array_equal(frame.probabilities, dicts.probabilities)
    with pytest.raises(UsageError, match="Rows are a int"):
        model.predict(3)
    with pytest.raises(UsageError, match="Rows are a str"):
        model.predict("rows")
    with pytest.raises(ContractBroken, match="age"):
        model.predict(rows.with_columns(age=pl.lit("old")))
    with pytest.raises(ContractBroken, match="city"):
        model.predict(rows.drop("city"))
    model.close()


def test_a_spec_with_faults_is_refused_before_a_store_is_opened(tmp_path: Path) -> None:
    (tmp_path / "system.yaml").write_text("modelyard: 1\n")
    home = tmp_path / "home"
    with pytest.raises(SpecFaults):
        App(Settings(home=home)).run(tmp_path / "system.yaml")
    assert not home.exists()


def test_a_release_is_found_by_name_and_number(shop: Place) -> None:
    release, evidence, text, goal = shop.app.show("shop")
    assert release.id == ReleaseId(name="shop", number=1)
    assert goal == "Tell who buys." and "name: shop" in text and len(evidence) >= 1
