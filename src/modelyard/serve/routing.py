"""Which release a request meets."""

from __future__ import annotations

import hashlib

from modelyard.core.ids import parse_release
from modelyard.core.release import Traffic


def choose(traffic: Traffic, key: str) -> tuple[str, float]:
    """Return the release for a key, with the probability that a key meets it.

    Depends on the table and the key alone, so that every decision can be recomputed. The newest release has the
    lowest range of keys: while its share widens, a key that met it stays with it.

    >>> choose(Traffic(epoch=1, shares={"income@1": 1.0}), "anyone")
    ('income@1', 1.0)
    """
    shares = traffic.shares
    if len(shares) == 1:
        return next(iter(shares)), 1.0
    point = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") / 2**64
    live = [release for release in sorted(shares, key=_number, reverse=True) if shares[release] > 0]
    reached = 0.0
    for release in live:
        reached += shares[release]
        if point < reached:
            return release, shares[release]
    return live[-1], shares[live[-1]]  # what rounding left over


def _number(release: str) -> tuple[int, str]:
    name, number = parse_release(release)
    return number or 0, name
