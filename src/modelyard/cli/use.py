"""Using releases: predict, serve, services, stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from modelyard.app.model import Model
from modelyard.cli.options import Json, Overwrite, Ref, app
from modelyard.cli.printing import Printer, TerminalProgress
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
    path = out or source.with_name(f"{source.name.partition('.')[0]}.predictions.csv")
    done = verbs.predict(ref, source, path, overwrite=overwrite)
    if isinstance(verbs.progress, TerminalProgress):
        verbs.progress.clear()
    printer.line(f"{done.rows} rows answered by {done.release} into {done.out}.")
    if done.quarantine is not None:
        printer.line(
            f"{done.quarantined} rows break the contract and have no answer; the reasons are in {done.quarantine}."
        )
    printer.data(done)


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


def serve(
    ref: Ref,
    host: Annotated[str | None, typer.Option(help="Address to listen on; the spec's by default.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port; the spec's by default, 0 for any free one.", min=0, max=65535)
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return once it is ready; it goes on by itself.")] = False,
    json: Json = False,
) -> None:
    """Example: modelyard serve income --detach"""
    verbs, printer = app(quiet=True), Printer(as_json=json)
    if not detach:
        raise typer.Exit(verbs.services.serve(ref, host=host, port=port, said=TerminalProgress().say))
    state = verbs.services.detach(ref, host=host, port=port)
    run = state.run
    printer.line(f"{run.service} serves {', '.join(state.routes.traffic.shares)} on http://{run.host}:{run.port}")
    printer.line(f"End it: modelyard stop {run.service}")
    printer.data(state)


def services(json: Json = False) -> None:
    """Example: modelyard services"""
    verbs, printer = app(quiet=True), Printer(as_json=json)
    found = verbs.services.all()
    if not found:
        printer.line("No service runs.")
    else:
        rows = [
            (
                one.run.service,
                f"http://{one.run.host}:{one.run.port}",
                "running" if one.alive else f"supervisor died; {one.orphans} processes still answer",
                str(one.run.pid),
                one.run.started[:19],
            )
            for one in found
        ]
        printer.table(("service", "address", "state", "process", "started"), rows)
    printer.data(found)


def stop(name: Annotated[str, typer.Argument(help="The service.")], json: Json = False) -> None:
    """Example: modelyard stop income"""
    told = app(quiet=True).services.stop(name)
    printer = Printer(as_json=json)
    printer.line(told)
    printer.data({"service": name, "detail": told})
