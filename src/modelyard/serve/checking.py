"""What a traffic table must be before anybody follows it. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

import msgspec

from modelyard.core.ids import parse_release
from modelyard.core.release import Traffic
from modelyard.errors import UsageError

SUM_TOLERANCE = 1e-9  # of shares that sum to 1
WIDTH_TOLERANCE = 1e-8  # of the width of a release's ranges, against its share
_TOKEN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~")


def check_traffic(traffic: Traffic) -> None:
    """Raise UsageError with everything that is wrong with a table."""
    faults = [*_of_shares(traffic), *_of_others(traffic)]
    if not faults:
        faults = [*_of_types(traffic), *(_of_ranges(traffic) if traffic.ranges else ())]
    if faults:
        raise UsageError(f"Traffic cannot be split like this: {'; '.join(faults)}.")


def _of_types(traffic: Traffic) -> Iterable[str]:
    """Yield what would keep the table from being read again."""
    try:
        msgspec.convert(msgspec.to_builtins(traffic), Traffic)
    except msgspec.ValidationError as fault:
        yield str(fault)


def _of_shares(traffic: Traffic) -> Iterable[str]:
    shares = traffic.shares
    for release, share in shares.items():
        if not 0 <= share <= 1:  # NaN too
            yield f"`{release}` has the share {share:g}, wanted one in [0, 1]"
    total = math.fsum(shares.values())
    if not abs(total - 1) <= SUM_TOLERANCE:
        yield f"the shares sum to {total:.12g}, wanted 1"
    names = set()
    for release in shares:
        try:
            name, number = parse_release(release)
        except UsageError as fault:
            yield str(fault).rstrip(".")
            continue
        names.add(name)
        if number is None:
            yield f"`{release}` names no number, wanted NAME@NUMBER"
    if len(names) > 1:
        yield f"the releases are of {', '.join(sorted(names))}, wanted those of one name"


def _of_others(traffic: Traffic) -> Iterable[str]:
    known = ", ".join(sorted(traffic.shares))
    for rule in traffic.rules:
        if rule.release not in traffic.shares:
            yield f"a rule on `{rule.header}` names `{rule.release}`, wanted one in the shares: {known}"
    for release, share in traffic.shadow.items():
        if release not in traffic.shares:
            yield f"`{release}` is to get copies, wanted one in the shares (0 will do): {known}"
        elif traffic.shares[release] > 0:
            yield f"`{release}` is to get copies and has the share {traffic.shares[release]:g}, wanted 0"
        if not 0 <= share <= 1:
            yield f"`{release}` is to get copies of {share:g} of the requests, wanted a share in [0, 1]"
    if not traffic.key_header or not _TOKEN.issuperset(traffic.key_header):
        yield f"the key header is `{traffic.key_header}`, wanted the name of a header in lower case"


def _of_ranges(traffic: Traffic) -> Iterable[str]:
    ranges = traffic.ranges
    for part in ranges:
        if part.release not in traffic.shares:
            yield f"keys from {part.low:g} meet `{part.release}`, wanted one in the shares"
        if not part.low < part.high:
            yield f"the keys of `{part.release}` go from {part.low:g} to {part.high:g}, wanted a rising range"
    edges = [(0.0, ranges[0].low), *((one.high, two.low) for one, two in pairwise(ranges)), (ranges[-1].high, 1.0)]
    for ends, begins in edges:
        if ends != begins:
            what = "belong to two ranges" if ends > begins else "belong to none"
            yield f"keys from {min(ends, begins):g} to {max(ends, begins):g} {what}, wanted each in one, in order"
    for release, share in traffic.shares.items():
        width = math.fsum(part.high - part.low for part in ranges if part.release == release)
        if abs(width - share) > WIDTH_TOLERANCE:
            yield f"the keys of `{release}` are {width:g} of all, wanted its share {share:g}"
