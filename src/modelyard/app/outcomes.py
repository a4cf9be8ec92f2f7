"""Outcomes that arrive late, handed to the service whose answers they are of."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from modelyard.app.settings import Settings
from modelyard.bundle.answers import Feedback, FeedbackCounts, Unread
from modelyard.core.clock import Clock
from modelyard.core.ids import check_name
from modelyard.errors import UnknownName, Unreadable, UsageError
from modelyard.store.open import open_audit
from modelyard.store.outcomes import Outcomes
from modelyard.store.outcomes_file import csv_outcomes, is_csv, json_outcomes

STDIN = Path("-")


@dataclass(frozen=True)
class OutcomeVerbs:
    """Commands on the outcomes of this store's services. `command` goes on the audit log."""

    settings: Settings
    clock: Clock
    command: str

    def feedback(self, name: str, file: Path, columns: Sequence[str] = ()) -> FeedbackCounts:
        """Join the outcomes in a file with the answers of a service; `-` is JSON lines on standard input.

        `columns` are those of CSV that are told with the outcomes; JSON lines name their own.

        Raises: UnknownName, Unreadable, WrongFormat, EmptyData, MissingColumn.
        """
        folder = self._folder(name)
        if file == STDIN:
            _check_columns(columns, is_table=False)
            return self._join(name, folder, sys.stdin.buffer, file, ())
        _check_columns(columns, is_table=is_csv(file))  # said before anything is opened
        try:
            opened = file.open("rb")
        except OSError as fault:
            raise Unreadable(f"`{file}` cannot be read: {fault.strerror or fault}.") from fault
        with opened:
            return self._join(name, folder, opened, file, columns)

    def _join(self, name: str, folder: Path, opened: BinaryIO, file: Path, columns: Sequence[str]) -> FeedbackCounts:
        settings = self.settings
        audit = open_audit(
            settings.home, user=settings.user, environment="service", change_ticket=settings.change_ticket,
            command=self.command, clock=self.clock,
        )  # fmt: skip
        outcomes = Outcomes(folder, clock=self.clock)
        try:
            is_table = file != STDIN and is_csv(file)
            rows = csv_outcomes(opened, str(file), columns) if is_table else json_outcomes(opened)
            with audit.change("feedback", resources=(name,), rollback_available=False) as note:
                counts = outcomes.feedback(rows)
                note.update(msgspec.to_builtins(counts))
        finally:
            outcomes.close()
        return counts

    def _folder(self, name: str) -> Path:
        run = self.settings.home / "run"
        folder = run / check_name(name)
        if not folder.is_dir():
            raise UnknownName("service", name, sorted(one.name for one in run.glob("*") if one.is_dir()))
        return folder


def _check_columns(columns: Sequence[str], *, is_table: bool) -> None:
    if columns and not is_table:
        raise UsageError(
            'Columns are named for CSV only; JSON lines say theirs: {"request": "ID", "label": "yes", "columns": '
            '{"sex": "F"}}.'
        )


def feeding(folder: Path, clock: Clock) -> Callable[[Sequence[Feedback | Unread]], FeedbackCounts]:
    """Return what joins outcomes with the answers of the service in a run folder; they are opened at the first."""
    opened: list[Outcomes] = []
    alone = threading.Lock()

    def feed(rows: Sequence[Feedback | Unread]) -> FeedbackCounts:
        with alone:
            if not opened:
                opened.append(Outcomes(folder, clock=clock))
        return opened[0].feedback(rows)

    return feed
