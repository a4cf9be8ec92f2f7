"""Which traffic table follows another: onwards, and back. Pure."""

from __future__ import annotations

from modelyard.core.release import Traffic
from modelyard.errors import UsageError


def next_traffic(row: Traffic | None, local: Traffic | None, release: str) -> Traffic:
    """Return a table with one release, above what the row and the local copy have, and the way back from it.

    >>> next_traffic(Traffic(epoch=3, shares={"income@1": 1.0}), None, "income@2").previous
    'income@1'
    """
    newest = max((one for one in (row, local) if one is not None), key=lambda one: one.epoch, default=None)
    if newest is None:
        return Traffic(epoch=1, shares={release: 1.0})
    before = max(newest.shares, key=lambda one: newest.shares[one])
    previous = newest.previous if before == release else before
    return Traffic(epoch=newest.epoch + 1, shares={release: 1.0}, previous=previous)


def way_back(name: str, traffic: Traffic) -> Traffic:
    """Return the traffic before; raises UsageError where there is none.

    What failed is not kept as the way back of what is gone back to: a second rollback must not bring it again.
    """
    if traffic.previous is None:
        raise UsageError(
            f"Nothing is known to have answered for `{name}` before {', '.join(sorted(traffic.shares))}. "
            f"Name a release instead: modelyard deploy {name}@NUMBER"
        )
    return Traffic(epoch=traffic.epoch + 1, shares={traffic.previous: 1.0})


def idle(name: str, traffic: Traffic | None) -> str:
    """Return in words that a service does not run, and how to have the release answer that did before."""
    told = f"Service `{name}` does not run, so there is nothing to take back."
    if traffic is not None and traffic.previous is not None:
        last = ", ".join(sorted(traffic.shares))
        return f"{told} {last} answered last; serve the one before it: modelyard serve {traffic.previous}"
    return f"{told} Serve the release that is to answer: modelyard serve {name}@NUMBER"
