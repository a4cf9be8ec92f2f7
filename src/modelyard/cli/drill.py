"""Rehearsing failures and ways back: drill."""

from __future__ import annotations

from typing import Annotated

import typer

from modelyard.app.drilling import DrillReport, Drills
from modelyard.cli.bench import EXIT
from modelyard.cli.options import Json, Ref, words
from modelyard.cli.printing import Printer, TerminalProgress
from modelyard.core.drill import DEFAULT_DRILLS, Drilled


def drill(
    ref: Ref,
    only: Annotated[
        str,
        typer.Option(
            help=f"Which drills, with commas between; by default those of the spec. Known: {', '.join(DEFAULT_DRILLS)}."
        ),
    ] = "",
    json: Json = False,
) -> None:
    """Example: modelyard drill income@2 --only worker_killed,rollback_service

    Each drill harms a copy of the service, with processes, a port and a store of its own, while a steady load asks it;
    the service that runs is left alone. What came of it is evidence of the release. Exit code 3 says that a drill
    failed, 4 that one could not be tried here.
    """
    kinds = [kind.strip() for kind in only.split(",")] if only else None
    progress = TerminalProgress(quiet=json)
    report = Drills(progress=progress, command=words()).drill(ref, kinds)
    progress.clear()
    _print(Printer(as_json=json), report)
    raise typer.Exit(EXIT[report.verdict])


def _print(printer: Printer, report: DrillReport) -> None:
    evidence = report.evidence
    printer.table(
        (
            "drill",
            "outcome",
            "seen after",
            "recovered",
            "sent",
            "lost",
            "failed",
            "degraded",
            "worst ms",
            "changes lost",
        ),
        [_row(drilled) for drilled in evidence.drills],
    )
    for drilled in evidence.drills:
        printer.line(f"{drilled.kind}: {drilled.why}")
    printer.line(f"{evidence.rate:g} requests a second to copies of {report.release}; behind it {evidence.way_back}.")
    if evidence.left_out:
        printer.line(f"Rehearsed without {', '.join(evidence.left_out)}, which the release's settings have.")
    printer.data(report)


def _row(drilled: Drilled) -> tuple[str, ...]:
    tried = bool(drilled.sent)
    return (
        drilled.kind,
        drilled.outcome.value,
        _seconds(drilled.detection_s),
        _seconds(drilled.recovery_s),
        *(str(count) if tried else "-" for count in (drilled.sent, drilled.lost, drilled.failed, drilled.degraded)),
        "-" if drilled.worst_ms is None else f"{drilled.worst_ms:.0f}",
        f"{drilled.changes_lost} of {drilled.changes}" if tried else "-",
    )


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"
