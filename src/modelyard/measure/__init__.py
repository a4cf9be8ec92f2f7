"""Pure maths: scores, intervals, verdicts, thresholds, curves, calibration.

Arrays and records enter (an `Outcome`: truth and answers of the same rows; an `Observation`; a
`Requirement`), and numbers and records leave. It must never read or write anything, look at a clock
or draw from a random generator it was not given. Serving processes import `judge` alone, which is
free of numpy and scipy.
"""

from modelyard.measure.judge import judge, worst

__all__ = ["judge", "worst"]
