"""Which release a request meets, and which keys meet which release. Pure: each decision can be recomputed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import NamedTuple

from modelyard.core.ids import parse_release
from modelyard.core.release import HeaderRule, KeyRange, Traffic

_GRID = 2**40  # ranges begin and end at multiples of 1 / _GRID, so that their widths are whole numbers
_BITS = 53  # of a hash that make a point: a float holds them all
_MIRROR = b"mirror"  # what makes the draw of copies another one than that of releases

Cut = tuple[int, int, str]  # keys from low to high, in steps of the grid, and their release


class Met(NamedTuple):
    """Which release a request meets, and why."""

    release: str
    epoch: int  # of the table that decided
    probability: float  # with which a request of its own meets this release; 1 by a rule
    key: str | None = None  # the value of the table's key header, where the request has one
    rule: HeaderRule | None = None  # that decided
    pinned: bool = False  # the caller named the release

    @property
    def drawn(self) -> bool:
        """Say whether chance alone decided, so that the releases' callers can be compared."""
        return self.rule is None and not self.pinned


def choose(traffic: Traffic, key: str) -> tuple[str, float]:
    """Return the release for a key, with the probability that a key meets it.

    Depends on the table and the key alone, so that every decision can be recomputed. Without ranges the newest
    release has the lowest keys: while its share widens, a key that met it stays with it.

    >>> choose(Traffic(epoch=1, shares={"income@1": 1.0}), "anyone")
    ('income@1', 1.0)
    """
    shares = traffic.shares
    if len(shares) == 1:
        return next(iter(shares)), 1.0
    place = point(key)
    for part in traffic.ranges:
        if place < part.high:
            return part.release, shares[part.release]
    live = _newest_first(shares)
    reached = 0.0
    for release in live:
        reached += shares[release]
        if place < reached:
            return release, shares[release]
    return live[-1], shares[live[-1]]  # what rounding left over


def meet(traffic: Traffic, headers: Mapping[bytes, bytes], request_id: str) -> Met:
    """Return which release a request meets: by the first rule that fits, else by its key, else by its id.

    `headers` have their names in lower case. A key that is empty is none.

    >>> table = Traffic(epoch=1, shares={"income@1": 1.0, "income@2": 0.0}, key_header="x-user")
    >>> meet(table, {b"x-user": b"ann"}, "r-1")
    Met(release='income@1', epoch=1, probability=1.0, key='ann', rule=None, pinned=False)
    """
    for rule in traffic.rules:
        if headers.get(rule.header.encode()) == rule.value.encode():
            return Met(rule.release, traffic.epoch, 1.0, rule=rule)
    given = headers.get(traffic.key_header.encode())
    key = given.decode("latin-1") if given else None
    release, probability = choose(traffic, request_id if key is None else key)
    return Met(release, traffic.epoch, probability, key)


def mirrored(traffic: Traffic, request_id: str) -> tuple[str, ...]:
    """Return the releases that get a copy of a request: each by a draw of its own, apart from the one of `choose`.

    >>> mirrored(Traffic(epoch=1, shares={"income@1": 1.0}, shadow={"income@2": 1.0, "income@3": 0.0}), "r-1")
    ('income@2',)
    """
    return tuple(
        release
        for release, share in traffic.shadow.items()
        if share >= 1 or point(f"{release} {request_id}", person=_MIRROR) < share
    )


def point(text: str, *, person: bytes = b"") -> float:
    """Return the place of a text in [0, 1): even over all texts, the same in every process.

    Texts with another `person` (at most 16 bytes) lie elsewhere, independently.
    """
    whole = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, person=person).digest(), "big")
    return math.ldexp(whole >> (64 - _BITS), -_BITS)


def spread(before: Traffic | None, shares: Mapping[str, float]) -> tuple[KeyRange, ...]:
    """Return which keys meet which release under new shares, so that as few as possible change theirs.

    A release that does not lose share keeps all its keys; one that gains gets only keys that others lost. Where
    one release has it all, there are no ranges. Shares sum to 1, up to rounding.

    >>> first = spread(None, {"income@1": 0.75, "income@2": 0.25})
    >>> [(part.low, part.high, part.release) for part in first]
    [(0.0, 0.25, 'income@2'), (0.25, 1.0, 'income@1')]
    """
    wanted = _widths(shares)
    if len(wanted) < 2:
        return ()
    before_cuts = [(0, _GRID, "")] if before is None else _cuts(before)
    filled = _filled(_kept(before_cuts, wanted), wanted)
    return tuple(KeyRange(low=low / _GRID, high=high / _GRID, release=release) for low, high, release in filled)


def _newest_first(shares: Mapping[str, float]) -> list[str]:
    return [release for release in sorted(shares, key=_number, reverse=True) if shares[release] > 0]


def _number(release: str) -> tuple[int, str]:
    name, number = parse_release(release)
    return number or 0, name


def _widths(shares: Mapping[str, float]) -> dict[str, int]:
    """Return shares in steps of the grid, newest release first; the largest takes what rounding left over."""
    widths = {release: math.floor(shares[release] * _GRID) for release in _newest_first(shares)}
    if widths:
        largest = max(widths, key=lambda release: widths[release])
        widths[largest] += _GRID - sum(widths.values())
    return {release: width for release, width in widths.items() if width > 0}


def _cuts(traffic: Traffic) -> list[Cut]:
    """Return which keys meet which release by a table, in order."""
    if traffic.ranges:
        return [(round(part.low * _GRID), round(part.high * _GRID), part.release) for part in traffic.ranges]
    cuts, low = [], 0
    for release, width in _widths(traffic.shares).items():
        cuts.append((low, low + width, release))
        low += width
    return cuts


def _kept(cuts: list[Cut], wanted: Mapping[str, int]) -> list[Cut]:
    """Return the cuts less what their releases lose, which is left to "". The largest loses its lowest keys first."""
    have: dict[str, int] = {}
    for low, high, release in cuts:
        have[release] = have.get(release, 0) + high - low
    largest = max(have, key=lambda release: have[release])
    lost = {release: max(0, width - wanted.get(release, 0)) for release, width in have.items()}
    kept: list[Cut] = []
    for low, high, release in cuts:
        if release == largest:
            middle = min(high, low + lost[release])
            lost[release] -= middle - low
            kept += [(low, middle, ""), (middle, high, release)]
    for low, high, release in reversed(cuts):
        if release != largest:
            middle = max(low, high - lost[release])
            lost[release] -= high - middle
            kept += [(low, middle, release), (middle, high, "")]
    return sorted(cut for cut in kept if cut[0] < cut[1])


def _filled(cuts: list[Cut], wanted: Mapping[str, int]) -> list[Cut]:
    """Give what nobody has to those who lack most of what they want, and join what lies side by side."""
    lack = dict(wanted)
    for low, high, release in cuts:
        if release:
            lack[release] -= high - low
    filled: list[Cut] = []
    for low, high, release in cuts:
        start = low
        while start < high:
            beside = filled[-1][2] if filled else ""
            taker = release or (beside if lack.get(beside, 0) > 0 else next(one for one in lack if lack[one] > 0))
            stop = high if release else min(high, start + lack[taker])
            if not release:
                lack[taker] -= stop - start
            if taker == beside:
                filled[-1] = (filled[-1][0], stop, taker)
            else:
                filled.append((start, stop, taker))
            start = stop
    return filled
