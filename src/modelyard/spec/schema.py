"""The JSON Schema of a spec, for editors and other programs."""

from __future__ import annotations

from functools import cache
from typing import Any

from modelyard.spec.system import System

DIALECT = "https://json-schema.org/draft/2020-12/schema"


@cache
def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a spec; not to be changed.

    It tells names, types and bounds of single values. What depends on other values, on files or on
    the machine is checked by `load` alone. `x-wanted` says in words what a value may be.
    """
    return {"$schema": DIALECT, **System.model_json_schema()}
