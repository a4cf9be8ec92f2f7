"""Traffic: deploy, rollback."""

from __future__ import annotations

from typing import Annotated

import typer

from modelyard.app.records import Records
from modelyard.app.rollout import RolloutVerbs
from modelyard.app.traffic import TrafficVerbs
from modelyard.cli.options import Json, words
from modelyard.cli.printing import Printer, TerminalProgress
from modelyard.cli.rollout import tell_begun
from modelyard.core.rollout import Strategy
from modelyard.serve.keep.change import Changed


def deploy(
    refs: Annotated[list[str], typer.Argument(help="A release, such as `income@2`; several for an experiment.")],
    strategy: Annotated[
        Strategy | None, typer.Option(help="How it takes over; by default as its spec says under `rollout.strategy`.")
    ] = None,
    json: Json = False,
) -> None:
    """Example: modelyard deploy income@2 --strategy canary

    The release is loaded beside the one that answers and its golden requests are asked; only then is it asked by
    callers. Where it does not get ready, what answered before goes on. A canary goes step by step, judged by the
    requirements of its spec, and goes back by itself where one fails: `modelyard status NAME --watch` shows it.
    """
    begun = RolloutVerbs(Records(command=words())).begin(refs, strategy)
    if isinstance(begun, Changed):
        _tell(begun, as_json=json)
    else:
        tell_begun(begun, as_json=json)


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
