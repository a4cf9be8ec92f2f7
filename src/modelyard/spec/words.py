"""What a place of the spec may hold, told from its JSON Schema: for faults and for the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelyard.spec.faults import Place, listed, quoted

Schema = Mapping[str, Any]

_KINDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
    "array": "a list",
    "object": "a mapping",
}


def at(root: Schema, place: Place, value: Any) -> Schema:
    """Return the schema of a place; `value` is the whole spec as read and says which alternative is meant."""
    schema = resolved(root, root)
    for part in place:
        schema = _step(root, _alternative(root, schema, part, value), part)
        value = _inside(value, part)
    return schema


def fields(root: Schema, place: Place, value: Any) -> tuple[str, ...]:
    """Return the names of the fields that a place may have."""
    schema = at(root, place, value)
    for part in place:
        value = _inside(value, part)
    names: dict[str, None] = {}
    for option in _options(root, schema):
        if not isinstance(value, Mapping) or _tagged(option, value):
            names.update(dict.fromkeys(option.get("properties", {})))
    return tuple(names)


def told(root: Schema, schema: Schema) -> str:
    """Return in words what a schema allows."""
    if "x-wanted" in schema:
        return str(schema["x-wanted"])
    found = resolved(root, schema)
    if "x-wanted" in found:
        return str(found["x-wanted"])
    names = allowed(root, found)
    if names:
        return names[0] if len(names) == 1 else f"one of {listed(names)}"
    options = _options(root, found)
    if len(options) > 1:
        kinds = [option.get("type") for option in options]
        options = [one for one in options if one.get("type") != "integer" or "number" not in kinds]
        return " or ".join(dict.fromkeys(told(root, option) for option in options))
    return _simple(root, options[0])


def allowed(root: Schema, schema: Schema) -> tuple[str, ...]:
    """Return the values that a schema counts out, null aside; nothing where it does not."""
    found = resolved(root, schema)
    names: list[Any] = []
    for option in _options(root, found):
        if option.get("type") == "null":
            continue
        names += [option["const"]] if "const" in option else option.get("enum", [])
    refused = found.get("not", {}).get("const")
    return tuple(str(name) for name in names if name != refused)


def resolved(root: Schema, schema: Schema) -> Schema:
    """Return a schema with its reference followed; what stands beside the reference counts."""
    if "$ref" not in schema:
        return schema
    target: Any = root
    for part in str(schema["$ref"]).removeprefix("#/").split("/"):
        target = target[part]
    return {**resolved(root, target), **{name: value for name, value in schema.items() if name != "$ref"}}


def _options(root: Schema, schema: Schema) -> list[Schema]:
    for name in ("anyOf", "oneOf"):
        if name in schema:
            return [inner for one in schema[name] for inner in _options(root, resolved(root, one))]
    return [schema]


def _alternative(root: Schema, schema: Schema, part: str | int, value: Any) -> Schema:
    """Return the alternative that can hold `part` and fits the tag that the value carries."""
    options = _options(root, schema)
    fitting = [option for option in options if _holds(option, part)]
    if isinstance(value, Mapping):
        fitting = [option for option in fitting if _tagged(option, value)] or fitting
    return fitting[0] if fitting else options[0]


def _holds(schema: Schema, part: str | int) -> bool:
    if isinstance(part, int):
        return "items" in schema
    return part in schema.get("properties", {}) or isinstance(schema.get("additionalProperties"), Mapping)


def _tagged(schema: Schema, value: Mapping[str, Any]) -> bool:
    """Say whether the fields that can have one value only have it."""
    properties: Mapping[str, Schema] = schema.get("properties", {})
    return all(
        "const" not in one or name not in value or value[name] == one["const"] for name, one in properties.items()
    )


def _step(root: Schema, schema: Schema, part: str | int) -> Schema:
    if isinstance(part, int):
        return resolved(root, schema.get("items", {}))
    inner = schema.get("properties", {}).get(part)
    if inner is None:
        extra = schema.get("additionalProperties")
        inner = extra if isinstance(extra, Mapping) else {}
    return resolved(root, inner)


def has(value: Any, part: str | int) -> bool:
    """Say whether a mapping or a list has such a part."""
    if isinstance(value, list):
        return isinstance(part, int) and part < len(value)
    return isinstance(value, Mapping) and part in value


def _inside(value: Any, part: str | int) -> Any:
    return value[part] if has(value, part) else None


def _simple(root: Schema, schema: Schema) -> str:
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return " ".join((_KINDS[kind], _bounds(schema))).strip()
    if kind == "array":
        return _counted(f"a list, each {told(root, schema.get('items', {}))}", schema)
    if kind == "object" and "properties" in schema:
        return f"a mapping with {listed(tuple(schema['properties']))}"
    if kind == "object":
        return f"a mapping of a name to {told(root, schema.get('additionalProperties', {}))}"
    if kind == "string":
        return _text(schema)
    if isinstance(kind, Sequence) and not isinstance(kind, str):
        return " or ".join(_KINDS[one] for one in kind)
    return _KINDS.get(str(kind), "a value")


def _text(schema: Schema) -> str:
    if "pattern" in schema:
        return f"text like {quoted(schema['pattern'])}"
    if "maxLength" in schema:
        return f"text of at most {schema['maxLength']} characters"
    return "text that is not empty" if schema.get("minLength") else "text"


def _bounds(schema: Schema) -> str:
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f"from {low:.15g} to {high:.15g}"
    lower = f"above {above:.15g}" if above is not None else f"of at least {low:.15g}" if low is not None else ""
    upper = f"below {below:.15g}" if below is not None else f"at most {high:.15g}" if high is not None else ""
    return " and ".join(part for part in (lower, upper) if part)


def count(schema: Schema) -> str:
    """Return in words how many items a list may have; nothing where any number will do."""
    low, high = schema.get("minItems"), schema.get("maxItems")
    if high is None:
        return "" if low is None else f"at least {low}"
    return f"at most {high}" if low is None else f"{low} to {high}"


def _counted(text: str, schema: Schema) -> str:
    many = count(schema)
    return f"{text} ({many} of them)" if many else text
