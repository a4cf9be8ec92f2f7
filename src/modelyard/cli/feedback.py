"""Outcomes that arrive late: feedback."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelyard.app.outcomes import OutcomeVerbs
from modelyard.app.records import Records
from modelyard.cli.options import Json, words
from modelyard.cli.printing import Printer


def feedback(
    name: Annotated[str, typer.Argument(help="The service.")],
    file: Annotated[Path, typer.Argument(help="JSON lines or CSV, by its name; `-` for JSON lines on standard input.")],
    columns: Annotated[
        str, typer.Option(help="Columns of CSV that are told with the outcomes, such as `sex,region`.")
    ] = "",
    json: Json = False,
) -> None:
    """Example: modelyard feedback income outcomes.jsonl

    Each line says what came true of one row of a request, by the id that its reply had in X-Request-Id:
    {"request": "6f2c-17", "label": ">50K"}, with "row" where a request had several, from 0. CSV has the same names in
    its head. An outcome may come before its answer was read; of two for the same row the first stands.

    What groups or slices are compared by, and requests do not carry, is told here too: "columns": {"sex": "F"}, or
    --columns sex of CSV.
    """
    records = Records(command=words())
    asked = [one.strip() for one in columns.split(",") if one.strip()]
    counts = OutcomeVerbs(records.settings, records.clock, records.command).feedback(name, file, asked)
    printer = Printer(as_json=json)
    late = f", {counts.late} of them late" if counts.late else ""
    printer.line(f"joined {counts.joined}{late}; unmatched {counts.unmatched}; duplicate {counts.duplicate}; "
                 f"malformed {counts.malformed}")  # fmt: skip
    if counts.first_fault is not None:
        printer.line(f"The first malformed: {counts.first_fault}")
    printer.data(counts)
