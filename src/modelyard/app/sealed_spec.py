"""The spec that a body was built from."""

from __future__ import annotations

from pathlib import Path

from modelyard.bundle.format import SPEC_IN_EFFECT
from modelyard.spec.system import System, reopen


def spec_of(body: Path) -> System:
    """Return the spec in a body, every default as it was when the body was packed."""
    return reopen((body / SPEC_IN_EFFECT).read_bytes())
