"""The files of the audit log: appended under one lock, mended, rotated, pruned."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from modelyard.core.clock import Clock, stamp
from modelyard.core.codec import decode, digest, encode, sync_folder, write_atomic
from modelyard.core.release import AuditEntry
from modelyard.errors import AuditError, StoreError
from modelyard.store.chain import DAMAGE, PRUNE, ROTATE, TORN, BrokenLine, Checker, Head, head_of, link, read_line
from modelyard.store.lock import locked
from modelyard.store.reserve import Reserve

_WINDOW_BYTES = 64 * 1024

Note = Callable[[str, dict[str, Any]], AuditEntry]


class Journal:
    """Appends entries to `audit.jsonl` and keeps `head.json` beside it; one writer at a time.

    Order of a write: line, fsync, head. So after a kill the log may be ahead of its head, never
    behind; a log behind its head was cut. `note` makes the entries that the log writes of itself.
    """

    def __init__(self, folder: Path, *, clock: Clock, note: Note, rotate_bytes: int, keep_days: int) -> None:
        self._folder, self._clock, self._note = folder, clock, note
        self._rotate_bytes, self._keep = rotate_bytes, timedelta(days=keep_days)
        self._log, self._head, self._lock = folder / "audit.jsonl", folder / "head.json", folder / "audit.lock"
        self.reserve = Reserve(folder / "audit.reserve")

    def append(self, entry: AuditEntry, *, patience_s: float) -> None:
        """Write an entry durably; raises AuditError, and then it is not in the log."""
        try:
            with locked(self._lock, patience_s=patience_s):
                head = self._replay(self._mend())
                head = self._rotate(head)
                self._write(entry, head)
        except (OSError, StoreError) as fault:
            raise AuditError(
                f"The audit log in `{self._folder}` cannot be written: {fault}. "
                f"Changes are refused until it can; rollback, stop and drain still work."
            ) from fault

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the fields of every readable line, oldest first."""
        for path in self._files():
            for raw in _split(_read(path))[0]:
                try:
                    yield read_line(raw)
                except BrokenLine:
                    continue  # `check` is who reports it

    def newest(self, count: int) -> list[dict[str, Any]]:
        """Return the last readable lines, oldest first, reading no more files than that takes."""
        found: deque[dict[str, Any]] = deque()
        for path in reversed(self._files()):
            for raw in reversed(_split(_read(path))[0]):
                if len(found) == count:
                    return list(found)
                try:
                    found.appendleft(read_line(raw))
                except BrokenLine:
                    continue
        return list(found)

    def check(self) -> list[str]:
        """Return every edit, gap, reordering and truncation, in words."""
        with ExitStack() as stack:
            if self._lock.exists():
                stack.enter_context(locked(self._lock, shared=True))
            files = [(path.name, _read(path)) for path in self._files()]
            checker = Checker(head=self._read_head())
        for name, data in files:
            lines, rest = _split(data)
            for number, raw in enumerate(lines, start=1):
                checker.feed(f"`{name}` line {number}", raw)
            if rest and name != self._log.name:
                checker.faults.append(f"`{name}` ends in the middle of a line; a rotated file never does.")
        return checker.finish()

    def _write(self, entry: AuditEntry, head: Head) -> Head:
        """Append one line, then the head; whatever fails, the line is taken back."""
        line, after = link(entry, head)
        is_new = not self._log.exists()
        if is_new and head == Head():
            write_atomic(self._head, encode(head), mode=0o600)
        handle = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            before = os.fstat(handle).st_size
            try:
                if os.write(handle, line) != len(line):
                    raise OSError(f"`{self._log}` took only a part of the line; the disk is full")
                os.fsync(handle)
                write_atomic(self._head, encode(after), mode=0o600)
            except OSError:
                os.ftruncate(handle, before)
                raise
        finally:
            os.close(handle)
        if is_new:
            sync_folder(self._folder)
        return after

    def _mend(self) -> Head:
        """Return where to go on, after setting a torn line aside and noting what is wrong."""
        torn = self._set_torn_aside()
        claimed = self._read_head()
        head, damage = self._join(claimed)
        if torn is not None:
            head = self._write(self._note(TORN, torn), head)
        if damage is not None:
            head = self._write(self._note(DAMAGE, {"reason": damage}), head)
        return head

    def _join(self, claimed: Head | None) -> tuple[Head, str | None]:
        """Say where the chain goes on, and what speaks against the log being whole."""
        last = self._last_line()
        tail = head_of(last) if last is not None else None
        if tail is None:
            if claimed is None and not self._files():
                return Head(), None
            if claimed == Head():
                return Head(), None
            return claimed or Head(), f"no entry can be read; the head says {claimed.count if claimed else 'nothing'}"
        if claimed is None:
            return tail, "the head file is missing or cannot be read"
        if tail == claimed or (tail.count > claimed.count and self._leads_to(claimed)):
            return tail, None
        further = tail if tail.count > claimed.count else claimed
        return further, f"the log ends at entry {tail.count} and its head says {claimed.count}"

    def _leads_to(self, claimed: Head) -> bool:
        """Whether the line that the head names is in the log: the writer was killed before the next head."""
        return claimed == Head() or any(head_of(line) == claimed for line in self.lines())

    def _set_torn_aside(self) -> dict[str, Any] | None:
        """Move what follows the last newline to a file of its own; None if there is nothing."""
        if not self._log.exists() or _ends_whole(self._log):
            return None
        data = _read(self._log)
        lines, rest = _split(data)
        kept = self._keep_aside(rest)
        handle = os.open(self._log, os.O_WRONLY)
        try:
            os.ftruncate(handle, len(data) - len(rest))
            os.fsync(handle)
        finally:
            os.close(handle)
        return {"file": kept.name, "size_bytes": len(rest), "sha256": digest(rest), "after_line": len(lines)}

    def _keep_aside(self, data: bytes) -> Path:
        number = 1 + sum(1 for _ in self._folder.glob("audit.torn-*"))
        path = self._folder / f"audit.torn-{number}"
        write_atomic(path, data, mode=0o400)
        return path

    def _replay(self, head: Head) -> Head:
        """Write what is in the reserve to the log, marked late; each line once, whenever killed."""
        if self.reserve.is_empty():
            return head

        def take(data: bytes) -> None:
            nonlocal head
            lines, rest = _split(data)
            known = {(line["change"], line["outcome"]) for line in self.newest(len(lines) + 100) if line["late"]}
            for raw in [*lines, *([rest] if rest else [])]:
                try:
                    entry = msgspec.structs.replace(decode(raw, AuditEntry), late=True)
                except msgspec.DecodeError:
                    kept = self._keep_aside(raw)
                    head = self._write(self._note(TORN, {"file": kept.name, "size_bytes": len(raw)}), head)
                    continue
                if (entry.change, entry.outcome) not in known:
                    head = self._write(entry, head)

        self.reserve.drain(take)
        return head

    def _rotate(self, head: Head) -> Head:
        """Begin a new file once the present one is large, its first entry naming the head before it."""
        if not self._log.exists() or self._log.stat().st_size < self._rotate_bytes:
            return head
        target = self._folder / f"audit-{head.count:012d}.jsonl"  # named by its last entry, so names sort
        self._log.rename(target)
        sync_folder(self._folder)
        detail = {"file": target.name, "last_sequence": head.count, "last_hash": head.hash}
        return self._prune(self._write(self._note(ROTATE, detail), head))

    def _prune(self, head: Head) -> Head:
        """Remove rotated files all of whose entries are older than is kept, after saying so."""
        oldest_kept = stamp(self._clock.now() - self._keep)
        gone: list[Path] = []
        last: dict[str, Any] = {}
        for path in self._files()[:-1]:
            line = _last(_read(path))
            if line is None or line["timestamp"] >= oldest_kept:
                break
            gone.append(path)
            last = line
        if not gone:
            return head
        detail = {"files": [p.name for p in gone], "last_sequence": last["sequence"], "last_hash": last["hash"]}
        head = self._write(self._note(PRUNE, detail), head)
        for path in gone:
            path.unlink()
        sync_folder(self._folder)
        return head

    def _files(self) -> list[Path]:
        """Return the files of the log, oldest first."""
        return [*sorted(self._folder.glob("audit-*.jsonl")), *([self._log] if self._log.exists() else [])]

    def _last_line(self) -> dict[str, Any] | None:
        for path in reversed(self._files()):
            line = _last(_read_end(path)) or _last(_read(path))
            if line is not None:
                return line
        return None

    def _read_head(self) -> Head | None:
        try:
            data = self._head.read_bytes()
            head = decode(data, Head)
        except (OSError, msgspec.DecodeError):
            return None
        return head if encode(head) == data else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _read_end(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _WINDOW_BYTES))
        return file.read()


def _ends_whole(path: Path) -> bool:
    return _read_end(path)[-1:] in (b"", b"\n")


def _split(data: bytes) -> tuple[list[bytes], bytes]:
    """Return the lines without their newlines, and what follows the last newline."""
    *lines, rest = data.split(b"\n")
    return lines, rest


def _last(data: bytes) -> dict[str, Any] | None:
    """Return the last readable line of some bytes."""
    for raw in reversed(_split(data)[0]):
        try:
            return read_line(raw)
        except BrokenLine:
            continue
    return None
