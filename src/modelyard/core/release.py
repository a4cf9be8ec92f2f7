"""Releases, their bodies, and what is on the audit log."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from modelyard.core.ids import ReleaseId
from modelyard.core.rollout import Share, Watch

ROUTING_KEY = "x-routing-key"  # the header whose value keeps a caller with one release, where no other is named


class Release(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A body under a name and number."""

    id: ReleaseId
    body: str  # digest of the bundle's manifest
    spec_digest: str
    sealed: str  # RFC 3339
    headline: str  # the objective with its interval, in one line
    size_bytes: int
    collected: str | None = None  # when its body was removed by a collection, RFC 3339


class EvidenceRef(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A hashed evidence record beside a release."""

    kind: str
    digest: str
    recorded: str


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of the audit log, without its chain; DESIGN names the fields."""

    timestamp: str
    user: str
    change_ticket: str | None
    environment: str
    operation: str
    command: str
    outcome: str  # "started" | "done" | "failed" | "refused"
    resources_affected: tuple[str, ...]
    rollback_available: bool
    duration_seconds: float | None
    model_metadata: dict[str, Any]
    error_detail: str | None
    change: str = ""  # the same on the lines of one operation
    late: bool = False  # written after the fact, from the reserve


class HeaderRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Requests with this value in this header meet this release, whatever the shares."""

    header: Annotated[str, msgspec.Meta(pattern="^[a-z0-9!#$%&'*+.^_`|~-]{1,64}$")]  # its name, in lower case
    value: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    release: str


class KeyRange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys whose point lies in [low, high) meet this release."""

    low: Share
    high: Share
    release: str


class Traffic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which releases a service answers from. Shares sum to 1. A front takes only a higher epoch.

    `previous` is the release that answered before these; a rollback goes there. A release with a share of 0
    is kept ready: rules may name it, and mirrored requests may go to it.
    """

    epoch: int
    shares: dict[str, float]  # "income@2" -> share
    previous: str | None = None
    ranges: tuple[KeyRange, ...] = ()  # which keys meet which release; none: they follow from the shares
    key_header: str = ROUTING_KEY  # a caller is known by this header's value; without it, each request is its own
    rules: Annotated[tuple[HeaderRule, ...], msgspec.Meta(max_length=16)] = ()  # the first that fits decides
    shadow: Annotated[dict[str, Share], msgspec.Meta(max_length=4)] = {}  # the share of requests mirrored to each
    watch: Watch | None = None  # what is counted for the verdicts of a rollout

    @property
    def names(self) -> tuple[str, ...]:
        """Return every release that a request may meet or be copied to, those without a share too."""
        ruled = (rule.release for rule in self.rules)
        return tuple(dict.fromkeys((*self.shares, *self.shadow, *ruled)))


class Service(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A service as the store knows it: the durable truth of what it should run."""

    name: str
    traffic: Traffic
    host: str
    port: int
    environment: str
    state: str  # "running" | "stopped"
    supervisor_pid: int | None
    started: str | None
