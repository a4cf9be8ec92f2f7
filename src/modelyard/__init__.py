"""Modelyard: from a written requirement to a monitored service, and back when it no longer holds."""

from __future__ import annotations

import os
from typing import Any

__version__ = "0.1.0"

# Libraries phone home unless told otherwise before they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = ["App", "__version__", "load", "open"]


def __getattr__(name: str) -> Any:
    """Load public names on first use, so that `import modelyard` stays quick."""
    if name == "App":
        from modelyard.app.system import App

        return App
    if name == "open":
        from modelyard.app.system import open_release

        return open_release
    if name == "load":
        from modelyard.app.system import load_system

        return load_system
    raise AttributeError(f"module `modelyard` has no attribute `{name}`")
