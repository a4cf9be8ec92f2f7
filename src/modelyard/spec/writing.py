"""Values as YAML text, read back the same by this version's rules and by those of YAML 1.1."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from modelyard.spec.faults import in_quotes

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")
_OTHER = re.compile(r"y|n|yes|no|on|off|true|false|null", re.IGNORECASE)  # YAML 1.1 reads these as something else


def flow(value: Any) -> str:
    """Return a value on one line.

    >>> flow({"low": 1e-6, "note": "no", "of": [1, None, True, "a b"]})
    '{low: 1.0e-06, note: "no", of: [1, null, true, "a b"]}'
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(str(key))}: {flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(inner) for inner in value) + "]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) and not _OTHER.fullmatch(value) else in_quotes(value)
    return number(value)


def number(value: float) -> str:
    """Return a number: without `.0` where it is whole, with a point where it has an exponent.

    >>> number(60.0), number(1e-06), number(0.25)
    ('60', '1.0e-06', '0.25')
    """
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e15):
        return str(int(value))
    text = repr(value)
    return text if "e" not in text or "." in text else text.replace("e", ".0e")
