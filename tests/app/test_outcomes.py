"""Outcomes that arrive late, from the command line: a front's answers on one side, a file on the other."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from modelyard.app.outcomes import feeding
from modelyard.bundle.answers import Feedback
from modelyard.cli.main import main
from modelyard.core.clock import SystemClock
from modelyard.serve.told.ledger import Ledger, Rows
from modelyard.store.outcomes import Outcomes


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run folder of a service that answered `yes` to requests r0 to r4, two rows each."""
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "home" / "run" / "income"
    folder.mkdir(parents=True)
    ledger = Ledger(folder, "front.0")
    ledger.answered(
        "income@2",
        [Rows(f"r{number}", 2 * number, 2) for number in range(5)],
        at=SystemClock().now().timestamp(),
        classes=("no", "yes"),
        labels=["yes"] * 10,
        probabilities=[[0.25, 0.75]] * 10,
    )
    ledger.close()
    return folder


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(list(words))
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out, said.err


def counts(capsys: pytest.CaptureFixture[str], file: str) -> dict[str, object]:
    code, out, err = ask(capsys, "feedback", "income", file, "--json")
    assert code == 0, err
    found: dict[str, object] = json.loads(out)
    return found


LINES = b"""{"request": "r0", "label": "yes"}
{"request": "r0", "row": 1, "label": "no"}

{"request": "r0", "label": "no"}
{"request": "elsewhere", "label": "no"}
{"request": "r1", "label": NaN}
{"request": "r1", "label": "perhaps"}
{"request": "r1", "lable": "yes"}
{"request": ["r1"], "label": "yes"}
\xff\xfe
{"request": "r1", "label": "no", "row": 999999999999999999999}
"""


def test_a_file_of_json_lines_is_joined_and_what_became_of_it_is_told(
    service: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = b'{"request": "' + b"x" * 100_000 + b'", "label": "yes"}\n'
    (tmp_path / "late.jsonl").write_bytes(LINES + long + b'{"request": "r2", "label": "no"}')
    code, out, _ = ask(capsys, "feedback", "income", "late.jsonl")
    assert code == 0
    first, fault = out.splitlines()
    assert first == "joined 3; unmatched 1; duplicate 1; malformed 7"
    assert fault.startswith("The first malformed: line 6: ")
    again = counts(capsys, "late.jsonl")
    assert (again["joined"], again["duplicate"], again["unmatched"]) == (0, 5, 0)
    joined = [(one.answered, one.label) for one in Outcomes(service).joined_since(0)]
    assert joined == [("yes", "yes"), ("yes", "no"), ("yes", "no")]
    code, out, _ = ask(capsys, "audit", "--json")
    assert [one["operation"] for one in json.loads(out) if one["outcome"] == "done"] == ["feedback"] * 2


def test_csv_says_the_same(service: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        '﻿label,request,row,by\r\nyes,r0,,me\r\n"no",r0,1,me\r\nyes,r1\r\n"yes,r1,0,me\r\n,r1,0,me\r\nno,r1,one,me\r\n'
    )
    (tmp_path / "late.csv").write_text(text, newline="")
    found = counts(capsys, "late.csv")
    assert (found["joined"], found["malformed"]) == (2, 4)
    assert found["first_fault"] == "line 4: it has 2 fields, the head 4"


def test_named_columns_of_csv_are_told_with_the_outcomes(
    service: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "late.csv").write_text("request,label,sex,by,region\nr0,yes,F,me,north\nr1,no,,me,south\n")
    code, _, err = ask(capsys, "feedback", "income", "late.csv", "--columns", "sex, region")
    assert code == 0, err
    columns = [one.columns for one in Outcomes(service).joined_since(0)]
    assert columns == [{"sex": "F", "region": "north"}, {"region": "south"}]


def test_columns_are_named_for_csv_that_has_them(
    service: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "late.csv").write_text("request,label\nr0,yes\n")
    code, _, err = ask(capsys, "feedback", "income", "late.csv", "--columns", "sex")
    assert code == 2 and "column `sex` is not there" in err
    (tmp_path / "late.jsonl").write_text("")
    for file in ("late.jsonl", "-"):
        code, _, err = ask(capsys, "feedback", "income", file, "--columns", "sex")
        assert code == 2 and "Columns are named for CSV only" in err


def test_standard_input_is_json_lines(
    service: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b'{"request": "r4", "label": "no"}\n')))
    assert counts(capsys, "-")["joined"] == 1


@pytest.mark.parametrize(
    ("words", "content", "said"),
    [
        (("other", "a.jsonl"), b"", "There is no service `other`. Known: income."),
        (("income", "missing.jsonl"), None, "`missing.jsonl` cannot be read: No such file"),
        (("income", "."), None, "wanted one of: .jsonl"),
        (("income", "a.xlsx"), b"", "`a.xlsx` ends in `.xlsx`; wanted one of: .jsonl"),
        (("income", "a.csv"), b"", "`a.csv` has no head"),
        (("income", "a.csv"), b"id,label\n1,yes\n", "column `request` is not there. Columns seen: id, label"),
        (("income", "a.csv"), b'"request,label\n', "the head cannot be read"),
        (("../income", "a.jsonl"), b"", "`../income`"),
    ],
)
def test_what_cannot_be_used_is_said(
    service: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, str], content: bytes | None,
    said: str,
) -> None:  # fmt: skip
    if content is not None:
        (tmp_path / words[1]).write_bytes(content)
    code, _, err = ask(capsys, "feedback", *words)
    assert code == 2 and said in err and "Traceback" not in err


def test_the_management_address_joins_in_the_same_outcomes(service: Path) -> None:
    feed = feeding(service, SystemClock())
    assert feed([Feedback(request="r0", label="yes")]).joined == 1
    assert feed([Feedback(request="r0", label="yes")]).duplicate == 1
    assert Outcomes(service).counts().joined == 1
