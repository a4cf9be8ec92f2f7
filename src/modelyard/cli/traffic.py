"""Traffic: deploy, rollback."""

from __future__ import annotations

from typing import Annotated

import typer

from modelyard.app.records import Records
from modelyard.app.traffic import TrafficVerbs
from modelyard.cli.options import Json, Ref, words
from modelyard.cli.printing import Printer, TerminalProgress
from modelyard.serve.keep.change import Changed


def deploy(ref: Ref, json: Json = False) -> None:
    """Example: modelyard deploy income@2

    The release is loaded beside the one that answers and its golden requests are asked; only then does it take over.
    Where it does not get ready, what answered before goes on.
    """
    _tell(verbs().deploy(ref), as_json=json)


def rollback(name: Annotated[str, typer.Argument(help="The service.")], json: Json = False) -> None:
    """Example: modelyard rollback income

    Goes back to the release that answered before, also while the store or the supervisor is dead.
    """
    _tell(verbs().rollback(name), as_json=json)


def verbs() -> TrafficVerbs:
    """Return the verbs on traffic and keys."""
    records = Records(command=words())
    return TrafficVerbs(records.settings, records.store, records.clock, records.command)


def _tell(changed: Changed, *, as_json: bool) -> None:
    printer = Printer(as_json=as_json)
    printer.line(f"{changed.service} answers from {changed.release} (epoch {changed.epoch}, {changed.seconds:.2f} s).")
    if changed.store != "written":
        printer.line(f"The store was not reached and is brought up later: {changed.store}")
    if changed.fronts != "follow":
        printer.line(f"The fronts: {changed.fronts}")
    for why in changed.warnings:
        TerminalProgress().say(f"WARNING: {why}")
    if changed.previous is not None:
        printer.line(f"Go back to {changed.previous}: modelyard rollback {changed.service}")
    printer.data(changed)
