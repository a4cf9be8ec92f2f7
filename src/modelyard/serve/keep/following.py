"""Which traffic table follows another: onwards, and back. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from modelyard.core.ids import parse_release
from modelyard.core.release import Traffic
from modelyard.errors import UsageError


def next_traffic(row: Traffic | None, local: Traffic | None, release: str) -> Traffic:
    """Return a table with one release, above what the row and the local copy have, and the way back from it.

    >>> next_traffic(Traffic(epoch=3, shares={"income@1": 1.0}), None, "income@2").previous
    'income@1'
    """
    known = row or local
    if known is None:
        return Traffic(epoch=1, shares={release: 1.0})
    now = newest(known, local)
    before = largest(now)
    previous = now.previous if before == release else before
    return Traffic(epoch=now.epoch + 1, shares={release: 1.0}, previous=previous)


def resumed(row: Traffic | None, local: Traffic | None, release: str) -> Traffic:
    """Return the table by which a service is started: a split that the release has a part in goes on as it was.

    >>> resumed(Traffic(epoch=3, shares={"income@1": 0.9, "income@2": 0.1}), None, "income@1").shares
    {'income@1': 0.9, 'income@2': 0.1}
    """
    known = row or local
    now = None if known is None else newest(known, local)
    if now is None or now.shares.get(release, 0.0) == 0.0 or len(now.names) == 1:
        return next_traffic(row, local, release)
    return replace(now, epoch=now.epoch + 1)


def newest(row: Traffic, local: Traffic | None) -> Traffic:
    """Return the table with the higher epoch; of two with the same, the row's."""
    return row if local is None or row.epoch >= local.epoch else local


def largest(traffic: Traffic) -> str:
    """Return the release with the largest share; of several the oldest, which is the one that was there before.

    >>> largest(Traffic(epoch=1, shares={"income@10": 0.5, "income@9": 0.5}))
    'income@9'
    """
    return max(traffic.shares, key=lambda one: (traffic.shares[one], -(parse_release(one)[1] or 0)))


def way_back(name: str, traffic: Traffic) -> Traffic:
    """Return the traffic before: one release alone, without rules, copies or counts.

    That is `previous`; where a table with several releases has none, the one with the largest share, and of
    several with as much the oldest. Raises: UsageError where one release alone answers and none did before.

    What failed is not kept as the way back of what is gone back to: a second rollback must not bring it again.
    """
    wanted = traffic.previous or (largest(traffic) if len(traffic.shares) > 1 else None)
    if wanted is None:
        raise UsageError(
            f"Nothing is known to have answered for `{name}` before {', '.join(sorted(traffic.shares))}. "
            f"Name a release instead: modelyard deploy {name}@NUMBER"
        )
    return Traffic(epoch=traffic.epoch + 1, shares={wanted: 1.0})


def idle(name: str, traffic: Traffic | None) -> str:
    """Return in words that a service does not run, and how to have the release answer that did before."""
    told = f"Service `{name}` does not run, so there is nothing to take back."
    if traffic is not None and traffic.previous is not None:
        last = ", ".join(sorted(traffic.shares))
        return f"{told} {last} answered last; serve the one before it: modelyard serve {traffic.previous}"
    return f"{told} Serve the release that is to answer: modelyard serve {name}@NUMBER"
