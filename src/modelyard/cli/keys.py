"""API keys of a service."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from modelyard.cli.options import Json
from modelyard.cli.printing import Printer
from modelyard.cli.traffic import verbs
from modelyard.errors import UsageError


class KeysVerb(StrEnum):
    """What to do with the keys of a service."""

    LIST = "list"
    ADD = "add"
    REMOVE = "remove"


def keys(
    verb: Annotated[KeysVerb, typer.Argument(help="list, add or remove.")],
    name: Annotated[str, typer.Argument(help="The service.")],
    label: Annotated[str | None, typer.Option(help="Whose key it is; add and remove need one.")] = None,
    manage: Annotated[bool, typer.Option("--manage", help="It may also load, unload and stop.")] = False,
    rate: Annotated[float | None, typer.Option(help="Most requests a second; no bound by default.", min=0.001)] = None,
    burst: Annotated[int | None, typer.Option(help="Most requests at once; a second's by default.", min=1)] = None,
    json: Json = False,
) -> None:
    """Example: modelyard keys add income --label team"""
    printer = Printer(as_json=json)
    if verb is KeysVerb.LIST:
        _list(name, printer)
        return
    if label is None:
        raise UsageError(f"Whose key? modelyard keys {verb.value} {name} --label team")
    if verb is KeysVerb.ADD:
        key = verbs().add_key(name, label, manage=manage, rate=rate, burst=burst)
        printer.line(f"The key of {label}; keep it, it cannot be shown again:")
        printer.line(key)
        printer.data({"service": name, "label": label, "key": key})
        return
    verbs().remove_key(name, label)
    printer.line(f"The key of {label} opens {name} no more.")
    printer.data({"service": name, "label": label, "removed": True})


def _list(name: str, printer: Printer) -> None:
    found = verbs().keys(name)
    if not found:
        printer.line(f"{name} has no keys.")
    rows = [
        (
            one.label,
            "yes" if one.manage else "",
            "" if one.rate is None else f"{one.rate:g}/s",
            "" if one.rate is None else str(one.burst),  # without a rate there is no bound at once either
            one.created[:19],
        )
        for one in found
    ]
    if rows:
        printer.table(("label", "may manage", "rate", "at once", "made"), rows)
    printer.data(
        [
            {
                "label": one.label,
                "manage": one.manage,
                "rate": one.rate,
                "burst": None if one.rate is None else one.burst,
                "created": one.created,
            }
            for one in found
        ]
    )
