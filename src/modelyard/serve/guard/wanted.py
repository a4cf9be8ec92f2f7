"""The deadline that a caller writes into a header, read strictly."""

from __future__ import annotations

import math
import re

_NUMBER = re.compile(rb"[0-9]{1,32}(?:\.[0-9]{0,32})?(?:[eE][+-]?[0-9]{1,3})?\Z")


def read_deadline_ms(text: bytes) -> float | None:
    """Return the milliseconds that a header names, above 0 and finite; None where it is no such number.

    Digits, with a fraction and an exponent where wanted, are a number: no sign, no space, no word, no underscore.

    >>> [read_deadline_ms(text) for text in (b"250", b"0.5", b"1e3", b"1_000", b"nan", b"-1", b"0")]
    [250.0, 0.5, 1000.0, None, None, None, None]
    """
    if not _NUMBER.match(text):
        return None
    wanted = float(text)
    return wanted if 0.0 < wanted < math.inf else None
