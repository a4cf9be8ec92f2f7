"""The documentation of the spec, written from its types so that it cannot say anything else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from modelyard.core import codec
from modelyard.core.metrics import METRICS
from modelyard.spec import words
from modelyard.spec.budget import BudgetSpec
from modelyard.spec.candidates import CandidateSpec, ChoiceSpec, RangeSpec
from modelyard.spec.data import ColumnSpec, DataSpec, SplitSpec
from modelyard.spec.explain import in_words
from modelyard.spec.fallback import (
    Answer,
    Case,
    Condition,
    ConstantFallback,
    PreviousFallback,
    RefuseFallback,
    RuleFallback,
    VariantFallback,
)
from modelyard.spec.parameters import PARAMETERS, Algorithm
from modelyard.spec.requirements import RequirementSpec, ThresholdSpec
from modelyard.spec.rollout import RolloutSpec, StepSpec
from modelyard.spec.schema import schema
from modelyard.spec.section import Section
from modelyard.spec.serving import ServingSpec
from modelyard.spec.system import System
from modelyard.spec.task import TaskSpec
from modelyard.spec.tree import MOST_ALIASES, MOST_BYTES, MOST_DEPTH, MOST_NODES
from modelyard.spec.writing import flow

_PAGES: Sequence[tuple[str, type[Section]]] = (
    ("The file", System),
    ("task", TaskSpec),
    ("data", DataSpec),
    ("data.columns.NAME", ColumnSpec),
    ("data.split", SplitSpec),
    ("requirements[]", RequirementSpec),
    ("threshold", ThresholdSpec),
    ("candidates[]", CandidateSpec),
    ("candidates[].params.NAME: a range", RangeSpec),
    ("candidates[].params.NAME: a choice", ChoiceSpec),
    ("budget", BudgetSpec),
    ("serving", ServingSpec),
    ("serving.fallback[]: previous", PreviousFallback),
    ("serving.fallback[]: variant", VariantFallback),
    ("serving.fallback[]: rule", RuleFallback),
    ("serving.fallback[].cases[]", Case),
    ("serving.fallback[].cases[].when[]", Condition),
    ("serving.fallback[].cases[].then, serving.fallback[].otherwise", Answer),
    ("serving.fallback[]: constant", ConstantFallback),
    ("serving.fallback[]: refuse", RefuseFallback),
    ("rollout", RolloutSpec),
    ("rollout.steps[]", StepSpec),
)

MOST_NAMES = 8  # that stand in a table; metrics have a table of their own

_INTRODUCTION = f"""# The spec

`system.yaml` says what a system is for, what it learns from, what must hold, and how it is served. `modelyard init`
writes one with every default visible, `modelyard explain` tells every value in effect, `modelyard schema` gives the
JSON Schema for an editor. This page is written from the types that read the file.

The least a spec must say:

```yaml
name: income
task: {{type: classification, target: income, positive: ">50K"}}
data: {{path: train.parquet}}
```

The file is YAML in UTF-8, read by the core schema of YAML 1.2: `true` and `false` are the only truth values (`yes` and
`no` are text), `1e-3` is a number. Nothing is turned silently into another type. It may have at most {MOST_BYTES}
bytes, {MOST_NODES} values, {MOST_DEPTH} levels and {MOST_ALIASES} aliases, one document, and no tags. Everything that
is wrong is reported at once, each with its line, what was seen, what was wanted and the nearest valid name.
"""


def document() -> str:
    """Return the documentation of the spec as Markdown."""
    parts = [_INTRODUCTION]
    for title, kind in _PAGES:
        parts.append(_page(title, kind))
    parts.append("## Parameters of the algorithms\n\nWhat a candidate does not name is searched as below.\n")
    parts += [_parameters(algorithm) for algorithm, known in PARAMETERS.items() if known]
    parts.append(_metrics())
    return "\n".join(parts)


def write_docs(path: Path) -> None:
    """Write the documentation of the spec to a file."""
    codec.write_atomic(path, document().encode())


def _page(title: str, kind: type[Section]) -> str:
    root = schema()
    found = root if kind is System else root["$defs"][kind.__name__]
    required = found.get("required", ())
    rows = [
        (f"`{name}`", _may_be(field), _default(name, field, required), words.resolved(root, field)["description"])
        for name, field in found["properties"].items()
    ]
    heading = title if title[0].isupper() else f"`{title}`"
    return f"## {heading}\n\n{kind.__doc__}\n\n{_table(('field', 'may be', 'default', 'meaning'), rows)}"


def _may_be(field: dict[str, Any]) -> str:
    """Return what a field may be; what has a table of its own on this page is not repeated."""
    root = schema()
    found = words.resolved(root, field)
    if len(words.allowed(root, found)) > MOST_NAMES:
        return "a name from the table of metrics"
    if "properties" in found:
        return "a mapping, see below"
    if "properties" in words.resolved(root, found.get("items", {})):
        return f"a list of mappings, see below; {words.count(found)}"
    return words.told(root, field)


def _default(name: str, field: dict[str, Any], required: Sequence[str]) -> str:
    if name in required:
        return "must be given"
    value = field["default"]
    if name == "candidates":
        return "every built-in algorithm"
    return "as below" if name in ("split", "budget", "serving", "rollout") else f"`{flow(value)}`"


def _parameters(algorithm: Algorithm) -> str:
    rows = [
        (f"`{name}`", one.wanted, f"`{in_words(one.search)}`", one.meaning)
        for name, one in PARAMETERS[algorithm].items()
    ]
    return f"### `{algorithm.value}`\n\n{_table(('parameter', 'may be', 'searched by default', 'meaning'), rows)}"


def _metrics() -> str:
    rows = [
        (
            f"`{one.name}`",
            "higher (`at_least`)" if one.higher_is_better else "lower (`at_most`)",
            one.unit,
            ", ".join(task.value for task in one.tasks),
            one.meaning,
        )
        for one in METRICS.values()
    ]
    return f"## Metrics\n\n{_table(('metric', 'better', 'unit', 'tasks', 'meaning'), rows)}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(_rows([head, ["---"] * len(head), *rows])) + "\n"


def _rows(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
