"""What is counted of the copies that a shadow release got."""

from __future__ import annotations

from collections.abc import Sequence

from modelyard.serve.shadow.copies import Fate, Mirrored
from modelyard.serve.told.metrics import Metrics

SAME, OTHER = "same", "other"


class ShadowCounter:
    """Counts for one release on the board of this front."""

    def __init__(self, metrics: Metrics, release: str, within: float) -> None:
        self.within = within  # how far apart numbers may be and agree
        self._copied = metrics.shadow_copied.bind(release)
        self._rows = {fate: metrics.shadow_rows.bind(release, fate) for fate in Fate}
        self._same = metrics.shadow_compared.bind(release, SAME)
        self._other = metrics.shadow_compared.bind(release, OTHER)
        self._not_finite = metrics.not_finite.bind(release)
        self._seconds = metrics.shadow_seconds.bind(release)

    def copied(self, rows: int) -> None:
        """Count the rows of a copy that begins; each comes back once in `count`."""
        self._copied.add(rows)

    def not_finite(self, rows: int) -> None:
        """Count rows that were answered with NaN or an infinity."""
        self._not_finite.add(rows)

    def count(self, copies: Sequence[Mirrored]) -> None:
        """Count copies whose fate is known."""
        compared = agreed = 0
        rows: dict[Fate, int] = {}
        for copy in copies:
            rows[copy.fate] = rows.get(copy.fate, 0) + copy.rows
            compared += copy.compared
            agreed += copy.agreed
            if copy.fate is Fate.ANSWERED:
                self._seconds.add(copy.seconds)
        for fate, count in rows.items():
            self._rows[fate].add(count)
        if compared:
            self._same.add(agreed)
            self._other.add(compared - agreed)
