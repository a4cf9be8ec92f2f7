"""Writes a new spec: every default visible, one line of comment each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelyard.core.contract import Kind, Role
from modelyard.core.data_plan import Format
from modelyard.core.machine import cores, memory_mb
from modelyard.core.metrics import Task
from modelyard.core.rollout import Strategy
from modelyard.spec.budget import DEFAULT_SECONDS
from modelyard.spec.candidates import CandidateSpec
from modelyard.spec.explain import in_words
from modelyard.spec.parameters import BUILT_IN, PARAMETERS
from modelyard.spec.requirements import DEFAULT_OBJECTIVE, RequirementSpec
from modelyard.spec.section import Section
from modelyard.spec.system import System
from modelyard.spec.task import ModelType
from modelyard.spec.writing import flow

WIDTH = 120
LONGEST_NAME = 100  # of a column or class that is written as a name; YAML bounds names
MOST_CLASSES = 1000  # of a constant answer
_DIGITS = 6


@dataclass(frozen=True, kw_only=True)
class SuggestedColumn:
    """What to write of one column, and why."""

    role: Role | None = None
    kind: Kind | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Suggestions:
    """What a look at the data suggests.

    `probabilities` are the shares of the classes and `mean` that of the target: the constant answer
    that a service falls back to. Without them it falls back to a refusal.
    """

    columns: Mapping[str, SuggestedColumn] = field(default_factory=dict)
    requirements: tuple[RequirementSpec, ...] = ()
    probabilities: Mapping[str, float] = field(default_factory=dict)
    mean: float | None = None
    separator: str = ","
    encoding: str = "utf-8"
    format: Format = Format.AUTO


def starter(
    *,
    name: str,
    data_path: str,
    target: str,
    task_type: ModelType,
    test_path: str | None = None,
    positive: str | None = None,
    suggestions: Suggestions | None = None,
) -> str:
    """Return the text of a new spec that `load` takes, every default visible.

    Args:
        data_path, test_path: relative to where the spec will stand, or absolute.
        positive: the class that counts as positive where there are two.
    """
    told = suggestions or Suggestions()
    system = System.model_validate(
        {
            "name": name,
            "task": {"type": task_type, "target": target, "positive": positive},
            "data": _data(data_path, test_path, task_type, told),
            "objective": _objective(task_type, positive, told),
            "requirements": told.requirements or (RequirementSpec(metric="latency_p95_ms", at_most=50.0),),
            "candidates": tuple({"algorithm": algorithm} for algorithm in BUILT_IN),
            "budget": {"seconds": DEFAULT_SECONDS, "threads": min(2, cores()), "memory_mb": min(4096, memory_mb())},
            "serving": {
                "endpoint": f"/api/v1/{name.replace('_', '-')}",
                "fallback": (_fallback(task_type, told),),
            },
            "rollout": {"strategy": Strategy.ALL_AT_ONCE},
        }
    )
    reasons: dict[tuple[str, ...], str] = {
        ("data", "columns", one): column.reason for one, column in told.columns.items()
    }
    lines = ["# A Modelyard spec. `modelyard explain` tells every value, `modelyard plan` what will be done.", ""]
    return "\n".join([*lines, *_block((), system, reasons)]) + "\n"


def _data(data_path: str, test_path: str | None, task_type: ModelType, told: Suggestions) -> dict[str, Any]:
    columns = {
        name: {"role": column.role, "kind": column.kind}
        for name, column in told.columns.items()
        if len(name) <= LONGEST_NAME and (column.role or column.kind)
    }
    split = {"test": 0.2 if test_path is None else 0.0, "calibrate": 0.0 if task_type is ModelType.REGRESSION else 0.1}
    return {
        "path": data_path,
        "test_path": test_path,
        "format": told.format,
        "separator": told.separator,
        "encoding": told.encoding,
        "columns": columns,
        "split": split,
    }


def _objective(task_type: ModelType, positive: str | None, told: Suggestions) -> str | None:
    if task_type is ModelType.REGRESSION:
        return DEFAULT_OBJECTIVE[Task.REGRESSION]
    if positive is not None or len(told.probabilities) == 2:
        return DEFAULT_OBJECTIVE[Task.BINARY]
    return DEFAULT_OBJECTIVE[Task.MULTICLASS] if told.probabilities else None


def _fallback(task_type: ModelType, told: Suggestions) -> dict[str, Any]:
    if task_type is ModelType.REGRESSION:
        return {"kind": "refuse"} if told.mean is None else {"kind": "constant", "value": told.mean}
    shares = told.probabilities
    if not shares or len(shares) > MOST_CLASSES or max(map(len, shares)) > LONGEST_NAME:
        return {"kind": "refuse"}
    likely = max(shares, key=lambda label: shares[label])
    rounded = {label: round(share, _DIGITS) for label, share in shares.items()}
    rounded[likely] = round(1 - sum(share for label, share in rounded.items() if label != likely), _DIGITS)
    return {"kind": "constant", "label": likely, "probabilities": rounded}


def _block(place: tuple[str, ...], section: Section, reasons: Mapping[tuple[str, ...], str]) -> Iterator[str]:
    """Yield the lines of a section, deeper by two spaces than the one around it."""
    indent = "  " * len(place)
    for name, info in type(section).model_fields.items():
        value, here, comment = getattr(section, name), (*place, name), _brief(info.description or "")
        if not place and isinstance(value, tuple | Section):
            yield ""
        if isinstance(value, Section):
            yield from _line(f"{indent}{name}:", comment, indent)
            yield from _block(here, value, reasons)
        elif here == ("candidates",):
            yield from _line(f"{name}:", comment, indent)
            yield from _also(CandidateSpec, "algorithm", "params")
            yield from _candidates()
        elif isinstance(value, Mapping) and any(isinstance(one, Section) for one in value.values()):
            yield from _line(f"{indent}{name}:", comment, indent)
            for key, one in value.items():
                text = f"{indent}  {flow(key)}: {flow(one.model_dump(mode='json', exclude_none=True))}"
                yield from _line(text, _one_line(reasons.get((*here, key), "")), indent + "  ")
        elif isinstance(value, tuple) and any(isinstance(one, Section) for one in value):
            yield from _line(f"{indent}{name}:", comment, indent)
            if here == ("requirements",):
                yield from _also(RequirementSpec, "metric")
            for one in value:
                yield f"{indent}  - {flow(one.model_dump(mode='json', exclude_defaults=True) | _tag(one))}"
        else:
            plain = section.model_dump(mode="json", include={name})[name]
            yield from _plain(f"{indent}{name}:", plain, comment, indent)


def _plain(text: str, value: Any, comment: str, indent: str) -> Iterator[str]:
    """Yield a value on one line, or an item a line where a list is too long for it."""
    if isinstance(value, list) and len(text) + len(flow(value)) >= WIDTH:
        yield from _line(text, comment, indent)
        yield from (f"{indent}  - {flow(one)}" for one in value)
    else:
        yield from _line(f"{text} {flow(value)}", comment, indent)


def _also(kind: type[Section], *apart: str) -> Iterator[str]:
    """Yield comments with what each item of a list may say beyond what is written."""
    fields = {name: info for name, info in kind.model_fields.items() if name not in apart}
    yield "  # Each item may also say, with these defaults:"
    for name, info in fields.items():
        yield f"  #   {name}: {flow(info.default)}  # {_brief(info.description or '')}"


def _tag(section: Section) -> dict[str, Any]:
    kind = getattr(section, "kind", None)
    return {} if kind is None else {"kind": kind}


def _candidates() -> Iterator[str]:
    for algorithm in BUILT_IN:
        yield f"  - algorithm: {algorithm.value}"
        known = PARAMETERS[algorithm]
        if known:
            yield "    params:"
        for name, parameter in known.items():
            yield from _line(f"      {name}: {in_words(parameter.search)}", parameter.meaning, " " * 6)


def _line(text: str, comment: str, indent: str) -> Iterator[str]:
    """Yield a line with its comment behind it, or above it where both are too long."""
    if comment and len(text) + len(comment) + 4 > WIDTH:
        yield f"{indent}# {comment}"
        yield text
    else:
        yield f"{text}  # {comment}" if comment else text


def _brief(description: str) -> str:
    """Return a description short enough for a comment: its first part where it is long."""
    text = description if len(description) <= WIDTH - 10 else description.split("; ")[0].split(". ")[0]
    return text.rstrip(".")


def _one_line(text: str) -> str:
    return "".join(sign for sign in " ".join(text.split()) if sign.isprintable())
