"""Releases, their bodies, and what is on the audit log."""

from __future__ import annotations

from typing import Any

import msgspec

from modelyard.core.ids import ReleaseId


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


class Traffic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which releases a service answers from. Shares sum to 1. A front takes only a higher epoch.

    `previous` is the release that answered before these; a rollback goes there.
    """

    epoch: int
    shares: dict[str, float]  # "income@2" -> share
    previous: str | None = None


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
