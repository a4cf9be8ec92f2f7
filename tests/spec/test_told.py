"""Explanation, schema and documentation: what the types say of themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from modelyard.core.metrics import METRICS
from modelyard.spec import document, explain, schema, starter, write_docs
from modelyard.spec.explain import values
from modelyard.spec.task import ModelType
from tests.spec.making import LEAST, loaded

DOCS = Path(__file__).parents[2] / "docs" / "spec.md"


def test_each_value_is_marked_with_its_line_or_as_a_default(tmp_path: Path) -> None:
    text = explain(loaded(tmp_path, LEAST + "seed: 7\n"))
    assert "seed = 7  (set at line 4)\n    Seed of everything random." in text
    assert "serving.port = 8080  (default)\n" in text
    assert 'task.positive = ">50K"  (set at line 2)\n' in text


def test_what_a_rule_decides_is_told_as_decided(tmp_path: Path) -> None:
    text = explain(loaded(tmp_path, LEAST + "requirements: [{metric: recall, at_least: 0.8}]\n"))
    assert "objective = roc_auc  (default)" in text
    assert "threshold = {maximise: f1}  (default)" in text
    assert "budget.seconds = 60  (default)" in text
    assert "candidates[2].params.learning_rate = {low: 0.02, high: 0.2, log: true, first: 0.1}  (default)" in text
    assert "candidates[0].calibrate = false  (default)" in text


def test_parameters_of_the_file_are_told_with_their_line(tmp_path: Path) -> None:
    more = "candidates:\n  - algorithm: lightgbm\n    params:\n      l2: {low: 0, high: 3, step: 1}\n"
    text = explain(loaded(tmp_path, LEAST + more))
    assert "candidates[0].params.l2 = {low: 0, high: 3, step: 1}  (set at line 7)" in text
    assert "candidates[0].params.max_trees = 600  (default)" in text


def test_every_value_has_a_meaning(tmp_path: Path) -> None:
    more = 'candidates: [{algorithm: function, function: "a:b", params: {k: {low: 1, high: 2}}}]\n'
    for value in (*values(loaded(tmp_path, LEAST).spec), *values(loaded(tmp_path, LEAST + more).spec)):
        assert value.meaning, value.place


def good() -> list[dict[str, Any]]:
    task = {"type": "classification", "target": "income"}
    least = {"name": "income", "task": task, "data": {"path": "train.csv"}}
    text = starter(
        name="income", data_path="train.csv", target="income", task_type=ModelType.CLASSIFICATION, positive=">50K"
    )
    return [
        least,
        yaml.safe_load(text),
        {**least, "task": {**task, "positive": 1}},
        {**least, "candidates": [{"algorithm": "lightgbm", "params": {"l2": {"low": 1, "high": 2}, "x": None}}]},
        {**least, "serving": {"fallback": [{"kind": "constant", "value": 1.5}, {"kind": "refuse"}]}},
        {**least, "threshold": {"maximise": "f1"}, "objective": None},
        {**least, "rollout": {"strategy": "blue_green", "drills": ["disk_full", "rollback_service"]}},
        {**least, "rollout": {"steps": [{"share": 0.5}], "expected_requests_per_s": None}},
    ]


def bad() -> list[dict[str, Any]]:
    least = good()[0]
    return [
        {},
        {**least, "extra": 1},
        {**least, "name": "Income"},
        {**least, "task": {"type": "generation", "target": "x"}},
        {**least, "task": {"type": "classification", "target": ""}},
        {**least, "seed": "1"},
        {**least, "seed": -1},
        {**least, "objective": "latency_p95_ms"},
        {**least, "requirements": [{"metric": "recal"}]},
        {**least, "requirements": [{"metric": "recall", "confidence": 0.5}]},
        {**least, "candidates": [{"algorithm": "svm"}]},
        {**least, "candidates": [{"algorithm": "linear", "params": {"strength": [1]}}]},
        {**least, "data": {"path": "a", "separator": ",,"}},
        {**least, "data": {"path": "a", "columns": {"a": {"role": "target"}}}},
        {**least, "data": {"path": "a", "split": {"test": 1}}},
        {**least, "serving": {"endpoint": "/income"}},
        {**least, "serving": {"fallback": [{"kind": "constnt"}]}},
        {**least, "budget": {"threads": 1.5}},
        {**least, "rollout": {"strategy": "big_bang"}},
        {**least, "rollout": {"steps": [{"share": 1}]}},
        {**least, "rollout": {"drills": ["worker_tired"]}},
        {**least, "rollout": {"drills": []}},
    ]


def test_the_schema_is_a_schema_of_its_dialect() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    assert schema()["$schema"] == jsonschema.Draft202012Validator.META_SCHEMA["$id"]
    json.dumps(schema())


@pytest.mark.parametrize("spec", good())
def test_good_specs_fit_the_schema(spec: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(schema()).validate(spec)


@pytest.mark.parametrize("spec", bad())
def test_bad_specs_do_not_fit_the_schema(spec: dict[str, Any]) -> None:
    assert not jsonschema.Draft202012Validator(schema()).is_valid(spec)


def test_the_documentation_is_what_the_types_say() -> None:
    assert DOCS.read_text() == document(), "write it anew: modelyard.spec.write_docs(Path('docs/spec.md'))"


def test_the_documentation_is_written_to_a_file(tmp_path: Path) -> None:
    write_docs(tmp_path / "spec.md")
    assert (tmp_path / "spec.md").read_text() == document()


def test_the_least_spec_of_the_documentation_loads(tmp_path: Path) -> None:
    example = document().split("```yaml\n")[1].split("```")[0]
    (tmp_path / "train.parquet").write_bytes(b"PAR1")
    assert loaded(tmp_path, example).spec.name == "income"


def test_the_documentation_names_every_field_and_metric() -> None:
    text = document()
    names = {name for part in (schema(), *schema()["$defs"].values()) for name in part.get("properties", {})}
    for name in (*names, *METRICS):
        assert f"| `{name}` |" in text, name


def test_every_row_of_a_table_has_its_meaning() -> None:
    rows = [line for line in document().splitlines() if line.startswith("| `")]
    assert all(cell.strip() for row in rows for cell in row.replace("\\|", "").strip("|").split("|"))
