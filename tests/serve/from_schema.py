"""Values that fit a JSON Schema, and values that do not, for the part of the language that our documents use."""

from __future__ import annotations

import copy
import random
import string
from typing import Any

from jsonschema import Draft202012Validator

Schema = dict[str, Any]
TEXTS = ("", "Oslo", "Zürich", "a b", "0", "true", "\u2603", "<b>&\"'\\")


class Maker:
    """Makes values at random, from a seed."""

    def __init__(self, document: Schema, seed: int) -> None:
        self.document, self.random = document, random.Random(seed)

    def resolved(self, schema: Schema) -> Schema:
        while "$ref" in schema:
            found: Any = self.document
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            schema = found
        return schema

    def is_valid(self, schema: Schema, value: Any) -> bool:
        whole = {**schema, "components": self.document.get("components", {})}
        return bool(Draft202012Validator(whole).is_valid(value))

    def valid(self, schema: Schema) -> Any:
        """Return a value that fits."""
        for _ in range(50):
            value = self._make(schema)
            if self.is_valid(schema, value):
                return value
        raise AssertionError(f"No value was found that fits {schema!r:.500}")

    def invalid(self, schema: Schema) -> Any | None:
        """Return a value that does not fit, by one change to one that does; None where no change was found."""
        for _ in range(50):
            value = copy.deepcopy(self.valid(schema))
            value = self._broken(self._chosen(schema, value), value)
            if not self.is_valid(schema, value):
                return value
        return None

    def _make(self, schema: Schema) -> Any:
        schema = self.resolved(schema)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self.random.choice(schema["enum"])
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return self._make(self.random.choice(schema[word]))
        kind = schema.get("type", ["string", "integer", "null"])
        if isinstance(kind, list):
            kind = self.random.choice(kind)
        return getattr(self, f"_{kind}")(schema)

    def _null(self, schema: Schema) -> None:
        return None

    def _boolean(self, schema: Schema) -> bool:
        return self.random.random() < 0.5

    def _integer(self, schema: Schema) -> int:
        least, most = schema.get("minimum", -1000), schema.get("maximum", 1000)
        near = self.random.randint(max(least, -50), min(most, 150))
        return int(self.random.choice([near, near, near, least, most]))

    def _number(self, schema: Schema) -> float:
        least, most = schema.get("minimum", -1e9), schema.get("maximum", 1e9)
        if "exclusiveMinimum" in schema:
            least = schema["exclusiveMinimum"] + 100
        choices = [self.random.uniform(max(least, -9.0), min(most, 900.0)), max(least, 0), least, most, 2.5e-3]
        return float(self.random.choice(choices))

    def _string(self, schema: Schema) -> str:
        year, month, day = self.random.randint(1, 9999), self.random.randint(1, 12), self.random.randint(1, 28)
        date = f"{year:04}-{month:02}-{day:02}"
        if schema.get("format") == "date":
            return date
        if schema.get("format") == "date-time":
            second = self.random.choice(["00", "59", "30.25"])
            return f"{date}T{self.random.randint(0, 23):02}:07:{second}{self.random.choice(['Z', '+05:30', '-02:00'])}"
        if "pattern" in schema:
            return "".join(self.random.choices(string.ascii_letters + "._:-", k=self.random.randint(1, 20)))
        return self.random.choice(TEXTS)

    def _array(self, schema: Schema) -> list[Any]:
        firsts = [self._make(part) for part in schema.get("prefixItems", [])]
        if "contains" in str(schema.get("allOf", "")):
            return self._each_once(schema)
        least, most = schema.get("minItems", 0), schema.get("maxItems", 4)
        count = self.random.randint(least, max(least, min(most, least + 3)))
        return firsts + [self._make(schema["items"]) for _ in range(count - len(firsts))]

    def _each_once(self, schema: Schema) -> list[Any]:
        """Return one of each kind that must be there, and some of the others."""
        needed = {part["contains"]["properties"]["name"]["const"] for part in schema["allOf"] if part["minContains"]}
        kept = [
            k
            for k in schema["items"]["oneOf"]
            if k["properties"]["name"]["const"] in needed or self.random.random() < 0.6
        ]
        return [self._make(kind) for kind in self.random.sample(kept, len(kept))]

    def _object(self, schema: Schema) -> dict[str, Any]:
        needed = set(schema.get("required", ()))
        properties = schema.get("properties", {})
        names = [name for name in properties if name in needed or self.random.random() < 0.6]
        self.random.shuffle(names)
        return {name: self._make(properties[name]) for name in names}

    def _chosen(self, schema: Schema, value: Any) -> Schema:
        """Return the branch of a choice that a value fits."""
        schema = self.resolved(schema)
        for word in ("anyOf", "oneOf"):
            for branch in schema.get(word, ()):
                if self.is_valid(branch, value):
                    return self._chosen(branch, value)
        return schema

    def _broken(self, schema: Schema, value: Any) -> Any:
        """Return a value with something dropped, added, or of another type, here or further in."""
        if isinstance(value, dict) and value and self.random.random() < 0.8:
            name = self.random.choice(list(value))
            inner = schema.get("properties", {}).get(name)
            act = self.random.choice(["drop", "add", "in", "in"])
            if act == "drop" and name in schema.get("required", ()):
                return {key: item for key, item in value.items() if key != name}
            if act == "add" and schema.get("additionalProperties") is False:
                return {**value, "stranger": 1}
            if inner is not None:
                return {**value, name: self._broken(self._chosen(inner, value[name]), value[name])}
        if isinstance(value, list) and value and "items" in schema and self.random.random() < 0.8:
            place = self.random.randrange(len(value))
            inner = self._chosen(schema["items"], value[place])
            return [*value[:place], self._broken(inner, value[place]), *value[place + 1 :]]
        return self.random.choice([{}, {"a": 1}, [], [[]], "not that", None, 1.5, True, -1, "x" * 200_000])
