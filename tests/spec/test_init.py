from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard.core.contract import Kind, Role
from modelyard.core.ids import NAME
from modelyard.spec import SuggestedColumn, Suggestions, load, starter
from modelyard.spec.fallback import ConstantFallback, RefuseFallback
from modelyard.spec.requirements import RequirementSpec
from modelyard.spec.task import ModelType
from tests.spec.making import LEAST, loaded, machine, write

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=120)
LABELS = st.lists(TEXT, min_size=2, max_size=5, unique=True)


def income(**more: Any) -> str:
    told = {"name": "income", "data_path": "train.csv", "target": "income", "positive": ">50K", **more}
    return starter(task_type=ModelType.CLASSIFICATION, **told)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.from_regex(NAME, fullmatch=True).filter(lambda name: not name.endswith("\n")),
    target=TEXT,
    labels=LABELS,
    kind=st.sampled_from([ModelType.CLASSIFICATION, ModelType.REGRESSION]),
    binary=st.booleans(),
    own_test=st.booleans(),
    shares=st.lists(st.floats(0.001, 1), min_size=5, max_size=5),
    mean=st.floats(allow_nan=False, allow_infinity=False),
    roles=st.lists(
        st.tuples(
            TEXT, st.sampled_from([Role.AUDIT, Role.IGNORE, Role.ID, None]), st.sampled_from([*Kind, None]), TEXT
        ),
        max_size=4,
    ),
)
def test_any_starter_loads_and_says_what_it_was_told(
    tmp_path: Path,
    name: str,
    target: str,
    labels: list[str],
    kind: ModelType,
    binary: bool,
    own_test: bool,
    shares: list[float],
    mean: float,
    roles: list[tuple[str, Role | None, Kind | None, str]],
) -> None:
    total = sum(shares[: len(labels)])
    classes = kind is ModelType.CLASSIFICATION
    text = starter(
        name=name,
        data_path="train.csv",
        test_path="train.csv" if own_test else None,
        target=target,
        task_type=kind,
        positive=labels[0] if binary and classes else None,
        suggestions=Suggestions(
            columns={
                column: SuggestedColumn(role=role, kind=inferred, reason=reason)
                for column, role, inferred, reason in roles
                if column != target
            },
            probabilities={label: share / total for label, share in zip(labels, shares, strict=False)},
            mean=mean,
        ),
    )
    spec = load(write(tmp_path, text)).spec
    assert (spec.name, spec.task.target, spec.task.type) == (name, target, kind)
    assert spec.task.positive == (labels[0] if binary and classes else None)
    fallback = spec.serving.fallback[0]
    if classes and max(map(len, labels)) <= 100:
        assert isinstance(fallback, ConstantFallback)
        assert fallback.probabilities is not None
        assert set(fallback.probabilities) == set(labels)
    elif not classes:
        assert fallback == ConstantFallback(kind="constant", value=mean)
    else:
        assert fallback == RefuseFallback(kind="refuse")


def test_a_starter_does_what_the_least_spec_does(tmp_path: Path) -> None:
    told, least = loaded(tmp_path, income()).spec, loaded(tmp_path, LEAST).spec
    assert told.plans() == least.plans()
    assert told.data == least.data
    assert told.split_shares() == least.split_shares()


def test_every_field_of_every_section_stands_in_a_starter(tmp_path: Path) -> None:
    found = loaded(tmp_path, income())
    for section in ("task", "data", "budget", "serving", "rollout"):
        for name in type(getattr(found.spec, section)).model_fields:
            assert (section, name) in found.marks, name
    for name in type(found.spec).model_fields:
        assert (name,) in found.marks, name


def test_a_starter_reads_the_same_by_the_rules_of_yaml_1_1(tmp_path: Path) -> None:
    text = income(suggestions=Suggestions(probabilities={"no": 0.25, ">50K": 0.75}))
    other = yaml.safe_load(text)
    assert other["serving"]["fallback"][0]["probabilities"] == {"no": 0.25, ">50K": 0.75}
    assert other["candidates"][4]["params"]["l2"]["low"] == 1e-6
    assert other["data"]["null_values"] == list(loaded(tmp_path, text).spec.data.null_values)


def test_no_line_is_longer_than_the_width_where_it_is_ours() -> None:
    assert all(len(line) <= 120 for line in income().splitlines())


def test_the_constant_answer_is_the_likeliest_class(tmp_path: Path) -> None:
    shares = {"a": 1 / 3, "b": 1 / 3 + 1e-9, "c": 1 / 3}
    spec = loaded(tmp_path, income(positive=None, suggestions=Suggestions(probabilities=shares))).spec
    fallback = spec.serving.fallback[0]
    assert isinstance(fallback, ConstantFallback)
    assert fallback.label == "b"
    assert sum((fallback.probabilities or {}).values()) == pytest.approx(1)
    assert spec.objective == "log_loss"


def test_without_shares_the_answer_is_a_refusal(tmp_path: Path) -> None:
    assert loaded(tmp_path, income()).spec.serving.fallback == (RefuseFallback(kind="refuse"),)


def test_suggested_requirements_are_written(tmp_path: Path) -> None:
    lines = (
        RequirementSpec(metric="roc_auc", at_least=0.8),
        RequirementSpec(metric="recall", at_least=0.5, slice="a=b"),
    )
    spec = loaded(tmp_path, income(suggestions=Suggestions(requirements=lines))).spec
    assert spec.requirements == lines


def test_reasons_stand_beside_the_columns() -> None:
    text = income(
        suggestions=Suggestions(columns={"sex": SuggestedColumn(role=Role.AUDIT, reason="protected\nby law")})
    )
    assert "    sex: {role: audit}  # protected by law\n" in text


def test_a_starter_asks_for_no_more_than_the_machine_has(tmp_path: Path) -> None:
    spec = load(write(tmp_path, income())).spec
    assert spec.budget.threads <= machine(tmp_path).cores
