"""What fronts are asked to count for the claims of a rollout, and how their counts are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from modelyard.core.rollout import ArmCounts, Counted, Watch, Watched
from modelyard.errors import UsageError
from modelyard.rollout.claims import LATENCY, Against, Claim

MOST_ITEMS = 64
OF_CANDIDATES = " of candidates"  # behind what is counted of them with another threshold than of the stable release


def watch(
    claims: Sequence[Claim],
    *,
    positive: str | None = None,
    price_per_cpu_hour: float | None = None,
    stable_ms: Mapping[str, float] | None = None,
    columns: Sequence[str] = (),
) -> Watch:
    """Return what fronts count for the claims, and whether answers are kept for those that need labels.

    Args:
        positive: the class that counts as positive.
        price_per_cpu_hour: without it no cost is counted.
        stable_ms: for each margin of a latency percentile, by what it counts (`Claim.counts`), the milliseconds that
            the stable release stayed below, in that share of its requests, before the step. A margin that is not
            named is not counted.
        columns: whose values are kept with answers.
    Raises: UsageError where there are more than fronts count.
    """
    items = {item.counts: item for claim in claims for item in _items(claim, price_per_cpu_hour, stable_ms or {})}
    if len(items) > MOST_ITEMS:
        raise UsageError(
            f"The requirements ask for {len(items)} counts at once; fronts keep at most {MOST_ITEMS}. Have fewer "
            "requirements on latency, cost and shares of groups."
        )
    keeps = any(claim.requirement.needs_labels for claim in claims)
    return Watch(items=tuple(items.values()), positive=positive, keeps_answers=keeps, columns=tuple(columns))


def kept_columns(claims: Sequence[Claim]) -> tuple[str, ...]:
    """Return the columns whose values must be kept with answers, so that labels can be counted by slice and group."""
    asked = [claim.requirement for claim in claims if claim.requirement.needs_labels]
    slices = [one.slice.column for one in asked if one.slice is not None]
    return tuple(dict.fromkeys([*slices, *(one.group for one in asked if one.group is not None)]))


def as_claimed(counts: ArmCounts, *, is_stable: bool) -> ArmCounts:
    """Return a front's counts of a release with each under the name that its claim knows it by.

    >>> from modelyard.core.rollout import Hits
    >>> seen = ArmCounts(rates={"a": Hits(trials=9, hits=2), "a of candidates": Hits(trials=9, hits=1)})
    >>> as_claimed(seen, is_stable=False).rates["a"].hits
    1.0
    """
    rates = {name: hits for name, hits in counts.rates.items() if not name.endswith(OF_CANDIDATES)}
    if not is_stable:
        theirs = {name for name in counts.rates if name.endswith(OF_CANDIDATES)}
        rates |= {name.removesuffix(OF_CANDIDATES): counts.rates[name] for name in theirs}
    return msgspec.structs.replace(counts, rates=rates)


def _items(claim: Claim, price: float | None, stable_ms: Mapping[str, float]) -> Iterator[Watched]:
    requirement, name = claim.requirement, claim.counts[0]
    if LATENCY.fullmatch(requirement.metric):
        yield from _slower(claim, stable_ms)
    elif requirement.metric == "demographic_parity_difference" and not requirement.needs_labels:
        yield Watched(counts=name, what=Counted.POSITIVE, group=requirement.group, slice=requirement.slice)
    elif requirement.metric == "cost_per_thousand" and price is not None:
        yield Watched(counts=name, what=Counted.COST, price_per_cpu_hour=price, slice=requirement.slice)


def _slower(claim: Claim, stable_ms: Mapping[str, float]) -> Iterator[Watched]:
    requirement, name = claim.requirement, claim.counts[0]
    above_ms = stable_ms.get(name) if claim.against is Against.MARGIN else requirement.bound
    if above_ms is None:
        return
    yield Watched(counts=name, what=Counted.SLOWER, above_ms=above_ms, slice=requirement.slice)
    if claim.against is Against.MARGIN and requirement.margin:
        above_ms += requirement.margin
        name += OF_CANDIDATES
        yield Watched(counts=name, what=Counted.SLOWER, above_ms=above_ms, slice=requirement.slice)
