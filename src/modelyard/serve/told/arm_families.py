"""What fronts count of each release for the verdicts of a rollout, as it lies on their boards.

An update is between two steps of `updates`: while that is odd, one is under way. Whoever reads the same even number
before and after has counts of one moment. The whole is written before its parts, so that of a front that was killed
within an update no part is more than the whole.
"""

from __future__ import annotations

from modelyard.serve.told.board import Board, Series
from modelyard.serve.told.families import Tally

HITS = ("trials", "hits")
SUMS = ("count", "total", "squares")

UPDATES, REQUESTS, UNITS = "arm_updates", "arm_requests", "arm_units"
OUTPUTS, CLASSES, AGREEMENT = "arm_outputs", "arm_classes", "arm_agreement"
RATES, MEANS, GROUPS = "arm_rates", "arm_means", "arm_groups"
NAMES = frozenset((UPDATES, REQUESTS, UNITS, OUTPUTS, CLASSES, AGREEMENT, RATES, MEANS, GROUPS))


class ArmFamilies:
    """The families, on one board."""

    def __init__(self, board: Board) -> None:
        self.updates = Tally(board, UPDATES, ("steps",), ())
        self.requests = Tally(board, REQUESTS, ("requests", "errors", "degraded"))
        self.units = Tally(board, UNITS, ("keyed", "units"))
        self.outputs = Tally(board, OUTPUTS, SUMS)
        self.classes = Tally(board, CLASSES, ("rows",), ("release", "class"))
        self.agreement = Tally(board, AGREEMENT, HITS)
        self.rates = Tally(board, RATES, HITS, ("release", "counts"))
        self.means = Tally(board, MEANS, SUMS, ("release", "counts"))
        self.groups = Tally(board, GROUPS, HITS, ("release", "counts", "group"))

    def steps(self) -> Series:
        """Return the steps of this process; one that a predecessor left odd is made even."""
        steps = self.updates.series()
        if steps.value % 2:
            steps.add()
        return steps
