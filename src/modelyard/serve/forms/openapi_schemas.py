"""JSON Schemas of what a model takes and answers, as the OpenAPI document has them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modelyard.bundle.tensor import DTYPES
from modelyard.bundle.values import LARGEST_INTEGER, LONGEST_STRING
from modelyard.core.contract import Column, Contract, Kind, Role
from modelyard.core.encoding import MISSING
from modelyard.serve.forms.invocations import probability_name
from modelyard.serve.model import Model
from modelyard.serve.v2.outputs import OUTPUT_TYPES
from modelyard.serve.v2.slots import DATATYPES

Schema = dict[str, Any]

_LARGEST = sys.float_info.max
_NUMBER = {"type": "number", "minimum": -_LARGEST, "maximum": _LARGEST}
_TEXT = {"type": "string", "maxLength": LONGEST_STRING}
_INTEGER = {"type": "integer", "minimum": -LARGEST_INTEGER, "maximum": LARGEST_INTEGER}


def column_schema(column: Column, contract: Contract, *, unknown_category: str = "accept") -> Schema:
    """Return what a row may have in a column."""
    if column.role is not Role.FEATURE:
        return {"description": f"Known as {column.role}; it may be sent and reaches no model."}
    if column.kind is Kind.TENSOR:
        return _nested(column) | {"description": _about(column)}
    schema = _scalar(column, refuse=unknown_category == "refuse")
    if column.nullable:
        schema = {"anyOf": [schema, {"type": "null"}]}
    elif column.kind is not Kind.BOOLEAN and not column.kind.is_numeric:
        schema = schema | {"not": {"enum": [*contract.missing_texts, *([MISSING] if column.kind.is_string else [])]}}
    return schema | {"description": _about(column)}


def row_schema(model: Model) -> Schema:
    """Return the schema of a row by name."""
    contract = model.contract
    return _object(
        {
            column.name: column_schema(column, contract, unknown_category=model.unknown_category)
            for column in contract.columns
        },
        required=[column.name for column in contract.features if _is_needed(column)],
    )


def rows_schema(model: Model, name: str = "rows") -> Schema:
    """Return the schema of the plain form's body, with the rows under a name."""
    rows = {"type": "array", "minItems": 1, "maxItems": model.limits.rows_at_once, "items": row_schema(model)}
    return _object({name: rows}, required=[name])


def columns_schema(model: Model) -> Schema:
    """Return the schema of `{"inputs": {...}}`, values by column."""
    row = row_schema(model)
    most = model.limits.rows_at_once
    columns = {
        name: {"type": "array", "minItems": 1, "maxItems": most, "items": value}
        for name, value in row["properties"].items()
    }
    about = "Values by column, all lists equally long."
    inputs = _object(columns, required=row["required"]) | {"minProperties": 1, "description": about}
    return _object({"inputs": inputs}, required=["inputs"])


def infer_schema(model: Model) -> Schema:
    """Return the schema of the protocol's infer request in JSON."""
    contract = model.contract
    needed = [column.name for column in contract.features if _is_needed(column)]
    about = (
        "An input a column, each once; `data` is flat or nested as `shape` and has as many elements as `shape` says, "
        "and the first number of `shape`, the rows, is the same for all."
    )
    listed = _each_once([_input(column, contract, model.unknown_category) for column in contract.columns], needed) | {
        "minItems": 1,
        "description": about,
    }
    outputs = _each_once(
        [
            _object({"name": {"const": name}, "parameters": _OUTPUT_WISHES}, required=["name"])
            for name in model.output_names
        ]
    )
    return _object(
        {
            "id": {"type": ["string", "null"]},
            "model_name": {"enum": [model.name, "", None], "description": "The path's model, where it is said again."},
            "inputs": listed,
            "outputs": {"anyOf": [outputs, {"type": "null"}]},
            "parameters": _WISHES,
        },
        required=["inputs"],
    )


def predictions_schema(models: Sequence[Model], *, flat: bool = False) -> Schema:
    """Return the schema of the plain form's answer; `flat` is that of hosted platforms."""
    shapes = []
    for model in models:
        shares = {name: {"type": "number"} for name in model.classes}
        label = {"enum": list(model.classes)}
        if model.is_regression:
            shapes.append(_object({"value": {"type": "number"}}, all_needed=True))
        elif flat:
            named = {probability_name(name): share for name, share in shares.items()}
            shapes.append(_object({"label": label, **named}, all_needed=True))
        else:
            fields = {"label": label, "probabilities": _object(shares, all_needed=True)}
            shapes.append(_object(fields, all_needed=True))
    properties = {
        "predictions": {"type": "array", "minItems": 1, "items": any_of(shapes)},
        "served_by": {"type": "string", "description": "The release, or its fallback."},
        "degraded": {"type": "boolean", "description": "Not the release but its fallback answered."},
        "reason": {"type": ["string", "null"], "description": "Why the answer is degraded."},
        "request_id": {"type": "string"},
    }
    return _object(properties, all_needed=True)


def answer_schema(models: Sequence[Model]) -> Schema:
    """Return the schema of the protocol's infer answer."""
    outputs = []
    for name in dict.fromkeys(name for model in models for name in model.output_names):
        kind = "string" if OUTPUT_TYPES[name] == "BYTES" else "number"
        properties = {
            "name": {"const": name},
            "datatype": {"const": OUTPUT_TYPES[name]},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "data": {"type": "array", "items": {"type": kind}},
            "parameters": _object({"binary_data_size": {"type": "integer", "minimum": 0}}),
        }
        outputs.append(_object(properties, required=["name", "datatype", "shape"]))
    parameters = _object(
        {"served_by": {"type": "string"}, "degraded": {"type": "boolean"}, "reason": {"type": "string"}},
        required=["served_by", "degraded"],
    )
    properties = {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "parameters": parameters,
        "outputs": {"type": "array", "minItems": 1, "items": {"oneOf": outputs}},
    }
    return _object(properties, required=["model_name", "model_version", "parameters", "outputs"])


_SCALAR = {"type": ["string", "number", "boolean", "null"]}
_WISHES = {
    "type": ["object", "null"],
    "description": "Others than these are let pass.",
    "properties": {
        "priority": {"enum": [0, 1, 2, 3, None], "description": "0 as usual, 1 high, 2 normal, 3 low."},
        "timeout": {
            "anyOf": [{"type": "integer", "minimum": 0, "maximum": 2**53}, {"type": "null"}],
            "description": "Microseconds until an answer is of no use.",
        },
        "binary_data_output": {"type": ["boolean", "null"], "description": "Outputs as bytes behind the JSON."},
    },
    "additionalProperties": _SCALAR,
}
_OUTPUT_WISHES = {
    "type": ["object", "null"],
    "properties": {"binary_data": {"type": ["boolean", "null"]}, "classification": {"enum": [None, 0, False]}},
    "additionalProperties": _SCALAR,
}


def any_of(schemas: Sequence[Schema]) -> Schema:
    """Return what fits one of these."""
    return _joined("anyOf", schemas)


def all_of(schemas: Sequence[Schema]) -> Schema:
    """Return what fits all of these."""
    return _joined("allOf", schemas)


def _joined(word: str, schemas: Sequence[Schema]) -> Schema:
    different: list[Schema] = []
    for schema in schemas:
        if schema not in different:
            different.append(schema)
    return different[0] if len(different) == 1 else {word: different}


def _object(properties: Mapping[str, Any], *, required: Sequence[str] = (), all_needed: bool = False) -> Schema:
    needed = list(properties) if all_needed else list(required)
    return {"type": "object", "properties": dict(properties), "required": needed, "additionalProperties": False}


def _each_once(kinds: Sequence[Schema], needed: Sequence[str] = ()) -> Schema:
    """Return a list of objects of these kinds, told apart by their constant `name`, none of them twice."""
    names = [kind["properties"]["name"]["const"] for kind in kinds]
    counts = [
        {
            "contains": {"type": "object", "properties": {"name": {"const": name}}, "required": ["name"]},
            "minContains": int(name in needed),
            "maxContains": 1,
        }
        for name in names
    ]
    return {"type": "array", "maxItems": len(kinds), "items": {"oneOf": list(kinds)}, "allOf": counts}


def _is_needed(column: Column) -> bool:
    return not column.nullable or column.kind is Kind.TENSOR


def _scalar(column: Column, *, refuse: bool) -> Schema:
    if column.kind is Kind.CATEGORY and refuse:
        return {"enum": list(column.categories)}
    if column.kind is Kind.BOOLEAN:
        return {"enum": [True, False, 0, 1]}
    if column.kind is Kind.DATE:
        return {"type": "string", "format": "date"}
    if column.kind is Kind.DATETIME:
        return {"type": "string", "format": "date-time"}
    return dict({Kind.INTEGER: _INTEGER, Kind.NUMBER: _NUMBER}.get(column.kind, _TEXT))


def _element(datatype: str) -> Schema:
    """Return the schema of an element of a tensor."""
    if datatype in ("BYTES", "BOOL"):
        return dict(_TEXT) if datatype == "BYTES" else {"type": "boolean"}
    dtype = DTYPES[datatype]
    if dtype.kind == "f":
        largest = float(np.finfo(dtype).max)
        return {"type": "number", "minimum": -largest, "maximum": largest}
    limits = np.iinfo(dtype)
    return {"type": "integer", "minimum": int(limits.min), "maximum": int(limits.max)}


def _nested(column: Column) -> Schema:
    schema = _element(column.datatype or "FP32")
    for size in reversed(column.shape):
        bounds = {"minItems": 1} if size == -1 else {"minItems": size, "maxItems": size}
        schema = {"type": "array", **bounds, "items": schema}
    return schema


def _input(column: Column, contract: Contract, unknown_category: str) -> Schema:
    is_tensor = column.kind is Kind.TENSOR
    datatype = (column.datatype or "FP32") if is_tensor else DATATYPES[column.kind]
    element = _element(datatype)
    if not is_tensor and column.role is Role.FEATURE and column.kind is not Kind.BOOLEAN:
        element = column_schema(column, contract, unknown_category=unknown_category)
    elif not is_tensor and (column.nullable or column.role is not Role.FEATURE):
        element = {"anyOf": [element, {"type": "null"}]}
    sizes: list[Schema] = [{"type": "integer", "minimum": 1}]
    sizes += [{"type": "integer", "minimum": 1} if size == -1 else {"const": size} for size in column.shape]
    shape = {"type": "array", "prefixItems": sizes, "minItems": len(sizes), "maxItems": len(sizes)}
    return _object(
        {
            "name": {"const": column.name},
            "datatype": {"const": datatype},
            "shape": shape,
            "data": {"type": "array", "minItems": 1, "items": element},
            "parameters": {"type": ["object", "null"], "additionalProperties": _SCALAR},
        },
        required=["name", "datatype", "shape", "data"],
    )


def _about(column: Column) -> str:
    words = [column.kind.value + (", may be missing" if column.nullable and column.kind is not Kind.TENSOR else "")]
    if column.kind.is_numeric and column.minimum is not None and column.maximum is not None:
        words.append(f"seen in training from {column.minimum:g} to {column.maximum:g}; others are taken too")
    if column.categories:
        words.append(f"{column.distinct} values seen in training, most often {', '.join(column.categories[:10])}")
    if column.format is not None:
        words.append(f"also as `{column.format}`")
    if column.datatype is not None:
        words.append(
            f"{column.datatype}, rounded to the nearest" if column.datatype.startswith("FP") else column.datatype
        )
    if -1 in column.shape:
        words.append("of any size, the same in all rows of a request")
    return "; ".join(words)
