from __future__ import annotations

from pathlib import Path

import pytest

from modelyard.core.space import Choice, Fixed, Plan, Range
from modelyard.spec.parameters import BUILT_IN, PARAMETERS, Algorithm
from tests.spec.making import LEAST, REGRESSION, faults, loaded, only


def plans(folder: Path, *lines: str, base: str = LEAST) -> tuple[Plan, ...]:
    return loaded(folder, base + "candidates:\n" + "".join(f"  - {{{line}}}\n" for line in lines)).spec.plans()


def fault(folder: Path, line: str, *, base: str = LEAST) -> str:
    return only(folder, f"{base}candidates:\n  - {{{line}}}\n")


def test_all_built_in_algorithms_are_tried_where_none_is_named(tmp_path: Path) -> None:
    assert [plan.name for plan in loaded(tmp_path, LEAST).spec.plans()] == [one.value for one in BUILT_IN]


def test_a_baseline_is_always_tried(tmp_path: Path) -> None:
    assert [plan.name for plan in plans(tmp_path, "algorithm: linear")] == ["baseline", "linear"]
    named = plans(tmp_path, "algorithm: linear", "algorithm: baseline, name: naive")
    assert [plan.name for plan in named] == ["linear", "naive"]


def test_values_ranges_and_choices_become_what_is_searched(tmp_path: Path) -> None:
    line = (
        "algorithm: lightgbm, params: {learning_rate: 0.05, num_leaves: {low: 8, high: 64, log: true}, "
        "l2: {choice: [0, 1.5]}, feature_share: {low: 0.5, high: 1.0, step: 0.25}, "
        "row_share: {low: 0.5, high: 0.9, first: 0.8}}"
    )
    space = plans(tmp_path, line)[1].space
    assert space["learning_rate"] == Fixed(value=0.05)
    assert space["num_leaves"] == Range(low=8, high=64, log=True, integer=True)
    assert space["l2"] == Choice(values=(0, 1.5))
    assert space["feature_share"] == Choice(values=(0.5, 0.75, 1.0))
    assert space["row_share"] == Range(low=0.5, high=0.9, default=0.8)
    assert space["max_trees"] == PARAMETERS[Algorithm.LIGHTGBM]["max_trees"].search


@pytest.mark.parametrize("algorithm", BUILT_IN)
def test_what_is_searched_by_default_is_within_the_bounds(algorithm: Algorithm) -> None:
    for parameter in PARAMETERS[algorithm].values():
        search = parameter.search
        if isinstance(search, Fixed):
            values: tuple[object, ...] = (search.value,)
        elif isinstance(search, Choice):
            values = search.values
        else:
            values = (search.low, search.high, search.default)
            assert search.integer == parameter.whole
        assert all(parameter.allows(value) for value in values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("algorithm", "param", "good", "bad"),
    [
        ("lightgbm", "learning_rate", ["1.0e-06", "1", "0.5"], ["0", "9.0e-07", "1.0001", "'0.1'", "true", "null"]),
        ("mlp", "learning_rate", ["1e-6", "1.0"], ["0", "2"]),
        ("mlp", "batch_size", ["1", "10000"], ["0", "10001", "1.5"]),
        ("mlp", "epochs", ["1", "10000"], ["0", "10001"]),
        ("mlp", "hidden", ['"64"', "64x32", "1x2x3x4"], ["64", "x64", "0x1", "64x", "1x1x1x1x1", "99999"]),
        ("random_forest", "max_depth", ["1", "100", "null"], ["0", "101"]),
        ("linear", "strength", ["1.0e-6", "1e6"], ["0", "-1"]),
    ],
)  # fmt: skip
def test_values_stay_within_the_bounds(
    tmp_path: Path, algorithm: str, param: str, good: list[str], bad: list[str]
) -> None:
    for value in good:
        assert (
            faults(tmp_path, f"{LEAST}candidates:\n  - {{algorithm: {algorithm}, params: {{{param}: {value}}}}}\n")
            == []
        )
    for value in bad:
        told = fault(tmp_path, f"algorithm: {algorithm}, params: {{{param}: {value}}}")
        assert told.startswith(f"5: candidates[0].params.{param}: saw ")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("algorithm: lihtgbm", "(nearest: lightgbm)"),
        ("algorithm: lightgbm, params: {num_leafs: 3}", "(nearest: num_leaves)"),
        ("algorithm: baseline, params: {a: 3}", "wanted no parameters"),
        (
            "algorithm: lightgbm, params: {l2: {low: 3, high: 1}}",
            "params.l2.high: saw 1 with `low` 3, wanted more than 3",
        ),
        ("algorithm: lightgbm, params: {l2: {low: 0, high: 1, log: true}}", "0 with `log`"),
        ("algorithm: lightgbm, params: {l2: {low: 1, high: 9, log: true, step: 1}}", "`step` beside `log`"),
        ("algorithm: lightgbm, params: {l2: {low: 1, high: 9, step: 0.001}}", "more than 100 values"),
        (
            "algorithm: lightgbm, params: {num_leaves: {low: 2, high: 9, step: 0.5}}",
            "a whole number, as the parameter is",
        ),
        ("algorithm: lightgbm, params: {l2: {low: 1, high: 9, first: 10}}", "a number from 1 to 9, as the range is"),
        ("algorithm: lightgbm, params: {l2: {low: 1}}", "params.l2.high: saw no such line"),
        ("algorithm: lightgbm, params: {l2: {lo: 1, hi: 2}}", "a value, a range"),
        ("algorithm: lightgbm, params: {l2: [1, 2]}", "a value, a range"),
        ("algorithm: lightgbm, params: {l2: {choice: []}}", "1 to 100 of them"),
        ("algorithm: lightgbm, params: {l2: {choice: [1, -1]}}", "params.l2.choice[1]: saw -1"),
        ("algorithm: lightgbm, params: {l2: .nan}", "params.l2: saw nan"),
        ("algorithm: mlp, params: {hidden: {low: 1, high: 2}}", "a range, wanted layer sizes"),
        ("algorithm: function", "without `function`"),
        ("algorithm: function, function: mine.py", "wanted package.module:function"),
        ("algorithm: linear, function: a:b", "a function beside `algorithm: linear`"),
        ("algorithm: linear, class_weight: balanceed", "(nearest: balanced)"),
        ("algorithm: linear, name: A", "1 to 63 of a-z"),
    ],
)
def test_candidates_that_cannot_be_tried_are_told(tmp_path: Path, line: str, told: str) -> None:
    assert told in fault(tmp_path, line)


def test_two_candidates_need_two_names(tmp_path: Path) -> None:
    told = only(tmp_path, LEAST + "candidates:\n  - {algorithm: linear}\n  - {algorithm: linear}\n")
    assert told == "6: candidates[1]: saw a second candidate named linear, wanted a `name` of its own (see line 5)"
    assert len(plans(tmp_path, "algorithm: linear", "algorithm: linear, name: second")) == 3


def test_a_function_of_ones_own_takes_any_parameters(tmp_path: Path) -> None:
    line = "name: mine, algorithm: function, function: package.module:build, params: {k: {low: 1, high: 9}, kind: x}"
    plan = plans(tmp_path, line)[1]
    assert (plan.name, plan.algorithm, plan.function) == ("mine", "function", "package.module:build")
    assert plan.space == {"k": Range(low=1, high=9, integer=True), "kind": Fixed(value="x")}


def test_probabilities_are_calibrated_where_there_are_rows_for_it(tmp_path: Path) -> None:
    line = "algorithm: linear"
    none = LEAST.replace("train.csv", "train.csv, split: {calibrate: 0}")
    assert [plan.calibrate for plan in plans(tmp_path, line)] == [False, True]  # a baseline is calibrated as it is
    assert not plans(tmp_path, line + ", calibrate: false")[1].calibrate
    assert not plans(tmp_path, line, base=none)[1].calibrate
    assert "is 0" in fault(tmp_path, line + ", calibrate: true", base=none)


@pytest.mark.parametrize("more", ["calibrate: true", "class_weight: balanced"])
def test_what_is_of_classes_is_refused_in_a_regression(tmp_path: Path, more: str) -> None:
    assert "in a regression" in fault(tmp_path, f"algorithm: linear, {more}", base=REGRESSION)
    assert not any(plan.calibrate for plan in loaded(tmp_path, REGRESSION).spec.plans())


def test_features_are_given_as_the_trainers_want_them(tmp_path: Path) -> None:
    found = {plan.algorithm: plan.encoding for plan in loaded(tmp_path, LEAST).spec.plans()}
    assert found == {
        "baseline": "tree", "linear": "dense", "lightgbm": "tree", "random_forest": "tree", "mlp": "dense",
    }  # fmt: skip
