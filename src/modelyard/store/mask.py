"""Masks what looks like a secret before it is written down."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

MASK = "***"

# Every repetition is bounded, or begins where only a few can, so that no text takes long.
_NAME = (
    r"(?:passw(?:or)?d|passphrase|pwd|secret|token|credential|api[-_]?key|access[-_]?key|private[-_]?key"
    r"|(?<![A-Za-z0-9])key|(?<![A-Za-z0-9])auth)s?"
)
_QUOTE = r"\\{0,4}[\"']?"
_VALUE = r"(?:\"[^\"]{0,4000}\"|'[^']{0,4000}'|[^\s,;&]{1,4000})"
_SCHEMES = r"(?:(?:bearer|basic|digest|token)\s{1,8})?"

_PATTERNS = (
    re.compile(r"(?P<keep>://)[^\s/@\"']{1,512}@"),  # URL with a user or a password
    re.compile(rf"(?i)(?P<keep>authorization{_QUOTE}\s{{0,8}}[:=]\s{{0,8}}){_SCHEMES}{_VALUE}"),
    re.compile(r"(?i)(?P<keep>\b(?:bearer|basic)\s{1,8})[A-Za-z0-9._~+/=-]{8,4000}"),
    re.compile(rf"(?i)(?P<keep>{_NAME}{_QUOTE}\s{{0,8}}[=:]\s{{0,8}}){_VALUE}"),
    re.compile(rf"(?i)(?P<keep>(?:^|\s)--?[\w-]{{0,40}}?{_NAME}\s{{1,8}})(?!-){_VALUE}"),
    re.compile(
        r"(?P<keep>)(?:\bsk-[\w-]{16,400}|\bgh[pousr]_[A-Za-z0-9]{20,400}|\bgithub_pat_\w{20,400}"
        r"|\bhf_[A-Za-z0-9]{20,400}|\bglpat-[\w-]{16,400}|\bxox[abeoprs]-[\w-]{10,400}|\bA[KS]IA[A-Z0-9]{16}\b"
        r"|\bAIza[\w-]{30,400}|\beyJ[\w-]{6,2000}\.[\w-]{6,4000}\.[\w-]{0,2000})"
    ),
    re.compile(r"(?P<keep>-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----)[\s\S]*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|$)"),
)
_SECRET_NAME = re.compile(rf"(?i)(?:{_NAME}|authorization)$")
_LONGEST = 10_000  # characters of one string in the log
_LARGEST = 2**63 - 1


def mask(text: str) -> str:
    """Return the text with keys, tokens, passwords and credentials in URLs replaced by `***`.

    Rather too much than too little: a value beside a name that sounds secret goes as well. A text of
    more than 10 000 characters is cut.

    >>> mask("push --key=abc postgresql://me:pw@db/x")
    'push --key=*** postgresql://***@db/x'
    """
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]} … and {len(text) - _LONGEST} more characters"
    text = text.encode("utf-8", "replace").decode()  # arguments that are no UTF-8 arrive as lone surrogates
    for pattern in _PATTERNS:
        text = pattern.sub(lambda found: f"{found['keep']}{MASK}{'@' if found[0].endswith('@') else ''}", text)
    return text


def plain(value: Any) -> Any:
    """Return a value as masked JSON: maps, lists, strings and numbers; what fits none becomes a string."""
    if isinstance(value, Mapping):
        return {mask(str(name)): MASK if _is_secret(str(name), item) else plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) <= _LARGEST else str(value)
    return mask(str(value))


def _is_secret(name: str, value: Any) -> bool:
    """Whether a field sounds secret; a number under a name in the plural counts something (`tokens`)."""
    if isinstance(value, int | float) and name.endswith("s"):
        return False
    return bool(_SECRET_NAME.search(name[-200:]))
