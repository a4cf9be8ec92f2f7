"""Numbers as people read them: as many digits as the interval supports, units that fit, a real minus sign."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

UNMEASURED = "not measured"
MOST_DECIMALS = 12
_MINUS = "\N{MINUS SIGN}"


def figure(value: float | None, low: float | None = None, high: float | None = None, bound: float | None = None) -> str:
    """Return a number with the digits its interval supports, two of the half width; four without one.

    More digits are shown where the number would otherwise seem to lie on the bound, or beyond it.

    >>> figure(0.92713, 0.9243, 0.9299), figure(812_345.0, 792_000.0, 832_000.0), figure(3.21987)
    ('0.9271', '812,000', '3.22')
    >>> figure(0.91998, 0.9172, 0.9228, bound=0.92)
    '0.91998'
    """
    if value is None or not math.isfinite(value):
        return UNMEASURED
    places = decimals(value, low, high, bound)
    if (low, high) != (None, None) and low != high:
        return fixed(value, places)
    if 0 < abs(value) < 1e-3:
        return scientific(value)
    text = fixed(value, places)
    return text.rstrip("0").rstrip(".") if "." in text else text


def decimals(value: float, low: float | None = None, high: float | None = None, bound: float | None = None) -> int:
    """Return how many decimals a number supports; negative where its last digits mean nothing."""
    numbers = [n for n in (value, low, high) if n is not None and math.isfinite(n)]
    half = (high - low) / 2 if low is not None and high is not None else max(abs(n - value) for n in numbers)
    if half > 0 and math.isfinite(half):
        places = min(MOST_DECIMALS, 1 - math.floor(math.log10(half)))
    elif value == 0 or float(value).is_integer():
        places = 0
    else:
        places = min(MOST_DECIMALS, max(0, 3 - math.floor(math.log10(abs(value)))))
    while bound is not None and places < MOST_DECIMALS and not _sides_kept(numbers, bound, places):
        places += 1
    return places


def _sides_kept(numbers: Sequence[float], bound: float, places: int) -> bool:
    shown = [round(n, places) for n in numbers]
    return all((n < bound, n > bound) == (s < bound, s > bound) for n, s in zip(numbers, shown, strict=True))


def fixed(value: float, places: int) -> str:
    """Return a number with so many decimals and a real minus sign; what is very small or large as a power of ten.

    >>> fixed(-1234.5, 1), fixed(0.00000123, 9)
    ('−1,234.5', '1.230e−6')
    """
    if value != 0 and not 1e-4 <= abs(value) < 1e15:
        return scientific(value, max(1, places + math.floor(math.log10(abs(value)))))
    rounded = round(value, places) + 0.0  # + 0.0 turns -0.0 into 0.0
    return f"{rounded:,.{max(0, places)}f}".replace("-", _MINUS)


def scientific(value: float, digits: int = 1) -> str:
    """Return one digit before the point and `digits` behind it, with a power of ten.

    >>> scientific(3.14e-8), scientific(0.0)
    ('3.1e−8', '0')
    """
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{value:.{min(digits, 15)}e}".partition("e")
    return f"{mantissa}e{int(exponent)}".replace("-", _MINUS)


def plain(value: object) -> str:
    """Return a parameter's or a cell's value as a person would write it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:.10g}" if math.isfinite(value) else str(value)
    return str(value)


def count(number: int) -> str:
    """Return a whole number with its thousands apart."""
    return f"{number:,}"


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun.

    >>> counted(1, "row"), counted(2000, "row")
    ('1 row', '2,000 rows')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def share(part: float) -> str:
    """Return a share in [0, 1] in per cent; what is not nothing never reads as 0 %.

    >>> share(0.0), share(0.0004), share(0.237), share(1.0)
    ('0 %', '<0.1 %', '23.7 %', '100 %')
    """
    if part in (0.0, 1.0):
        return f"{part:.0%}".replace("%", " %")
    if part < 0.001:
        return "<0.1 %"
    return ">99.9 %" if part > 0.999 else f"{part * 100:.1f} %"


def seconds(value: float) -> str:
    """Return a duration.

    >>> seconds(0.0421), seconds(12.34), seconds(125), seconds(3900)
    ('42 ms', '12.3 s', '2 min 5 s', '1 h 5 min')
    """
    if value < 1:
        return f"{value * 1000:.2g} ms" if value < 0.01 else f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def size(number: float) -> str:
    """Return bytes in the unit that fits, of a thousand each.

    >>> size(3_214_000), size(812)
    ('3.21 MB', '812 bytes')
    """
    for power, unit in ((3, "GB"), (2, "MB"), (1, "kB")):
        if number >= 1000**power:
            return f"{number / 1000**power:.3g} {unit}"
    return f"{number:.0f} bytes"


def moment(text: str) -> str:
    """Return an RFC 3339 moment to the minute, in UTC; text that is none stays as it is.

    >>> moment("2026-01-02T03:04:05.000000Z")
    '2026-01-02 03:04 UTC'
    """
    try:
        return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return text
