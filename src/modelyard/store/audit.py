"""The audit log: one line before and one after every change."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from modelyard.core.clock import Clock, stamp
from modelyard.core.codec import encode
from modelyard.core.ids import new_id
from modelyard.core.release import AuditEntry
from modelyard.errors import AuditError, GateError, QuotaExceeded, SpecError, StoreConflict, UsageError
from modelyard.store.journal import Journal
from modelyard.store.mask import mask, plain

ROTATE_BYTES = 8_000_000
KEEP_DAYS = 90
PATIENCE_S = 30.0  # for the lock, where the operation may wait
HURRY_S = 0.25  # for everything, where it must not
_HURRY_LOCK_S = 0.05
_LONGEST_DETAIL = 2000

_REFUSALS = (GateError, UsageError, SpecError, StoreConflict, QuotaExceeded)
"""Errors that say no before anything was changed."""


class AuditLog:
    """The Audit port over `folder/audit.jsonl`. Safe for threads and processes.

    Lines are hash-chained, so an edit shows; secrets are masked before anything is written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        user: str,
        environment: str,
        change_ticket: str | None,
        command: str,
        clock: Clock,
        rotate_bytes: int = ROTATE_BYTES,
        keep_days: int = KEEP_DAYS,
    ) -> None:
        self._user, self._environment, self._clock = mask(user), mask(environment), clock
        self._ticket, self._command = None if change_ticket is None else mask(change_ticket), mask(command)
        if keep_days < KEEP_DAYS:
            raise UsageError(f"The audit log would be kept for {keep_days} days; wanted {KEEP_DAYS} at least.")
        with suppress(OSError):  # said by the first line that cannot be written; a rollback must still get past here
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._journal = Journal(
            folder, clock=clock, note=self._own_note, rotate_bytes=rotate_bytes, keep_days=keep_days
        )

    @contextmanager
    def change(
        self,
        operation: str,
        *,
        resources: Sequence[str],
        rollback_available: bool,
        model: Mapping[str, Any] | None = None,
        must_not_wait: bool = False,
    ) -> Iterator[dict[str, Any]]:
        """Write one line before the block and one after it, with outcome and duration.

        The mapping given to the block is merged into the closing line's `model_metadata`. The outcome is
        `done`; `refused` where the block raises an error that says no; `failed` for any other.
        With `must_not_wait` a log that is busy or cannot be written holds nothing up.
        Raises: AuditError before the block if the log cannot be written and the change may wait.
        """
        detail, began = dict[str, Any](), self._clock.monotonic()
        fixed = {
            "operation": operation,
            "resources_affected": tuple(mask(name) for name in resources),
            "rollback_available": rollback_available,
            "change": new_id("change"),
        }

        def entry(outcome: str, error: str | None = None) -> AuditEntry:
            spent_s = None if outcome == "started" else round(self._clock.monotonic() - began, 6)
            about = {"duration_seconds": spent_s, "model_metadata": plain({**(model or {}), **detail})}
            return self._entry(**fixed, **about, outcome=outcome, error_detail=error)

        start, close = (self._hurry, self._hurry) if must_not_wait else (self._start, self._close)
        start(entry("started"))
        try:
            yield detail
        except BaseException as fault:
            outcome = "refused" if isinstance(fault, _REFUSALS) else "failed"
            close(entry(outcome, mask(f"{type(fault).__name__}: {fault}")[:_LONGEST_DETAIL]))
            raise
        close(entry("done"))

    def entries(self, *, last: int | None = None) -> Iterator[Mapping[str, Any]]:
        """Yield the entries, oldest first; with `last` only so many of the newest."""
        return self._journal.lines() if last is None else iter(self._journal.newest(last))

    def verify(self) -> list[str]:
        """Return every fault found, in words; an empty list means the log is whole."""
        return self._journal.check()

    def _start(self, entry: AuditEntry) -> None:
        self._journal.append(entry, patience_s=PATIENCE_S)

    def _close(self, entry: AuditEntry) -> None:
        """Write the line after a block. What was done is done, so it is kept wherever there is room."""
        try:
            self._journal.append(entry, patience_s=PATIENCE_S)
        except AuditError:
            self._hurry(entry)

    def _hurry(self, entry: AuditEntry) -> None:
        """Write a line to the log, else the reserve, else standard error, within `HURRY_S`.

        The writing happens in a thread because a disk that hangs cannot be asked for a limit.
        """
        kept = threading.Event()

        def attempt() -> None:
            try:
                self._journal.append(entry, patience_s=_HURRY_LOCK_S)
            except AuditError:
                if not self._journal.reserve.append(encode(entry)):
                    return
            kept.set()

        thread = threading.Thread(target=attempt, name="audit", daemon=True)
        thread.start()
        thread.join(HURRY_S)
        if not kept.is_set():
            _say(f"modelyard: the audit log did not take this line in time: {encode(entry).decode()}\n")

    def _entry(self, **fields: Any) -> AuditEntry:
        """Return an entry of this user and command at this moment."""
        return AuditEntry(
            timestamp=stamp(self._clock.now()),
            user=self._user,
            change_ticket=self._ticket,
            environment=self._environment,
            command=self._command,
            **fields,
        )

    def _own_note(self, operation: str, detail: dict[str, Any]) -> AuditEntry:
        """Return an entry that the log writes of itself."""
        return self._entry(
            operation=operation,
            outcome="done",
            resources_affected=("audit",),
            rollback_available=False,
            duration_seconds=0.0,
            model_metadata=plain(detail),
            error_detail=None,
            change=new_id("change"),
        )


def _say(line: str) -> None:
    try:
        sys.stderr.write(line)
        sys.stderr.flush()
    except (OSError, ValueError):
        return  # standard error is closed: there is nowhere left
