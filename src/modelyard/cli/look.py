"""Looking at releases: releases, show, diff, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelyard.cli.options import Json, Ref, app
from modelyard.cli.printing import Printer


def releases(
    name: Annotated[str | None, typer.Argument(help="Of this name only.")] = None,
    json: Json = False,
) -> None:
    """Example: modelyard releases income"""
    found = app(quiet=True).releases(name)
    printer = Printer(as_json=json)
    if not found:
        printer.line("There is no release yet. Build one: modelyard run")
    else:
        printer.table(
            ("release", "sealed", "MB", "body", "headline"),
            [(str(r.id), r.sealed[:19], f"{r.size_bytes / 1e6:.2f}", r.body[:12], r.headline) for r in found],
        )
    printer.data(found)


def show(ref: Ref, json: Json = False) -> None:
    """Example: modelyard show income@1"""
    verbs, printer = app(quiet=True), Printer(as_json=json)
    release, evidence, _, _ = verbs.show(ref)
    printer.line(verbs.card(ref).rstrip())
    printer.data({"release": release, "evidence": [{"ref": seen, "record": record} for seen, record in evidence]})


def diff(
    first: Annotated[str, typer.Argument(help="A release, such as income@1.")],
    second: Annotated[str, typer.Argument(help="Another.")],
    json: Json = False,
) -> None:
    """Example: modelyard diff income@1 income@2"""
    found = app(quiet=True).diff(first, second)
    printer = Printer(as_json=json)
    printer.line(found.text.rstrip())
    printer.data(found)


def report(
    ref: Ref,
    out: Annotated[Path | None, typer.Option(help="Where the page goes; NAME-NUMBER.html by default.")] = None,
    json: Json = False,
) -> None:
    """Example: modelyard report income@1 --out report.html"""
    verbs, printer = app(quiet=True), Printer(as_json=json)
    path = verbs.report(ref, out or Path(f"{ref.replace('@', '-')}.html"))
    printer.line(f"Wrote {path}.")
    printer.data({"report": str(path)})
