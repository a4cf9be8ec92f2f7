"""The store: releases, audit, gc."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from modelyard.app.records import Records
from modelyard.cli.options import Json, words
from modelyard.cli.printing import Printer


def releases(
    name: Annotated[str | None, typer.Argument(help="Of this name only.")] = None,
    json: Json = False,
) -> None:
    """Example: modelyard releases income"""
    found = Records(command=words()).releases(name)
    printer = Printer(as_json=json)
    if not found:
        printer.line("There is no release yet. Build one: modelyard run")
    else:
        printer.table(
            ("release", "sealed", "MB", "body", "headline"),
            [(str(r.id), r.sealed[:19], f"{r.size_bytes / 1e6:.2f}", r.body[:12], r.headline) for r in found],
        )
    printer.data(found)


class AuditVerb(StrEnum):
    """What to do with the audit log."""

    LIST = "list"
    VERIFY = "verify"


def audit(
    verb: Annotated[AuditVerb, typer.Argument(help="list the entries, or verify the chain.")] = AuditVerb.LIST,
    last: Annotated[int, typer.Option(help="How many entries.", min=1)] = 20,
    json: Json = False,
) -> None:
    """Example: modelyard audit verify"""
    verbs, printer = Records(command=words()), Printer(as_json=json)
    if verb is AuditVerb.VERIFY:
        faults = verbs.audit_verify()
        for fault in faults:
            printer.line(fault)
        printer.line(f"{len(faults)} faults." if faults else "The audit log is whole.")
        printer.data({"whole": not faults, "faults": faults})
        raise typer.Exit(1 if faults else 0)
    entries = verbs.audit(last=last)
    rows = [
        (
            str(entry["timestamp"])[:19],
            str(entry["user"]),
            str(entry["operation"]),
            str(entry["outcome"]),
            ", ".join(entry["resources_affected"]),
            "" if entry["duration_seconds"] is None else f"{entry['duration_seconds']:.2f}",
        )
        for entry in entries
    ]
    printer.table(("time", "user", "operation", "outcome", "resources", "s"), rows)
    printer.data(entries)


def gc(
    keep: Annotated[int, typer.Option(help="Newest releases of each name that keep their body.", min=1)] = 5,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
    json: Json = False,
) -> None:
    """Example: modelyard gc --keep 3 --dry-run"""
    done = Records(command=words()).collect(keep_newest=keep, dry_run=dry_run)
    printer = Printer(as_json=json)
    verb = "Would free" if dry_run else "Freed"
    printer.line(f"{verb} {done.freed_bytes / 1e6:.1f} MB: {len(done.bodies)} bodies, {len(done.stages)} stages.")
    for release, why in sorted(done.kept.items()):
        printer.line(f"  {release} stays: {why}")
    for release in done.releases:
        printer.line(f"  {release} {'would lose' if dry_run else 'lost'} its body; its evidence stays")
    printer.data(done)
