from __future__ import annotations

import os
from pathlib import Path

import pytest

from modelyard.core.contract import Role
from modelyard.core.metrics import Task
from tests.spec.making import LEAST, REGRESSION, faults, loaded, only


@pytest.mark.parametrize("name", ["income", "a", "a-b_c9", "a" * 63])
def test_names_that_a_release_may_have_are_taken(tmp_path: Path, name: str) -> None:
    assert loaded(tmp_path, LEAST.replace("income", name, 1)).spec.name == name


@pytest.mark.parametrize("name", ["Income", "9a", "-a", "a b", "a" * 64, "é", '"a\\n"'])
def test_other_names_are_refused(tmp_path: Path, name: str) -> None:
    assert "1 to 63 of a-z" in only(tmp_path, LEAST.replace("income", name, 1))


def test_generation_is_a_known_word_that_is_not_built_yet(tmp_path: Path) -> None:
    told = only(tmp_path, REGRESSION.replace("regression", "generation"))
    assert told == (
        '2: task.type: saw "generation", '
        "wanted classification or regression: generation is not built yet in this version"
    )  # fmt: skip


@pytest.mark.parametrize(("written", "meant"), [("1", "1"), ("true", "true"), ("'1'", "1"), ("no", "no")])
def test_the_positive_class_is_text_as_it_stands_in_the_data(tmp_path: Path, written: str, meant: str) -> None:
    spec = loaded(tmp_path, LEAST.replace('">50K"', written)).spec
    assert spec.task.positive == meant
    assert spec.task.kinds == (Task.BINARY,)


def test_a_positive_class_in_a_regression_is_refused(tmp_path: Path) -> None:
    assert "a positive class in a regression" in only(tmp_path, REGRESSION.replace("cnt", "cnt, positive: a"))


def test_two_or_more_classes_are_possible_without_a_positive_one(tmp_path: Path) -> None:
    spec = loaded(tmp_path, LEAST.replace(', positive: ">50K"', "")).spec
    assert spec.task.kinds == (Task.BINARY, Task.MULTICLASS)


def data(folder: Path, more: str, *, path: str = "train.csv") -> list[str]:
    return faults(folder, f"name: a\ntask: {{type: classification, target: t}}\ndata: {{path: {path}, {more}}}\n")


def test_a_path_to_an_empty_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "none.csv").touch()
    assert "an empty file" in data(tmp_path, "", path="none.csv")[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_path_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "shut.csv").write_text("a\n1\n")
    (tmp_path / "shut.csv").chmod(0)
    assert "may not be read" in data(tmp_path, "", path="shut.csv")[0]


def test_a_path_without_permission_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "may not be read" in data(tmp_path, "")[0]


def test_a_pipe_in_place_of_a_file_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    assert "neither a file nor a folder" in data(tmp_path, "", path="pipe.csv")[0]


@pytest.mark.parametrize("path", ['"a\\0b.csv"', "train.csv/deeper.csv", "x" * 5000])
def test_a_path_that_cannot_be_is_told(tmp_path: Path, path: str) -> None:
    assert "data.path: saw " in data(tmp_path, "", path=path)[0]


def test_a_path_of_no_known_format_needs_the_format(tmp_path: Path) -> None:
    (tmp_path / "rows.dat").write_text("a\n1\n")
    assert "whose name tells no format" in data(tmp_path, "", path="rows.dat")[0]
    assert data(tmp_path, "format: csv", path="rows.dat") == []


def test_a_format_other_than_the_name_tells_is_a_fault(tmp_path: Path) -> None:
    assert data(tmp_path, "format: parquet") == [
        '3: data.format: saw parquet for "train.csv", wanted csv, as the name says, or auto'
    ]


def test_a_folder_of_parts_is_taken_if_there_are_parts(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / "_SUCCESS").touch()
    assert "without a data file" in data(tmp_path, "", path="parts")[0]
    (parts / "1.csv.gz").write_text("a")
    assert data(tmp_path, "", path="parts") == []
    (parts / "2.parquet").write_text("a")
    assert "parts of several formats" in data(tmp_path, "", path="parts")[0]
    assert data(tmp_path, "format: csv", path="parts") == []
    assert "jsonl for the folder" in data(tmp_path, "format: jsonl", path="parts")[0]


@pytest.mark.parametrize("sign", ['";;"', '""', '"\\""', '"\\n"', "é"])
def test_a_separator_is_one_plain_sign(tmp_path: Path, sign: str) -> None:
    assert "one sign" in data(tmp_path, f"separator: {sign}")[0]


@pytest.mark.parametrize("sign", ['";"', '"\\t"', "'|'"])
def test_usual_separators_are_taken(tmp_path: Path, sign: str) -> None:
    assert data(tmp_path, f"separator: {sign}") == []


@pytest.mark.parametrize("name", ["utf8x", "base64", "rot13", "../x", '""'])
def test_an_encoding_is_a_known_one_of_text(tmp_path: Path, name: str) -> None:
    assert "the name of a text encoding" in data(tmp_path, f"encoding: {name}")[0]


def test_null_values_are_text_or_whole_numbers(tmp_path: Path) -> None:
    text = LEAST.replace("train.csv", 'train.csv, null_values: [-999, "", NA]')
    assert loaded(tmp_path, text).spec.data.null_values == ("-999", "", "NA")
    assert "null_values[0]: saw nothing" in data(tmp_path, "null_values: [null]")[0]


def test_roles_are_known_to_the_spec(tmp_path: Path) -> None:
    text = LEAST.replace("train.csv", "train.csv, columns: {age: {role: audit}, 2020: {kind: number}}")
    spec = loaded(tmp_path, text).spec
    assert spec.data.with_role(Role.AUDIT) == ("age",)
    assert "2020" in spec.data.columns


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ("{a: {role: target}}", 'saw "target", wanted one of feature, id'),
        ("{t: {role: feature}}", "the role feature for the target"),
        ("{a: {role: time}, b: {role: time}}", "a second column with the role time"),
        ("{a: {kind: numbr}}", "(nearest: number)"),
        ("{a: {format: '%d.%m.%Y'}}", "a format without `kind: date`"),
        ("{a: {kind: date, format: dmy}}", "how dates are written"),
    ],
)
def test_roles_and_kinds_that_do_not_fit_are_told(tmp_path: Path, columns: str, told: str) -> None:
    assert told in data(tmp_path, f"columns: {columns}")[0]


@pytest.mark.parametrize(
    ("split", "told"),
    [
        ("{test: 0}", "split.test: saw 0 without `data.test_path`"),
        ("{test: 1}", "split.test: saw 1"),
        ("{valid: 0}", "split.valid: saw 0"),
        ("{test: 0.5, valid: 0.45}", "1.05 of the rows"),
        ("{method: time}", "`role: time`"),
        ("{method: group}", "`role: group`"),
    ],
)
def test_splits_that_cannot_be_are_told(tmp_path: Path, split: str, told: str) -> None:
    assert told in data(tmp_path, f"split: {split}")[0]


def test_a_test_file_takes_the_place_of_the_test_share(tmp_path: Path) -> None:
    text = LEAST.replace("train.csv", "train.csv, test_path: train.csv")
    assert loaded(tmp_path, text).spec.split_shares() == (0.0, 0.1, 0.15)
    assert "beside `data.test_path`" in data(tmp_path, "test_path: train.csv, split: {test: 0.2}")[0]


def test_a_regression_calibrates_nothing(tmp_path: Path) -> None:
    assert loaded(tmp_path, REGRESSION).spec.split_shares() == (0.2, 0.0, 0.15)
    assert "no probabilities" in only(tmp_path, REGRESSION.replace("train.csv", "train.csv, split: {calibrate: 0.1}"))


def test_a_stratified_split_needs_classes(tmp_path: Path) -> None:
    text = REGRESSION.replace("train.csv", "train.csv, split: {method: stratified}")
    assert "stratified in a regression" in only(tmp_path, text)


def test_what_is_asked_of_the_machine_must_be_there(tmp_path: Path) -> None:
    told = faults(tmp_path, LEAST + "budget:\n  threads: 5\n  memory_mb: 16001\n")
    assert told == [
        "5: budget.threads: saw 5, wanted at most 4, the cores of this machine",
        "6: budget.memory_mb: saw 16001, wanted at most 16000, the MB of this machine",
    ]


def test_a_budget_is_in_seconds_or_in_trials(tmp_path: Path) -> None:
    assert "one of `seconds` and `trials`" in only(tmp_path, LEAST + "budget: {seconds: 1, trials: 1}\n")
    assert loaded(tmp_path, LEAST).spec.budget.in_effect().seconds == 60
    trials = loaded(tmp_path, LEAST + "budget: {trials: 7}\n").spec.budget.in_effect()
    assert (trials.trials, trials.seconds) == (7, None)


def serving(folder: Path, more: str, *, base: str = LEAST) -> list[str]:
    return faults(folder, f"{base}serving: {{{more}}}\n")


@pytest.mark.parametrize("path", ["/api/v1/income", "/api/v12/a-b-9"])
def test_endpoints_of_the_form_are_taken(tmp_path: Path, path: str) -> None:
    assert serving(tmp_path, f"endpoint: {path}") == []


@pytest.mark.parametrize(
    "path", ["/income", "/api/v/x", "/api/v1/", "/api/v1/A", "/api/v1/a/b", '"/api/v1/a\\n"', '""']
)
def test_other_endpoints_are_refused(tmp_path: Path, path: str) -> None:
    assert "a path such as /api/v1/income" in serving(tmp_path, f"endpoint: {path}")[0]


@pytest.mark.parametrize("host", ["0.0.0.0", "localhost", "::1", "host.example.org"])
def test_hosts_are_names_or_addresses(tmp_path: Path, host: str) -> None:
    assert serving(tmp_path, f'host: "{host}"') == []


@pytest.mark.parametrize("host", ["", "a b", "http://x", "-a"])
def test_other_hosts_are_refused(tmp_path: Path, host: str) -> None:
    assert "a host name or an address" in serving(tmp_path, f'host: "{host}"')[0]


def test_the_queue_holds_a_batch_at_least(tmp_path: Path) -> None:
    assert "at least `max_batch_rows`, 256" in serving(tmp_path, "queue_rows: 10")[0]


@pytest.mark.parametrize(
    ("fallback", "told"),
    [
        ("[]", "fallback: saw a list of 0"),
        ("[{kind: constant}]", "fallback[0].label: saw nothing"),
        ("[{kind: constant, label: a, probabilities: {a: 0.5, b: 0.6}}]", "probabilities that add up to 1.1"),
        ("[{kind: constant, label: c, probabilities: {a: 0.5, b: 0.5}}]", 'label: saw "c", wanted a class under'),
        ("[{kind: constant, label: a, probabilities: {a: 1}, value: 3}]", "value: saw 3"),
        ("[{kind: refuse}, {kind: refuse}]", "refuse after refuse"),
        ("[{kind: refuse, label: a}]", "fallback[0].label: saw an unknown field, wanted one of kind"),
        ("[{kind: constnt}]", "(nearest: constant)"),
        ("[{}]", "a mapping with `kind`: previous, variant, rule, constant or refuse"),
        (
            "[{kind: constant, label: a, probabilities: {a: 1.5}}]",
            "probabilities.a: saw 1.5, wanted a number from 0 to 1",
        ),
    ],
)
def test_fallbacks_that_cannot_answer_are_told(tmp_path: Path, fallback: str, told: str) -> None:
    assert any(told in one for one in serving(tmp_path, f"fallback: {fallback}"))


def test_fallbacks_that_can_answer_are_taken(tmp_path: Path) -> None:
    assert serving(tmp_path, "fallback: [{kind: constant, label: a, probabilities: {a: 0.7, b: 0.3}}]") == []
    assert serving(tmp_path, "fallback: [{kind: constant, value: 3.5}]", base=REGRESSION) == []
    assert "label: saw" in serving(tmp_path, "fallback: [{kind: constant, value: 1, label: a}]", base=REGRESSION)[0]
