"""Looking at releases: show, diff, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelyard.app.telling import Telling
from modelyard.cli.options import Json, Ref, words
from modelyard.cli.printing import Printer


def show(ref: Ref, json: Json = False) -> None:
    """Example: modelyard show income@1"""
    verbs, printer = Telling(command=words()), Printer(as_json=json)
    release, evidence, _, _ = verbs.show(ref)
    printer.line(verbs.card(ref).rstrip())
    printer.data({"release": release, "evidence": [{"ref": seen, "record": record} for seen, record in evidence]})


def diff(
    first: Annotated[str, typer.Argument(help="A release, such as income@1.")],
    second: Annotated[str, typer.Argument(help="Another.")],
    json: Json = False,
) -> None:
    """Example: modelyard diff income@1 income@2"""
    found = Telling(command=words()).diff(first, second)
    printer = Printer(as_json=json)
    printer.line(found.text.rstrip())
    printer.data(found)


def report(
    ref: Ref,
    out: Annotated[Path | None, typer.Option(help="Where the page goes; NAME-NUMBER.html by default.")] = None,
    json: Json = False,
) -> None:
    """Example: modelyard report income@1 --out report.html"""
    verbs, printer = Telling(command=words()), Printer(as_json=json)
    path = verbs.report(ref, out or Path(f"{ref.replace('@', '-')}.html"))
    printer.line(f"Wrote {path}.")
    printer.data({"report": str(path)})
