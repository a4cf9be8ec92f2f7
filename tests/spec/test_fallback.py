"""The order of fallbacks in a spec: what may stand in it, and every fault that is told."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.metrics import Task
from modelyard.spec import check_classes, check_columns, explain, reopen, schema
from modelyard.spec.fallback import Comparison, RuleFallback, answers, conditions, in_words
from tests.spec.making import LEAST, REGRESSION, faults, loaded, only
from tests.spec.test_fuzz import FUZZ, VALUES, loads_or_tells, places

YES = "{label: '>50K', probabilities: {'<=50K': 0.25, '>50K': 0.75}}"
NO = "{label: '<=50K', probabilities: {'<=50K': 0.75, '>50K': 0.25}}"
WHOLE = f"""
serving:
  fallback:
    - kind: previous
    - {{kind: variant, release: income-small@3}}
    - kind: rule
      cases:
        - when:
            - {{column: age, is: at_least, value: 65}}
            - {{column: city, is: one_of, value: [Oslo, "1", 2, 2.5, true]}}
          then: {YES}
        - when: [{{column: seen, is: below, value: 2026-01-31}}]
          then: {NO}
        - when:
            - {{column: score, is: missing}}
          then: {YES}
      otherwise: {NO}
"""


def order(text: str, *, base: str = LEAST) -> str:
    return f"{base}serving: {{fallback: [{text}]}}\n"


def rule(when: str, *, then: str = YES, otherwise: str = NO) -> str:
    return order(f"{{kind: rule, cases: [{{when: [{when}], then: {then}}}], otherwise: {otherwise}}}")


def test_every_kind_of_fallback_is_read_as_it_was_written(tmp_path: Path) -> None:
    spec = loaded(tmp_path, LEAST + WHOLE).spec
    kinds = [one.kind for one in spec.serving.fallback]
    last = spec.serving.fallback[2]
    assert kinds == ["previous", "variant", "rule"]
    assert isinstance(last, RuleFallback)
    assert last.cases[0].when[1].value == ("Oslo", "1", 2, 2.5, True)
    assert [type(one) for one in last.cases[0].when[1].value] == [str, str, int, float, bool]
    assert [case.when[0].test for case in last.cases] == [
        Comparison.AT_LEAST, Comparison.BELOW, Comparison.MISSING,
    ]  # fmt: skip


def test_a_rule_comes_back_from_the_sealed_spec_under_the_names_of_the_file(tmp_path: Path) -> None:
    spec = loaded(tmp_path, LEAST + WHOLE).spec
    assert reopen(spec.canonical()) == spec
    written = spec.serving.fallback[2].model_dump(mode="json", exclude_none=True)
    assert written["cases"][0]["when"][0] == {"column": "age", "is": "at_least", "value": 65}
    assert written["cases"][2]["when"] == [{"column": "score", "is": "missing"}]


def test_a_rule_fits_the_schema_and_is_explained_line_by_line(tmp_path: Path) -> None:
    jsonschema.Draft202012Validator(schema()).validate(yaml.safe_load((LEAST + WHOLE).replace("2026-01-31", '"x"')))
    text = explain(loaded(tmp_path, LEAST + WHOLE))
    assert "serving.fallback[2].cases[0].when[0].is = at_least  (set at line 12)" in text
    assert 'serving.fallback[1].release = "income-small@3"  (set at line 8)' in text


def test_each_fallback_is_told_in_one_line(tmp_path: Path) -> None:
    steps = loaded(tmp_path, LEAST + WHOLE).spec.serving.fallback
    assert [in_words(one) for one in steps] == [
        "previous: the release before this one, marked as degraded",
        "variant: income-small@3, marked as degraded",
        "rule: 3 cases and otherwise <=50K, marked as degraded",
    ]
    constant = loaded(tmp_path, order("{kind: constant, value: 2.50}", base=REGRESSION)).spec.serving.fallback[0]
    assert in_words(constant) == "constant: 2.5, marked as degraded"


def test_answers_and_conditions_are_found_with_their_places(tmp_path: Path) -> None:
    steps = loaded(tmp_path, LEAST + WHOLE).spec.serving.fallback
    assert [place[2:] for place, _ in answers(steps)] == [
        (2, "cases", 0, "then"), (2, "cases", 1, "then"), (2, "cases", 2, "then"), (2, "otherwise"),
    ]  # fmt: skip
    assert [(place[3:], one.column) for place, one in conditions(steps)] == [
        (("cases", 0, "when", 0), "age"),
        (("cases", 0, "when", 1), "city"),
        (("cases", 1, "when", 0), "seen"),
        (("cases", 2, "when", 0), "score"),
    ]


@pytest.mark.parametrize(
    "ending",
    [
        "{kind: refuse}",
        f"{{kind: rule, cases: [{{when: [{{column: a, is: missing}}], then: {YES}}}], otherwise: {NO}}}",
    ],
)
def test_releases_may_come_before_what_always_answers_and_nothing_after_it(tmp_path: Path, ending: str) -> None:
    assert (
        faults(
            tmp_path, order("{kind: previous}, {kind: variant, release: a@1}, {kind: variant, release: a@2}, " + ending)
        )
        == []
    )
    assert "wanted nothing after a fallback that always answers" in only(tmp_path, order(ending + ", {kind: previous}"))


def test_every_step_after_one_that_always_answers_is_told(tmp_path: Path) -> None:
    told = faults(tmp_path, order("{kind: previous}, {kind: refuse}, {kind: previous}, {kind: refuse}"))
    assert "fallback[2]: saw previous after refuse" in told[0]
    assert "fallback[2]: saw previous a second time" in told[1]
    assert "fallback[3]: saw refuse after refuse" in told[2]


@pytest.mark.parametrize("release", ["income", "income@0", "Income@1", "income@x", "income@01", '""'])
def test_a_variant_is_named_as_releases_are(tmp_path: Path, release: str) -> None:
    told = only(tmp_path, order(f"{{kind: variant, release: {release}}}"))
    assert "wanted a release such as income-small@3" in told


def test_the_same_release_twice_is_told(tmp_path: Path) -> None:
    told = only(tmp_path, order("{kind: variant, release: a@1}, {kind: variant, release: a@1}"))
    assert "saw a@1 a second time, wanted each release once" in told


@pytest.mark.parametrize(
    ("when", "told"),
    [
        ("{column: age, is: at_lest, value: 1}", "(nearest: at_least)"),
        ("{column: age, is: at_least}", "value: saw nothing, wanted `value`: `at_least` compares with it"),
        ("{column: age, is: at_least, value: true}", "value: saw true, wanted a number, or text for a date"),
        ("{column: age, is: below, value: [1]}", "value: saw a list of 1, wanted one value"),
        ("{column: age, is: one_of, value: 1}", "value: saw 1, wanted a list of 1 to 1000 values"),
        ("{column: age, is: one_of, value: []}", "value: saw a list of 0, wanted a list of 1 to 1000 values"),
        ("{column: age, is: missing, value: 1}", "value: saw 1, wanted no such line: `missing` compares with nothing"),
        ("{column: age, is: equals, value: {a: 1}}", "value: saw a mapping with a, wanted a number, text, true or"),
        ("{column: age, is: equals, value: .inf}", "value: saw inf"),
        ("{column: age, test: equals, value: 1}", "saw an unknown field, wanted one of column, is, value"),
        ("{is: equals, value: 1}", "when[0].column: saw no such line"),
        ("{column: '', is: equals, value: 1}", 'when[0].column: saw ""'),
        ("{column: income, is: equals, value: a}", 'when[0].column: saw "income", the target'),
        ("", "when: saw a list of 0"),
    ],
)
def test_conditions_that_cannot_be_asked_are_told(tmp_path: Path, when: str, told: str) -> None:
    found = faults(tmp_path, rule(when))
    assert any(told in one for one in found), found


@pytest.mark.parametrize(
    ("then", "told"),
    [
        ("{label: '>50K'}", "cases[0].then.probabilities: saw nothing, wanted `probabilities`: a rule answers"),
        ("{label: x, probabilities: {y: 1.0}}", 'cases[0].then.label: saw "x", wanted a class under'),
        ("{label: x, probabilities: {x: 0.5}}", "cases[0].then.probabilities: saw probabilities that add up to 0.5"),
        (YES.replace("}}", "}, value: 1}"), "cases[0].then.value: saw 1.0, wanted no such line"),
        ("{}", "cases[0].then.label: saw nothing"),
    ],
)
def test_answers_of_a_rule_are_held_to_what_a_constant_is(tmp_path: Path, then: str, told: str) -> None:
    found = faults(tmp_path, rule("{column: age, is: missing}", then=then))
    assert any(told in one for one in found), found
    found = faults(tmp_path, rule("{column: age, is: missing}", otherwise=then))
    assert any(told.replace("cases[0].then", "otherwise") in one for one in found), found


def test_a_rule_of_a_regression_answers_numbers(tmp_path: Path) -> None:
    text = (
        "{kind: rule, cases: [{when: [{column: a, is: above, value: 1}], then: {value: 2.5}}], otherwise: {value: 0}}"
    )
    assert faults(tmp_path, order(text, base=REGRESSION)) == []
    assert len(faults(tmp_path, order(text))) == 6  # two lines that lack and one too many, for each of the answers


def test_all_faults_of_an_order_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    text = (
        WHOLE.replace("value: 65", "value: [65]").replace("is: missing", "is: missing, value: 1")
        + "    - kind: refuse\n"
    )
    assert [one.partition(": saw ")[0] for one in faults(tmp_path, LEAST + text)] == [
        "12: serving.fallback[2].cases[0].when[0].value",
        "18: serving.fallback[2].cases[2].when[0].value",
        "21: serving.fallback[3]",
    ]


def test_columns_of_a_rule_are_those_of_the_data_and_features(tmp_path: Path) -> None:
    text = LEAST.replace("train.csv", "train.csv, columns: {city: {role: audit}}") + WHOLE
    told = check_columns(loaded(tmp_path, text), ("age", "income", "city", "scores", "seen"))
    assert [one.split(": ", 1)[1] for one in told] == [
        'serving.fallback[2].cases[0].when[1].column: saw "city", a column with the role audit, '
        "wanted a feature: a rule is given what the model is given",
        'serving.fallback[2].cases[2].when[0].column: saw the column "score", which the data does not have, '
        'wanted one of "age", "income", "city", "scores", "seen" (nearest: scores)',
    ]


def test_classes_of_a_rule_are_those_of_the_data(tmp_path: Path) -> None:
    found = loaded(tmp_path, LEAST + WHOLE)
    assert check_classes(found, Task.BINARY, ("<=50K", ">50K")) == ()
    told = check_classes(found, Task.BINARY, ("<=50K.", ">50K"))
    assert sum("otherwise.probabilities" in one for one in told) == 2
    assert len(told) == 8


TREE: dict[str, Any] = yaml.safe_load((LEAST + WHOLE).replace("2026-01-31", '"2026-01-31"'))
INSIDE = [place for place in places(TREE["serving"]) if len(place) > 1]


@FUZZ
@given(place=st.sampled_from(INSIDE), value=VALUES)
def test_no_value_anywhere_in_an_order_breaks_the_checks(tmp_path: Path, place: tuple[Any, ...], value: Any) -> None:
    tree = copy.deepcopy(TREE)
    parent: Any = tree["serving"]
    for part in place[:-1]:
        parent = parent[part]
    parent[place[-1]] = value
    loads_or_tells(tmp_path, yaml.safe_dump(tree, allow_unicode=True).encode())
