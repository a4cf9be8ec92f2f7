from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from modelyard.errors import SpecError, SpecFaults
from modelyard.spec import load, reopen
from modelyard.spec.load import load as load_in
from tests.spec.making import LEAST, loaded, machine, write


def test_a_spec_knows_where_its_data_is(tmp_path: Path) -> None:
    found = loaded(tmp_path, LEAST)
    assert found.data_path == tmp_path / "train.csv"
    assert found.test_path is None
    assert found.text == LEAST
    assert found.marks.line(("task", "target")) == 2


def test_a_test_file_is_found_from_the_folder_of_the_spec(tmp_path: Path) -> None:
    found = loaded(tmp_path, LEAST.replace("train.csv", "train.csv, test_path: ./train.csv"))
    assert found.test_path == tmp_path / "train.csv"


def test_this_machine_is_what_a_spec_is_checked_against(tmp_path: Path) -> None:
    path = write(tmp_path, LEAST + "budget: {threads: 100000}\n")
    with pytest.raises(SpecFaults, match="the cores of this machine"):
        load(path)


def test_a_path_relative_to_here_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, LEAST + "budget: {threads: 1, memory_mb: 256}\n")
    monkeypatch.chdir(tmp_path)
    assert load(Path("system.yaml")).spec.name == "income"


def test_a_spec_that_is_not_there_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="modelyard init"):
        load(tmp_path / "system.yaml")


def test_a_folder_in_place_of_a_spec_is_told(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="is a folder"):
        load(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_spec_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    write(tmp_path, LEAST).chmod(0)
    with pytest.raises(SpecError, match="cannot be read"):
        load(tmp_path / "system.yaml")


def test_a_name_that_cannot_be_a_path_is_told() -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        load(Path("a\0b"))


def test_the_digest_is_of_the_canonical_json_with_all_defaults(tmp_path: Path) -> None:
    found = loaded(tmp_path, LEAST)
    whole = json.loads(found.spec.canonical())
    again = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert found.digest == hashlib.sha256(again).hexdigest() == found.spec.digest
    assert whole["serving"]["port"] == 8080


def test_the_digest_does_not_mind_comments_order_or_defaults(tmp_path: Path) -> None:
    lines = LEAST.splitlines()
    other = "\n".join(["# words", *reversed(lines), "seed: 0", "budget: {threads: 2}", ""])
    assert loaded(tmp_path, other).digest == loaded(tmp_path, LEAST).digest
    assert loaded(tmp_path, LEAST + "seed: 1\n").digest != loaded(tmp_path, LEAST).digest


def test_the_digest_does_not_mind_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert loaded(tmp_path / "a", LEAST).digest == loaded(tmp_path / "b", LEAST).digest


def test_a_spec_comes_back_from_its_canonical_json(tmp_path: Path) -> None:
    text = LEAST + (
        "requirements: [{metric: recall, at_least: 0.8, slice: sex=F}]\n"
        "candidates:\n  - algorithm: lightgbm\n"
        "    params: {l2: {low: 1, high: 2.5}, num_leaves: 31, max_trees: {choice: [1]}}\n"
        "serving: {fallback: [{kind: constant, label: a, probabilities: {a: 1.0}}]}\n"
    )
    spec = loaded(tmp_path, text).spec
    assert reopen(spec.canonical()) == spec
    assert reopen(spec.canonical()).digest == spec.digest


def test_a_sealed_spec_opens_where_its_data_is_not(tmp_path: Path) -> None:
    spec = loaded(tmp_path, LEAST).spec
    (tmp_path / "train.csv").unlink()
    assert reopen(spec.canonical()) == spec


def test_a_spec_is_frozen(tmp_path: Path) -> None:
    spec = load_in(write(tmp_path, LEAST), world=machine(tmp_path)).spec
    with pytest.raises(ValueError, match="frozen"):
        spec.seed = 1


def test_the_room_imports_nothing_heavy() -> None:
    code = (
        "import sys, modelyard.spec\n"
        "heavy = {'numpy', 'polars', 'scipy', 'sklearn', 'lightgbm', 'onnx', 'sqlalchemy'} & sys.modules.keys()\n"
        "sys.exit(','.join(sorted(heavy)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
