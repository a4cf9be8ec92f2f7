"""A run: one execution of a spec, and how it ended."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class RunState(StrEnum):
    """Where a run stands. A killed run stays `running` until it is resumed or ended."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Run(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run as the store knows it; its ledger holds the trials and whatever else must not be lost."""

    id: str
    name: str
    spec_digest: str
    state: RunState
    started: str  # RFC 3339
    finished: str | None = None
