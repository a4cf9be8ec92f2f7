"""Measuring a service under load: bench."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from modelyard.app.bench import ROWS_PATH, Bench, LoadWish
from modelyard.cli.load_tables import found_lines, result_lines
from modelyard.cli.options import Json, Overwrite, words
from modelyard.cli.printing import Printer, TerminalProgress
from modelyard.core.load import Arrivals, LoadPlan, LoadReport
from modelyard.core.requirement import Verdict
from modelyard.errors import UsageError

EXIT = {Verdict.PASS: 0, Verdict.FAIL: 3, Verdict.INCONCLUSIVE: 4}


class OpenLoop(StrEnum):
    """When requests of an open loop become due."""

    POISSON = "poisson"
    CONSTANT = "constant"


def bench(
    target: Annotated[str, typer.Argument(help="An address to POST to, or a release: `income@2`, `income`.")],
    rate: Annotated[
        float | None, typer.Option(help="Requests a second, due whatever the server does.", min=0.001, max=1_000_000)
    ] = None,
    connections: Annotated[
        int | None,
        typer.Option(help="A closed loop instead: so many callers, each waiting for its answer.", min=1, max=4096),
    ] = None,
    p99_ms: Annotated[
        float | None,
        typer.Option("--p99-ms", help="What 99 of 100 answers must keep; else the spec's bound.", min=0.001),
    ] = None,
    arrivals: Annotated[OpenLoop, typer.Option(help="How requests become due.")] = OpenLoop.POISSON,
    seconds: Annotated[float, typer.Option(help="Measured time.", min=0.1, max=86_400)] = 10.0,
    warmup_s: Annotated[float, typer.Option("--warmup-s", help="The same load before it.", min=0, max=3600)] = 2.0,
    timeout_s: Annotated[float, typer.Option("--timeout-s", help="How long a caller waits.", min=0.01, max=600)] = 10.0,
    most_connections: Annotated[int, typer.Option(help="Of an open loop, at once.", min=1, max=4096)] = 256,
    body: Annotated[Path | None, typer.Option(help="File with a request's body; a release needs none.")] = None,
    header: Annotated[list[str] | None, typer.Option(help="A header, `Name: value`; may be given again.")] = None,
    path: Annotated[str, typer.Option(help="Where a release is asked.")] = ROWS_PATH,
    rows: Annotated[int, typer.Option(help="Rows of one request to a release.", min=1, max=10_000)] = 1,
    ca: Annotated[Path | None, typer.Option(help="Certificates to trust, for https.")] = None,
    price: Annotated[
        float | None, typer.Option("--price-per-cpu-hour", help="For the cost; the spec's where a release.", min=0)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the Poisson arrivals.", min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="Where the record goes, as JSON.")] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Example: modelyard bench income@2 --rate 500

    Without --rate or --connections it finds the highest rate that keeps the latency bound. Latency counts from the
    moment a request was due. Exit code 3 says that the bound is not kept, 4 that it was left open.
    """
    if rate is not None and connections is not None:
        raise UsageError("--rate makes an open loop, --connections a closed one. Give one of them.")
    plan = LoadPlan(
        arrivals=Arrivals.CLOSED if connections is not None else Arrivals(arrivals.value),
        rate=rate,
        connections=connections or most_connections,
        seconds=seconds,
        warmup_s=warmup_s,
        timeout_s=timeout_s,
        seed=seed,
    )
    wish = LoadWish(
        target=target, plan=plan, p99_ms=p99_ms, body=body, headers=tuple(header or ()), path=path, rows=rows,
        ca=ca, price_per_cpu_hour=price, out=out, overwrite=overwrite,
    )  # fmt: skip
    progress = TerminalProgress(quiet=json)
    report = Bench(progress=progress, command=words()).bench(wish)
    progress.clear()
    _print(Printer(as_json=json), report)
    if out is not None:
        Printer(as_json=json).line(f"The record is in {out}.")
    raise typer.Exit(_exit_code(report))


def _print(printer: Printer, report: LoadReport) -> None:
    if report.found is not None:
        found_lines(printer, report.found)
    if report.result is not None:
        result_lines(printer, report.result)
    if report.left_out:
        printer.line(f"note      measured without {', '.join(report.left_out)}, which the release's settings have")
    printer.data(report)


def _exit_code(report: LoadReport) -> int:
    if report.found is not None:
        if report.found.highest is None:
            return EXIT[Verdict.FAIL]
        return EXIT[Verdict.PASS if report.found.confirmed else Verdict.INCONCLUSIVE]
    verdict = None if report.result is None else report.result.verdict
    return 0 if verdict is None else EXIT[verdict]
