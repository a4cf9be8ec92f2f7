"""Tables that several commands print."""

from __future__ import annotations

from collections.abc import Sequence

from modelyard.cli.printing import Printer
from modelyard.core.evidence import BuildEvidence, PassedOver
from modelyard.core.requirement import Judgement, Observation

_MARKS = {"pass": "pass", "fail": "FAIL", "inconclusive": "HOLD"}


def candidate_table(printer: Printer, evidence: BuildEvidence) -> None:
    """Print the candidates, best first."""
    objective = next((row.objective.metric for row in evidence.candidates if row.objective is not None), "objective")
    head = ("candidate", objective, "behind by", "trials", "failed", "fit s", "p95 ms", "MB", "why")
    rows = [
        (
            ("* " if row.chosen else "  ") + row.candidate,
            _with_interval(row.objective),
            _with_interval(row.gap) if row.gap is not None else "",
            str(row.trials),
            str(row.failed),
            f"{row.fit_s:.1f}",
            "" if row.latency_p95_ms is None else f"{row.latency_p95_ms:.2f}",
            "" if row.size_mb is None else f"{row.size_mb:.2f}",
            row.reason if len(row.reason) <= 60 else row.reason[:59] + "…",
        )
        for row in evidence.candidates
    ]
    printer.table(head, rows)


def judgement_lines(printer: Printer, judgements: Sequence[Judgement]) -> None:
    """Print a line a requirement."""
    for judgement in judgements:
        printer.line(f"{_MARKS[judgement.verdict]}  {judgement.reason}")


def passed_over_lines(printer: Printer, passed_over: Sequence[PassedOver]) -> None:
    """Print a line a requirement that was not judged."""
    for one in passed_over:
        printer.line(f"later {one.reason}")


def _with_interval(seen: Observation | None) -> str:
    if seen is None or seen.value is None:
        return "-"
    if seen.low is None or seen.high is None or seen.low == seen.high:
        return f"{seen.value:.4f}"
    return f"{seen.value:.4f} ({seen.low:.4f} to {seen.high:.4f})"
