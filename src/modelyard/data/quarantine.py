"""Put malformed rows aside, one JSON line each, and count them by reason."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

from modelyard.core.codec import encode
from modelyard.core.contract import Quarantined
from modelyard.errors import TooManyMalformed

TEXT_LIMIT = 500
SAMPLE = 20


def quarantined(*, file: str, row: int, column: str | None, reason: str, text: str) -> Quarantined:
    """Return the record of a malformed row, its text cut to what a record may hold."""
    return Quarantined(file=file, row=row, column=column, reason=reason, text=text[:TEXT_LIMIT])


class Quarantine:
    """Writes rows to a file as they come and keeps the first few; a context manager, not thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        self._sample: list[Quarantined] = []
        self._rules: Counter[tuple[str | None, str]] = Counter()
        self._examples: dict[tuple[str | None, str], Quarantined] = {}
        self.rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def begin(self) -> None:
        """Count reasons from here on, for the next table."""
        self._rules.clear()
        self._examples.clear()

    def add(self, record: Quarantined, *, rule: str) -> None:
        """Put one row aside; `rule` is its reason without the values of the row, to count by."""
        self._file.write(encode(record) + b"\n")
        self.rows += 1
        key = (record.column, rule)
        self._rules[key] += 1
        self._examples.setdefault(key, record)
        if len(self._sample) < SAMPLE:
            self._sample.append(record)

    @property
    def sample(self) -> tuple[Quarantined, ...]:
        return tuple(self._sample)

    def reasons(self, most: int = 5) -> list[str]:
        """Return the most frequent reasons in words, each with its count and its first row."""
        return [self._words(key, count) for key, count in self._rules.most_common(most)]

    def _words(self, key: tuple[str | None, str], count: int) -> str:
        (column, rule), first = key, self._examples[key]
        where = f"column `{column}`: " if column is not None else ""
        detail = "" if first.reason == rule else f": {first.reason}"
        return (
            f"{where}{rule}, {count} row{'' if count == 1 else 's'} (first: row {first.row} of `{first.file}`{detail})"
        )


def check_share(aside: Quarantine, *, malformed: int, read: int, allowed: float, where: str) -> None:
    """Raise TooManyMalformed if the share of malformed rows is more than allowed."""
    if read == 0 or malformed <= allowed * read:
        return
    lines = "\n".join(f"  {reason}" for reason in aside.reasons())
    raise TooManyMalformed(
        f"`{where}`: {malformed} of {read} rows are malformed ({malformed / read:.2%}); allowed are {allowed:.2%} "
        f"(`data.allowed_malformed_share`). Reasons:\n{lines}\n"
        "Mend the file, declare the column's kind, or add the text to `data.null_values` if it means missing."
    )
