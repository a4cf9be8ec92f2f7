"""Using releases: predict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from modelyard.app.model import Model
from modelyard.cli.options import Json, Overwrite, Ref
from modelyard.cli.printing import Printer, TerminalProgress
from modelyard.cli.verbs import app
from modelyard.errors import Unreadable, UsageError, WrongFormat

MOST_JSON_BYTES = 64_000_000


def predict(
    ref: Ref,
    source: Annotated[
        Path, typer.Argument(help="Rows: .json (one object or a list), CSV, Parquet, JSON lines, a folder.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Answers, .csv or .jsonl; SOURCE.predictions.csv by default.")
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Example: modelyard predict income row.json"""
    verbs, printer = app(quiet=json), Printer(as_json=json)
    if source.suffix == ".json":
        if out is not None:
            raise UsageError(f"Answers to `{source}` go to standard output. Leave --out away, or use JSON lines.")
        _predict_json(printer, verbs.open(ref), source)
        return
    named = source if source.name else source.absolute()  # `.` has no name of its own
    path = out or named.with_name(f"{named.name.partition('.')[0]}.predictions.csv")
    done = verbs.predict(ref, source, path, overwrite=overwrite)
    if isinstance(verbs.progress, TerminalProgress):
        verbs.progress.clear()
    printer.line(f"{done.rows} rows answered by {done.release} into {done.out}.")
    if done.quarantine is not None:
        printer.line(
            f"{done.quarantined} rows break the contract and have no answer; the reasons are in {done.quarantine}."
        )
    printer.data(done)
    if not done.rows:
        raise typer.Exit(2)  # a program must not take a file without an answer for a success


def _predict_json(printer: Printer, model: Model, source: Path) -> None:
    """Answer a small file of JSON, one line of JSON a row."""
    try:
        size = source.stat().st_size
        if size > MOST_JSON_BYTES:
            raise UsageError(f"`{source}` has {size} bytes; JSON up to {MOST_JSON_BYTES}. Use JSON lines for more.")
        rows = msgspec.json.decode(source.read_bytes())
    except OSError as fault:
        raise Unreadable(f"`{source}` cannot be read: {fault.strerror}.") from fault
    except msgspec.DecodeError as fault:
        raise WrongFormat(f"`{source}` is not JSON: {fault}.") from fault
    if isinstance(rows, dict):
        rows = [rows]
    if not isinstance(rows, list):
        raise WrongFormat(f"`{source}` holds a {type(rows).__name__}; wanted one object or a list of objects.")
    for record in model.records(rows):
        printer.plain(msgspec.json.encode({**record, "served_by": str(model.id)}).decode())
