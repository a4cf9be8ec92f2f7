"""Every command: help, what it prints for people and programs, and its exit code."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from modelyard.cli import main
from modelyard.cli.main import COMMANDS
from tests.journeys.making import Place, shop_rows

ROW = {"age": 70, "city": "rome", "hours": 40.5}


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Call the command line in this process."""
    with pytest.raises(SystemExit) as end:
        main(list(words))
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out, said.err


@pytest.fixture(autouse=True)
def here(shop: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Work in an empty folder with the store that has `shop@1`."""
    monkeypatch.setenv("MODELYARD_HOME", str(shop.home))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_tells_a_command_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ask(capsys, command, "--help")
    assert code == 0
    assert f"Example: modelyard {command}" in " ".join(out.split())
    assert COMMANDS[command][1].split(":")[0] in " ".join(out.split())


def test_the_first_help_names_every_command_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ask(capsys, "--help")
    assert code == 0
    assert all(f"  {command}" in out for command in COMMANDS)
    assert all(word in out for word in ("0 done", "1 failed", "2 wrong", "3", "4 inconclusive"))


@pytest.mark.parametrize("words", [["explain"], ["schema"], ["releases"], ["releases", "shop"], ["show", "shop"],
                                   ["show", "shop@1"], ["diff", "shop@1", "shop@1"], ["services"], ["audit"],
                                   ["audit", "list", "--last", "1"], ["audit", "verify"],
                                   ["gc", "--dry-run"], ["report", "shop"], ["plan"]])  # fmt: skip
def test_json_is_for_programs_and_lines_are_for_people(
    words: list[str], shop: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*words, str(shop.spec)] if words[0] in ("explain", "plan") else words
    code, out, _ = ask(capsys, *words)
    assert code == 0 and out.strip()
    if words == ["schema"]:
        assert json.loads(out)["type"] == "object"
        return
    code, out, err = ask(capsys, *words, "--json")
    assert (code, err) == (0, "")
    assert isinstance(json.loads(out), dict | list)


FAULTS: list[tuple[list[str], str]] = [
    (["nonsense"], "No such command 'nonsense'"),
    (["run", "--trials", "3"], "No such option"),
    (["audit", "shred"], "'list', 'verify'"),
    (["run", "nowhere.yaml"], "There is no spec at `nowhere.yaml`"),
    (["show", "nothing"], "There is no release `nothing`. Known: shop."),
    (["show", "shop@7"], "There is no release `shop@7`. Known: shop@1."),
    (["show", "shop@x"], "wanted NAME@NUMBER"),
    (["show", "../shop"], "cannot be a name"),
    (["releases", "nothing"], "There is no release `nothing`. Known: shop."),
    (["diff", "shop@1", "shop@2"], "There is no release `shop@2`. Known: shop@1."),
    (["predict", "nothing", "row.json"], "There is no release `nothing`. Known: shop."),
    (["predict", "shop", "nowhere.csv"], "`nowhere.csv` is not there"),
    (["predict", "shop", "nowhere.json"], "`nowhere.json` cannot be read"),
    (["report", "shop", "--out", "no/folder.html"], "is not a folder that is there"),
    (["report", "shop", "--out", "."], "is a folder"),
    (["serve", "nothing"], "There is no release `nothing`. Known: shop."),
    (["serve", "nothing", "--detach"], "There is no release `nothing`. Known: shop."),
    (["stop", "nothing"], "No service `nothing` runs. None does."),
    (["stop", "../../tmp"], "cannot be a name"),
    (["init", "Shop!", "--from", "x.csv", "--target", "buys"], "cannot be a name"),
    (["init", "shop", "--from", "x.csv", "--target", "buys"], "`x.csv` is not there"),
    (["gc", "--keep", "0"], "greater than or equal to 1"),
]


@pytest.mark.parametrize(("words", "told"), FAULTS, ids=lambda one: " ".join(one) if isinstance(one, list) else "")
def test_what_is_wrong_is_said_with_what_is_known_and_exit_code_2(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = ask(capsys, *words)
    assert (code, out) == (2, "")
    assert told in " ".join(err.split())
    assert "Traceback" not in err


def test_a_fault_in_json_has_its_code_and_message(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ask(capsys, "show", "nothing", "--json")
    assert (code, err) == (2, "")
    assert json.loads(out) == {"error": "usage.unknown_name", "message": "There is no release `nothing`. Known: shop."}


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(capsys, "--version") == (0, "0.1.0\n", "")


def test_init_writes_a_spec_that_loads_and_never_over_another(
    shop: Place, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["init", "shop", "--from", str(shop.folder / "rows.parquet"), "--target", "buys", "--audit", "sex"]
    code, out, _ = ask(capsys, *words)
    assert code == 0 and "Next: modelyard plan" in out
    assert ask(capsys, "explain", "--json")[0] == 0
    before = (tmp_path / "system.yaml").read_bytes()
    code, _, err = ask(capsys, *words, "--ignore", "hours")
    assert code == 2 and "is there already" in err
    assert (tmp_path / "system.yaml").read_bytes() == before
    code, out, _ = ask(capsys, *words, "--ignore", "hours", "--overwrite", "--json")
    assert code == 0 and json.loads(out) == {"spec": "system.yaml"}
    assert (tmp_path / "system.yaml").read_bytes() != before


def test_one_row_of_json_is_answered_on_standard_output(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "row.json").write_text(json.dumps(ROW))
    code, out, _ = ask(capsys, "predict", "shop", "row.json")
    answer = json.loads(out)
    assert code == 0
    assert answer["label"] == "yes" and answer["served_by"] == "shop@1"
    assert sum(answer["probabilities"].values()) == pytest.approx(1.0, abs=1e-6)


def test_many_rows_of_json_are_answered_line_by_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([ROW, {**ROW, "age": 18, "city": "lima"}]))
    code, out, _ = ask(capsys, "predict", "shop", "rows.json")
    assert code == 0
    assert [json.loads(line)["label"] for line in out.splitlines()] == ["yes", "no"]


@pytest.mark.parametrize(
    ("text", "told"),
    [("{", "is not JSON"), ("3", "holds a int; wanted one object or a list"), ("[1]", "row"),
     (json.dumps({**ROW, "age": "old"}), "column `age`"), (json.dumps({"age": 3}), "city")],
)  # fmt: skip
def test_json_that_cannot_be_answered_is_refused(
    text: str, told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "row.json").write_text(text)
    code, out, err = ask(capsys, "predict", "shop", "row.json")
    assert (code, out) == (2, "")
    assert told in err and "Traceback" not in err


def test_answers_to_json_go_to_standard_output_only(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "row.json").write_text(json.dumps(ROW))
    code, _, err = ask(capsys, "predict", "shop", "row.json", "--out", "x.csv")
    assert code == 2 and "Leave --out away" in err


def write(rows: pl.DataFrame, path: Path) -> None:
    match path.suffix:
        case ".csv":
            rows.write_csv(path)
        case ".jsonl":
            rows.write_ndjson(path)
        case _:
            rows.write_parquet(path)


def test_every_format_of_file_is_answered_alike_and_never_over_another(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rows = shop_rows(50, seed=9).drop("buys")
    seen: list[Any] = []
    for name in ("a.csv", "b.jsonl", "c.parquet"):
        write(rows, tmp_path / name)
        code, out, _ = ask(capsys, "predict", "shop", name)
        answers = tmp_path / f"{name[0]}.predictions.csv"
        assert code == 0 and f"50 rows answered by shop@1 into {answers.name}" in out
        seen.append([line[1:] for line in csv.reader(answers.read_text().splitlines())])
        code, _, err = ask(capsys, "predict", "shop", name)
        assert code == 2 and "is there already" in err
    assert seen[0] == seen[1] == seen[2]
    assert seen[0][0] == ["prediction", "probability no", "probability yes"]
    code, out, _ = ask(capsys, "predict", "shop", "a.csv", "--out", "a.jsonl", "--json")
    assert code == 0 and json.loads(out)["rows"] == 50
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [line["prediction"] for line in lines] == [row[0] for row in seen[0][1:]]


def test_rows_that_break_the_contract_are_set_aside_with_the_reason(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("age,city,hours\n30,oslo,40\nold,rome,38\n50,lima,\n")
    code, out, _ = ask(capsys, "predict", "shop", "rows.csv")
    assert code == 0 and "2 rows answered" in out and "1 rows break the contract" in out
    aside = json.loads((tmp_path / "rows.predictions.csv.quarantine.jsonl").read_text())
    assert (aside["row"], aside["column"]) == (3, "age")


def test_a_file_without_a_column_is_refused_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("age,hours\n30,40\n")
    code, _, err = ask(capsys, "predict", "shop", "rows.csv")
    assert code == 2 and "column `city` is not there. Columns seen: age, hours" in err
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
