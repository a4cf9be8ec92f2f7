"""The chain of the audit log: how a line is linked to the one before, and how a broken link is found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from modelyard.core.codec import decode, digest, encode
from modelyard.core.release import AuditEntry

GENESIS = "0" * 64

TORN, DAMAGE, ROTATE, PRUNE = "audit.torn", "audit.damage", "audit.rotate", "audit.prune"
"""Operations that the log writes of itself."""


class Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many lines there are since the log began, and the hash of the last."""

    count: int = 0
    hash: str = GENESIS


class BrokenLine(Exception):
    """A line that is not what was written; its text says why. Never leaves the store."""


def link(entry: AuditEntry, head: Head) -> tuple[bytes, Head]:
    """Return the line that follows `head`, with its newline, and the head after it."""
    fields = msgspec.to_builtins(entry) | {"sequence": head.count + 1, "previous": head.hash}
    own = digest(encode(fields))
    return encode(fields | {"hash": own}) + b"\n", Head(count=head.count + 1, hash=own)


def read_line(raw: bytes) -> dict[str, Any]:
    """Return the fields of a line (without newline) whose hash is right; raises BrokenLine.

    The line must be the canonical form of its fields, so that no byte can differ unseen.
    """
    try:
        fields = decode(raw, dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise BrokenLine("is no JSON object") from fault
    if encode(fields) != raw:
        raise BrokenLine("is not in the form it was written in")
    rest = {name: value for name, value in fields.items() if name != "hash"}
    if fields.get("hash") != digest(encode(rest)):
        raise BrokenLine("does not match its own hash")
    if not isinstance(rest.get("sequence"), int) or not isinstance(rest.get("previous"), str):
        raise BrokenLine("has no place in the chain")
    return fields


def head_of(fields: dict[str, Any]) -> Head:
    """Return the head as it was just after a line."""
    return Head(count=fields["sequence"], hash=fields["hash"])


@dataclass
class Checker:
    """Walks the lines in order and gathers what is wrong with them."""

    head: Head | None
    faults: list[str] = field(default_factory=list)
    _first: Head | None = None  # what the first readable line follows
    _next: int = 0  # the sequence wanted; 0 before the first readable line
    _previous: str | None = None  # the hash to follow; None after an unreadable line
    _at_head: str | None = None
    _pruned: list[Head] = field(default_factory=list)

    def feed(self, where: str, raw: bytes) -> None:
        """Take the next line."""
        try:
            fields = read_line(raw)
        except BrokenLine as fault:
            self.faults.append(f"{where}: the line {fault}; it was edited.")
            self._next, self._previous = self._next + 1 if self._next else 0, None
            return
        self._check_place(where, fields)
        head = head_of(fields)
        self._next, self._previous = head.count + 1, head.hash
        if self.head is not None and head.count == self.head.count:
            self._at_head = head.hash
        self._note(where, fields)

    def finish(self) -> list[str]:
        """Compare with the head and with what was pruned; return every fault."""
        if self._first is not None and self._first != Head() and not self._was_pruned(self._first):
            self.faults.append(f"Entries 1 to {self._first.count} are missing and no entry says that they were pruned.")
        seen = max(0, self._next - 1)
        if self.head is None:
            if seen or self.faults:
                self.faults.append("The head file is missing or cannot be read; without it truncation cannot be seen.")
        elif seen < self.head.count:
            self.faults.append(
                f"The log ends at entry {seen} and its head says {self.head.count}: entries were cut off at the end."
            )
        elif self.head.count and self._at_head != self.head.hash:
            self.faults.append(f"Entry {self.head.count} is not the one that the head names.")
        return self.faults

    def _was_pruned(self, first: Head) -> bool:
        """Whether an entry says that all up to `first` went; a killed pruning may have left the later files."""
        return any(first == pruned or first.count < pruned.count for pruned in self._pruned)

    def _check_place(self, where: str, fields: dict[str, Any]) -> None:
        sequence, previous = fields["sequence"], fields["previous"]
        if not self._next:
            self._first = Head(count=sequence - 1, hash=previous)
        elif sequence != self._next:
            self.faults.append(
                f"{where}: entry {sequence} came where {self._next} was wanted; "
                f"entries were removed, added or put in another order."
            )
        elif self._previous is not None and previous != self._previous:
            self.faults.append(f"{where}: entry {sequence} does not follow the one before it.")

    def _note(self, where: str, fields: dict[str, Any]) -> None:
        detail = fields.get("model_metadata", {})
        if fields.get("operation") == PRUNE:
            self._pruned.append(Head(count=detail.get("last_sequence", 0), hash=detail.get("last_hash", "")))
        elif fields.get("operation") == DAMAGE:
            self.faults.append(f"{where}: damage was found on {fields.get('timestamp')}: {detail.get('reason')}")
