from __future__ import annotations

from pathlib import Path

import pytest

from modelyard.errors import SpecFaults
from modelyard.spec.faults import Fault, Marks, dotted, nearest, show, tell
from modelyard.spec.load import load
from tests.spec.making import LEAST, REGRESSION, faults, machine, only, write

PLANTED = """\
name: income
task:
  type: classification
  target: income
  positiv: ">50K"
data:
  path: trian.csv
  split:
    test: 1.5
objective: roc_uac
requirements:
  - {metric: recall, at_most: 0.8}
candidates:
  - algorithm: lightgbm
    params: {learning_rate: 2}
"""


def test_six_planted_faults_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    told = faults(tmp_path, PLANTED)
    assert told == [
        "5: task.positiv: saw an unknown field, wanted one of type, target, positive (nearest: positive)",
        f'7: data.path: saw "trian.csv", where nothing is, wanted a file or folder that exists, from "{tmp_path}" '
        '(nearest: "train.csv")',
        "9: data.split.test: saw 1.5, wanted a number above 0 and below 1 "
        "(0 only where `data.test_path` brings the rows)",
        '10: objective: saw "roc_uac", wanted one of roc_auc, average_precision, log_loss, brier_loss, '
        "calibration_error, accuracy, balanced_accuracy, precision and 6 more (nearest: roc_auc)",
        "12: requirements[0].at_most: saw `at_most` for recall, wanted `at_least`: recall is better when higher",
        "15: candidates[0].params.learning_rate: saw 2, wanted a number from 1e-06 to 1",
    ]  # fmt: skip


def test_the_message_says_how_many_there_are(tmp_path: Path) -> None:
    with pytest.raises(SpecFaults, match=r"`system\.yaml` has 6 faults:") as caught:
        load(write(tmp_path, PLANTED), world=machine(tmp_path))
    assert caught.value.exit_code == 2
    assert len(caught.value.faults) == 6


def test_a_faulty_item_does_not_hide_what_is_wrong_in_the_others(tmp_path: Path) -> None:
    text = LEAST + (
        "requirements:\n"
        "  - {metric: recal, at_least: 0.8}\n"
        "  - {metric: rmse, at_most: 3}\n"
        "  - {metric: accuracy, at_least: x}\n"
        "  - {metric: f1, at_least: 2}\n"
        "  - {metric: f1, at_least: 0.5}\n"
    )
    told = faults(tmp_path, text)
    assert [one.split(":")[0] for one in told] == ["5", "6", "7", "8", "9"]
    assert "requirements[1].metric: saw rmse, wanted a metric of a classification" in told[1]
    assert "requirements[3].at_least: saw 2, wanted a number from 0 to 1, as f1 is" in told[3]
    assert "a second requirement on f1" in told[4]
    assert told[4].endswith("(see line 8)")


def test_what_follows_from_a_faulty_value_alone_is_not_told(tmp_path: Path) -> None:
    text = REGRESSION.replace("regression", "regresion") + "requirements:\n  - {metric: rmse, at_most: 3}\n"
    assert only(tmp_path, text).startswith('2: task.type: saw "regresion"')


def test_a_misspelt_bound_is_not_told_as_a_missing_one_as_well(tmp_path: Path) -> None:
    told = only(tmp_path, LEAST + "requirements:\n  - {metric: f1, at_leest: 0.5}\n")
    assert told.startswith("5: requirements[0].at_leest: saw an unknown field")
    assert told.endswith("(nearest: at_least)")


def test_everything_that_must_be_there_is_asked_for(tmp_path: Path) -> None:
    told = faults(tmp_path, "modelyard: 1\n")
    assert [one.split(":")[1].strip() for one in told] == ["name", "task", "data"]


def test_faults_within_parts_are_told_even_if_a_whole_part_is_missing(tmp_path: Path) -> None:
    told = faults(tmp_path, "name: a\ndata: {path: nothing.csv}\nbudget: {seconds: 1, trials: 1}\n")
    assert [one.split(": ")[1] for one in told] == ["task", "data.path", "budget.trials"]


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("seed: yes", '"yes"'), ("seed: '1'", '"1"'), ("seed: 1.0", "1.0"), ("seed: true", "true"),
        ("seed:", "nothing"), ("goal: 1", "1"), ("goal: [a]", "a list of 1"), ("budget: {seconds: '60'}", '"60"'),
        ("budget: {seconds: .nan}", "nan"), ("budget: {seconds: .inf}", "inf"), ("serving: {port: '80'}", '"80"'),
        ("budget: 60", "60"), ("requirements: {}", "an empty mapping"), ("environment: Sandbox", '"Sandbox"'),
        ("modelyard: 2", "2"), ("budget: {threads: 1.5}", "1.5"),
    ],
)  # fmt: skip
def test_nothing_is_turned_silently_into_another_type(tmp_path: Path, line: str, seen: str) -> None:
    told = only(tmp_path, LEAST + line + "\n")
    assert told.startswith("4: ")
    assert f": saw {seen}, wanted " in told


def test_a_file_that_is_no_mapping_is_told(tmp_path: Path) -> None:
    assert only(tmp_path, "- a\n- b\n").startswith("1: the file: saw a list of 2, wanted a mapping")
    assert only(tmp_path, "just words").startswith('1: the file: saw "just words", wanted a mapping')


def test_no_more_than_a_hundred_faults_are_told(tmp_path: Path) -> None:
    told = faults(tmp_path, LEAST + "".join(f"x{n}: 1\n" for n in range(500)))
    assert len(told) == 101
    assert "and 400 more" in told[-1]


def test_a_value_the_reader_refused_is_told_once(tmp_path: Path) -> None:
    assert "below 2**63" in only(tmp_path, LEAST + "budget: {threads: " + "9" * 40 + "}\n")


def test_a_fault_is_one_line_that_a_terminal_does_not_obey(tmp_path: Path) -> None:
    told = only(tmp_path, LEAST + '"a\\n\\e[31m\\u202eb": "x"\n')
    assert told.isprintable()


def test_names_that_are_not_words_stand_in_quotes() -> None:
    assert dotted(("data", "columns", "a.b", "role")) == 'data.columns["a.b"].role'
    assert dotted(()) == "the file"


def test_long_text_is_shortened() -> None:
    assert len(show("x" * 1000)) < 80


def test_the_nearest_name_does_not_mind_capitals() -> None:
    assert nearest("ROC_AUC", ["roc_auc", "r2"]) == "roc_auc"
    assert nearest("qqq", ["roc_auc", "r2"]) == ""


def test_equal_faults_are_told_once() -> None:
    fault = Fault(place=("a",), seen="x", wanted="y")
    assert tell([fault, fault], "f", Marks({})) == ("f:1: a: saw x, wanted y",)
