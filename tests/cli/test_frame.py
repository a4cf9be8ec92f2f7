"""The frame of every command: what was not expected, Ctrl-C, and readers that go away."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from modelyard.app.records import Records
from modelyard.cli import main
from tests.journeys.making import Place, ours
from tests.journeys.own import own_place, until


def raising(fault: BaseException) -> Any:
    def verb(*_: Any, **__: Any) -> Any:
        raise fault

    return verb


def end_of(words: list[str]) -> int:
    with pytest.raises(SystemExit) as end:
        main(words)
    return int(end.value.code or 0)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.mark.parametrize("fault", [RuntimeError("two\nlines"), OSError(errno.ENOSPC, "No space left on device")])
def test_what_was_not_expected_is_one_line_that_names_its_traceback(
    fault: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(Records, "releases", raising(fault))
    assert end_of(["releases"]) == 1
    told = capsys.readouterr().err
    (file,) = tmp_path.glob("*.traceback.txt")
    assert len(told.splitlines()) == 1 and "Traceback (" not in told
    assert str(fault).splitlines()[-1] in told and str(file) in told
    assert "in releases" in file.read_text() and type(fault).__name__ in file.read_text()


def test_what_was_not_expected_is_told_to_programs_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Records, "releases", raising(KeyError("gone")))
    assert end_of(["releases", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"] == "unexpected"


def test_an_interrupt_is_said_with_what_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Records, "releases", raising(KeyboardInterrupt()))
    assert end_of(["releases"]) == 130
    assert capsys.readouterr().err.startswith("Interrupted. What was finished is kept")


def test_ctrl_c_in_the_middle_of_a_run_says_that_it_can_go_on_and_leaves_no_process(tmp_path: Path) -> None:
    place = own_place(tmp_path)
    (place.folder / "wait").touch()
    with place.start("run") as running:
        try:
            until((place.folder / "begun").exists)
            os.killpg(running.pid, signal.SIGINT)
            _, err = running.communicate(timeout=20)
        finally:
            running.kill()
    assert running.returncode == 130
    assert err.splitlines()[-1].startswith("Interrupted. What was finished is kept; the same command goes on")
    assert "Traceback" not in err
    until(lambda: not ours(place.home), timeout_s=3)
    (place.folder / "wait").unlink()
    assert place.call("run").code == 0
    assert place.call("audit", "verify").code == 0


@pytest.mark.parametrize("words", [["audit"], ["schema"], ["releases"], ["show", "shop"], ["show", "shop", "--json"]])
def test_a_reader_that_goes_away_is_no_fault(words: list[str], shop: Place) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = shop.call(*words, stdout=writer)
    finally:
        os.close(writer)
    assert (done.code, done.err) == (0, "")


def test_an_exit_code_stays_true_when_nobody_reads(shop: Place) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert shop.call("show", "nothing", stdout=writer, stderr=writer).code == 2
    finally:
        os.close(writer)
