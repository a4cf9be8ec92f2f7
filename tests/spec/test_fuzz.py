from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from modelyard.errors import SpecError, SpecFaults
from modelyard.spec import explain, load, reopen, starter
from modelyard.spec.init import Suggestions
from modelyard.spec.requirements import RequirementSpec
from modelyard.spec.system import System
from modelyard.spec.task import ModelType
from tests.spec.making import LEAST, machine, write

FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
WHOLE = starter(
    name="income", data_path="train.csv", target="income", task_type=ModelType.CLASSIFICATION, positive=">50K",
    suggestions=Suggestions(
        probabilities={"<=50K": 0.75, ">50K": 0.25},
        requirements=(RequirementSpec(metric="f1", at_least=0.5), RequirementSpec(metric="size_mb", at_most=10.0)),
    ),
)  # fmt: skip
TREE = yaml.safe_load(WHOLE)
WORDS = st.sampled_from(["metric", "at_least", "low", "high", "choice", "kind", "constant", "roc_auc", "x", "", "task"])
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(st.characters(exclude_categories=["Cs"]))
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=12
)


def loads_or_tells(folder: Path, data: bytes) -> System | None:
    """Return the spec, or None where its faults were told; anything else that is raised fails the test."""
    try:
        found = load(write(folder, data), world=machine(folder))
    except SpecFaults as error:
        assert error.faults
        assert all(fault.startswith("system.yaml") and "\n" not in fault for fault in error.faults)
        return None
    except SpecError:
        return None
    explain(found)
    assert reopen(found.spec.canonical()) == found.spec
    return found.spec


@FUZZ
@given(data=st.binary(max_size=300))
@example(data=b"\xff\xfe\x00")
@example(data=b"a: !<")
@example(data=b"%TAG ! tag:\n---\n!a b")
@example(data=b'"\\xff\\ud800\\U00110000"')
@example(data=b"? ? ? a\n")
@example(data=b"&a [*a, *a]")
def test_no_bytes_break_the_reader(tmp_path: Path, data: bytes) -> None:
    loads_or_tells(tmp_path, data)


@FUZZ
@given(text=st.text("abc:-[]{}#&*!|>'\"%@`,?\\ \n\t01.eE~<=\u0085\u2028\ufeff", max_size=120))
def test_no_text_of_the_signs_of_yaml_breaks_the_reader(tmp_path: Path, text: str) -> None:
    loads_or_tells(tmp_path, text.encode())


@FUZZ
@given(start=st.integers(0, len(WHOLE)), size=st.integers(0, 30), put=st.binary(max_size=8))
def test_no_wound_to_a_whole_spec_breaks_the_reader(tmp_path: Path, start: int, size: int, put: bytes) -> None:
    data = WHOLE.encode()
    loads_or_tells(tmp_path, data[:start] + put + data[start + size :])


def places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, one in inner for found in ((*place, key), *places(one, (*place, key)))]


@FUZZ
@given(data=st.data())
def test_no_other_values_in_a_whole_spec_break_the_checks(tmp_path: Path, data: st.DataObject) -> None:
    tree = copy.deepcopy(TREE)
    for place in data.draw(st.lists(st.sampled_from(places(TREE)), min_size=1, max_size=4)):
        parent: Any = tree
        for part in place[:-1]:
            inside = isinstance(parent, dict) and part in parent
            inside = inside or (isinstance(parent, list) and isinstance(part, int) and part < len(parent))
            parent = parent[part] if inside else None
        if isinstance(parent, dict):
            key = data.draw(st.just(place[-1]) | WORDS)
            parent[key] = data.draw(VALUES)
        elif isinstance(parent, list) and isinstance(place[-1], int) and place[-1] < len(parent):
            parent[place[-1]] = data.draw(VALUES)
    loads_or_tells(tmp_path, yaml.safe_dump(tree, allow_unicode=True).encode())


@FUZZ
@given(value=VALUES)
@example(value=[None])  # an alias: the two lists are one
def test_any_value_in_place_of_a_section_is_told(tmp_path: Path, value: Any) -> None:
    text = LEAST + yaml.safe_dump({"candidates": value, "requirements": value, "serving": value}, allow_unicode=True)
    loads_or_tells(tmp_path, text.encode())


@pytest.mark.parametrize("cut", range(0, len(WHOLE), 97))
def test_a_spec_that_was_cut_off_loads_or_is_told(tmp_path: Path, cut: int) -> None:
    loads_or_tells(tmp_path, WHOLE[:cut].encode())
