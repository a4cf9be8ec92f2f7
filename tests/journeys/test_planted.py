"""Faults planted in the spec and in the data: each is refused with exit code 2, in words, and nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.journeys.making import COMMAND, SHOP, Called, Place, place_in, shop_rows

ROWS = shop_rows(300)
CSV = SHOP.replace("rows.parquet", "rows.csv")
SIX_FAULTS = """\
modelyard: 1
name: Shop
task: {type: clasification, target: buys, positive: "yes"}
data:
  path: rows.csv
  split: {test: 1.5}
requirements:
  - {metric: roc_acu, at_least: 0.7}
candidates:
  - {algorithm: lightgbm, params: {learning_rate: 2.0}}
budget: {trials: 0}
"""


def lines(count: int = 300) -> list[str]:
    return ROWS.head(count).write_csv().splitlines()


def empty(folder: Path) -> None:
    (folder / "rows.csv").write_bytes(b"")


def header_alone(folder: Path) -> None:
    (folder / "rows.csv").write_text(lines(1)[0] + "\n")


def ragged(folder: Path) -> None:
    rows = lines()
    rows[1::3] = [row + ",more,and more" for row in rows[1::3]]
    (folder / "rows.csv").write_text("\n".join(rows))


def wrong_encoding(folder: Path) -> None:
    (folder / "rows.csv").write_bytes("\n".join(lines()).encode("latin-1"))


def column_missing(folder: Path) -> None:
    (folder / "rows.csv").write_text(ROWS.drop("buys").write_csv())


def thousand_malformed(folder: Path) -> None:
    rows = shop_rows(3000).write_csv().splitlines()
    rows[1:3000:3] = ['p,"never closed' if place % 2 else "p,1,2,3,4,5,6,7,8" for place in range(len(rows[1:3000:3]))]
    (folder / "rows.csv").write_text("\n".join(rows))


def directory(folder: Path) -> None:
    (folder / "rows.csv").mkdir()
    (folder / "rows.csv" / "notes.doc").write_text("no rows here")


def absent(folder: Path) -> None:
    (folder / "others.csv").write_text("a\n1\n")


def no_csv(folder: Path) -> None:
    (folder / "rows.csv").write_bytes(b"PK\x03\x04" + bytes(100))


PLANTED: list[tuple[Callable[[Path], None], list[str]]] = [
    (empty, ['system.yaml:6: data.path: saw "rows.csv", an empty file, wanted a file with rows']),
    (header_alone, ["rows.csv", "no row"]),
    (ragged, ["malformed", "rows.csv"]),
    (wrong_encoding, ["rows.csv", "utf-8"]),
    (column_missing, ["column `buys` is not there. Columns seen: number, age, city, hours, sex"]),
    (thousand_malformed, ["malformed", "1000"]),
    (directory, ['system.yaml:6: data.path: saw the folder "rows.csv" without a data file in it']),
    (absent, ['system.yaml:6: data.path: saw "rows.csv", where nothing is', 'nearest: "others.csv"']),
    (no_csv, ["a ZIP archive"]),
]


def bare(root: Path, text: str = CSV) -> Place:
    place = place_in(root, text, ROWS)
    (place.folder / "rows.parquet").unlink()
    return place


def nothing_half_written(place: Place) -> bool:
    """No release, no kept stage; the audit log is whole."""
    stages = [path for path in (place.home / "stages").glob("*") if path.name != ".lock"]
    bodies = [path for path in (place.home / "bodies").rglob("*") if path.is_file() and path.name != ".lock"]
    return stages == [] and bodies == [] and place.quick("audit", "verify").code == 0


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(("plant", "told"), PLANTED, ids=lambda one: getattr(one, "__name__", ""))
def test_data_with_a_planted_fault_is_refused_in_words(
    plant: Callable[[Path], None], told: list[str], command: str, tmp_path: Path
) -> None:
    place = bare(tmp_path)
    plant(place.folder)
    before = sorted(path.name for path in place.folder.rglob("*"))
    done = place.quick(command)
    assert (done.code, done.out) == (2, "")
    said = " ".join(done.err.split())
    assert all(word.lower() in said.replace("\u2009", "").lower() for word in told), said
    assert "Traceback" not in done.err
    assert sorted(path.name for path in place.folder.rglob("*")) == before
    assert nothing_half_written(place)


def test_every_malformed_row_is_kept_with_its_number_and_reason(tmp_path: Path) -> None:
    place = bare(tmp_path)
    thousand_malformed(place.folder)
    done = place.quick("run")
    named = Path(done.err.partition("All of these rows are in `")[2].partition("`")[0])
    rows = [json.loads(line) for line in named.read_text().splitlines()]
    assert len(rows) == 1000 and [row["row"] for row in rows[:3]] == [2, 5, 8]
    assert all(row["reason"] and row["file"] == "rows.csv" for row in rows)


def test_six_faults_of_a_spec_are_told_at_once_each_with_its_line(tmp_path: Path) -> None:
    place = bare(tmp_path, SIX_FAULTS)
    (place.folder / "rows.csv").write_text(ROWS.write_csv())
    for command in ("run", "plan", "explain"):
        done = place.quick(command)
        assert (done.code, done.out) == (2, "")
        assert "has 6 faults" in done.err
        said = done.err.splitlines()[1:]
        numbers = [int(line.partition("system.yaml:")[2].split(":")[0]) for line in said if "system.yaml:" in line]
        assert numbers == [2, 3, 6, 8, 10, 11], done.err
        assert "Shop" in done.err and "classification" in done.err and "roc_auc" in done.err
    assert not place.home.exists()  # nothing was even opened


def test_a_test_file_without_a_column_is_refused(tmp_path: Path) -> None:
    place = bare(tmp_path, CSV.replace("path: rows.csv", "path: rows.csv\n  test_path: test.csv"))
    (place.folder / "rows.csv").write_text(ROWS.write_csv())
    (place.folder / "test.csv").write_text(ROWS.drop("city").write_csv())
    done = place.quick("run")
    assert done.code == 2 and "test.csv" in done.err and "`city`" in done.err
    assert nothing_half_written(place)


def as_nobody(place: Place, *words: str) -> Called:
    """Run a command as a user who may only do what anybody may."""
    command = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *COMMAND, *words]
    done = subprocess.run(
        command, cwd=place.folder, env={**place.environment, "HOME": str(place.folder)}, capture_output=True, text=True,
        check=False, timeout=100,
    )  # fmt: skip
    return Called(done.returncode, done.stdout, done.stderr)


def needs_nobody(folder: Path) -> None:
    """Skip, saying why, where this test cannot become another user who can run the interpreter."""
    if os.getuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root may read everything, and there is no `setpriv` to become another user")
    if os.getuid() == 0:
        words = [
            "setpriv",
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            sys.executable,
            "-c",
            "import modelyard",
        ]
        if subprocess.run(words, cwd=folder, capture_output=True, check=False).returncode:
            pytest.skip("another user cannot run this interpreter, whose folder is private")


@pytest.fixture
def open_place() -> Iterator[Place]:
    """A place that others may enter and write, which the folders of the tests are not."""
    with tempfile.TemporaryDirectory(prefix="modelyard-open-") as name:
        root = Path(name)
        root.chmod(0o755)
        place = bare(root)
        place.home.mkdir()
        (place.folder / "rows.csv").write_text(ROWS.write_csv())
        for folder in (place.home, place.folder):
            folder.chmod(0o777)
        yield place


def test_a_file_that_may_not_be_read_is_said_with_what_to_do(open_place: Place) -> None:
    needs_nobody(open_place.folder)
    (open_place.folder / "rows.csv").chmod(0)
    done = as_nobody(open_place, "run") if os.getuid() == 0 else open_place.call("run")
    assert (done.code, done.out) == (2, "")
    assert 'data.path: saw "rows.csv", which may not be read, wanted a file with read permission' in done.err


def test_a_store_that_may_not_be_written_is_said(open_place: Place) -> None:
    needs_nobody(open_place.folder)
    open_place.home.chmod(0o555)
    done = as_nobody(open_place, "run") if os.getuid() == 0 else open_place.call("run")
    assert done.code in (1, 2) and "Traceback" not in done.err
    assert str(open_place.home) in done.err and len(done.err.strip().splitlines()) == 1


def test_a_setting_that_makes_no_sense_is_said(tmp_path: Path) -> None:
    place = bare(tmp_path)
    done = subprocess.run(
        [*COMMAND, "releases"], env={**place.environment, "MODELYARD_QUOTA_GB": "much"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "`MODELYARD_QUOTA_GB` is `much`: wanted a number above 0" in done.stderr
