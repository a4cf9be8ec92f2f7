"""One file for each outside library, each behind a port of `core`.

Foreign objects never leave: numbers, bytes and files do. `adapters.load` is the only dynamic import.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from modelyard.errors import MissingExtra

# adapter -> the extra that brings its library
EXTRAS = {"mlflow": "mlflow"}


def load(name: str) -> ModuleType:
    """Import the adapter of that name; raises MissingExtra where its library is not installed."""
    try:
        return importlib.import_module(f"modelyard.adapters.{name}")
    except ModuleNotFoundError as fault:
        if fault.name is None or fault.name.startswith("modelyard"):
            raise
        raise MissingExtra(fault.name, EXTRAS.get(name, name)) from fault
