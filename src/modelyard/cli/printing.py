"""What people and programs see: tables and lines on standard output, progress and faults on standard error."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from typing import Any, TextIO

from modelyard.core.codec import encode_pretty
from modelyard.errors import GateError, ModelyardError

BAR = 24  # characters
REDRAW_S = 0.1
UNEXPECTED, INTERRUPTED = 1, 130  # exit codes; the others stand with their errors


class Printer:
    """Prints lines, tables or JSON."""

    def __init__(self, *, as_json: bool = False, out: TextIO | None = None) -> None:
        self.as_json, self._out = as_json, out or sys.stdout

    def line(self, text: str = "") -> None:
        """Print a line, for people."""
        if not self.as_json:
            put(self._out, f"{text}\n")

    def plain(self, text: str) -> None:
        """Print a line that is the same for people and programs."""
        put(self._out, f"{text}\n")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table, columns as wide as their widest cell; numbers to the right."""
        if self.as_json:
            return
        cells = [list(head), *(list(row) for row in rows)]
        widths = [max(len(row[place]) for row in cells) for place in range(len(head))]
        right = [bool(rows) and all(_is_number(row[place]) for row in rows) for place in range(len(head))]
        for row in cells:
            padded = [
                cell.rjust(width) if flush else cell.ljust(width)
                for cell, width, flush in zip(row, widths, right, strict=True)
            ]
            self.line("  ".join(padded).rstrip())

    def data(self, record: Any) -> None:
        """Print a record as JSON, for programs."""
        if self.as_json:
            put(self._out, encode_pretty(record).decode())


class TerminalProgress:
    """Tells how far long work is: a bar with the time left on a terminal, plain lines in a pipe."""

    def __init__(self, err: TextIO | None = None, *, quiet: bool = False) -> None:
        self._err, self._quiet = err or sys.stderr, quiet
        self._drawn = self._err.isatty() and not quiet
        self._name, self._total, self._begun, self._shown = "", 0.0, 0.0, 0.0

    def stage(self, name: str, *, total: float | None = None) -> None:
        self.clear()
        self._name, self._total, self._begun, self._shown = name, total or 0.0, time.monotonic(), 0.0
        if self._quiet:
            return
        if self._drawn:
            self._draw(0.0, "")
        else:
            put(self._err, f"{name}\n")

    def advance(self, done: float, note: str = "") -> None:
        now = time.monotonic()
        last = bool(self._total) and done >= self._total
        if self._quiet or (now - self._shown < (REDRAW_S if self._drawn else 5.0) and not last):
            return
        self._shown = now
        if self._drawn:
            self._draw(done, note)
        elif note:
            put(self._err, f"  {note}\n")

    def say(self, line: str) -> None:
        self.clear()
        if not self._quiet:
            put(self._err, f"{line}\n")

    def clear(self) -> None:
        """Take the bar away."""
        if self._drawn:
            put(self._err, "\r\x1b[2K")

    def _draw(self, done: float, note: str) -> None:
        share = min(max(done / self._total, 0.0), 1.0) if self._total else 0.0
        bar = "━" * round(BAR * share) + "·" * (BAR - round(BAR * share)) if self._total else ""
        text = f"{self._name} {bar} {self._left(share)} {note}"
        put(self._err, "\r\x1b[2K" + " ".join(text.split())[:110])

    def _left(self, share: float) -> str:
        spent = time.monotonic() - self._begun
        if not self._total or share <= 0.02:
            return f"{spent:.0f} s"
        return f"{spent * (1 - share) / share:.0f} s left"


def put(stream: TextIO, text: str) -> None:
    """Write text at once; a reader who has gone (`| head`) has seen enough, and the work goes on."""
    with contextlib.suppress(BrokenPipeError):
        stream.write(text)
        stream.flush()


def close_quietly(stream: TextIO) -> None:
    """Write out what is left, or drop it where nobody reads any more."""
    try:
        stream.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def fail(fault: BaseException, *, as_json: bool = False) -> int:
    """Print a fault and return the exit code for it."""
    if isinstance(fault, KeyboardInterrupt):
        code, exit_code = "interrupted", INTERRUPTED
        text = "Interrupted. What was finished is kept; the same command goes on from there."
    elif isinstance(fault, ModelyardError):
        code, exit_code, text = fault.code, fault.exit_code, str(fault)
    else:
        code, exit_code, text = "unexpected", UNEXPECTED, _unexpected(fault)
    if as_json:
        facts: dict[str, Any] = {"error": code, "message": text}
        if isinstance(fault, GateError):
            facts["reasons"] = fault.reasons
        put(sys.stdout, encode_pretty(facts).decode())
    else:
        put(sys.stderr, f"{text}\n")
    return exit_code


def _unexpected(fault: BaseException) -> str:
    """Write the traceback into a file of its own and return one line that says what happened and where it is."""
    what = "".join(traceback.format_exception_only(fault)).strip().splitlines()[-1]
    with tempfile.NamedTemporaryFile("w", prefix="modelyard-", suffix=".traceback.txt", delete=False) as file:
        file.write("".join(traceback.format_exception(fault)))
    return f"This was not expected: {what}. The traceback is in {file.name}; please report it."


def _is_number(cell: str) -> bool:
    return bool(cell) and cell.strip("-+±.,%0123456789 eMBms/") == ""
