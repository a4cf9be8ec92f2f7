"""The drills as the report shows them: the newest of each kind, with what callers met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modelyard.core.drill import Drilled, DrillEvidence, last_of_each
from modelyard.core.evidence import Evidence
from modelyard.core.release import EvidenceRef


@dataclass(frozen=True, kw_only=True)
class DrillRow:
    """One kind of drill, as it was last rehearsed."""

    drilled: Drilled
    name: str
    record: DrillEvidence


@dataclass(frozen=True, kw_only=True)
class DrillsView:
    """What the page shows of drills. `machines` are those on which they ran, in words."""

    rows: tuple[DrillRow, ...]
    newest: DrillEvidence
    machines: tuple[str, ...]
    rates: tuple[float, ...]
    left_out: tuple[str, ...]


def view(evidence: Sequence[tuple[EvidenceRef, Evidence]]) -> DrillsView | None:
    """Return the newest drill of each kind on record; None where there is none. `evidence` is oldest first."""
    records = [e.payload for _, e in evidence if isinstance(e.payload, DrillEvidence)]
    found = last_of_each(records)
    if not found:
        return None
    rows = tuple(
        DrillRow(drilled=drilled, name=kind.replace("_", " "), record=record)
        for kind, (record, drilled) in found.items()
    )
    shown = [row.record for row in rows]
    cores = {f"{one.machine.processor}, {one.machine.cores} cores": None for one in shown}
    return DrillsView(
        rows=rows,
        newest=records[-1],
        machines=tuple(cores),
        rates=tuple(dict.fromkeys(one.rate for one in shown)),
        left_out=tuple(dict.fromkeys(name for one in shown for name in one.left_out)),
    )
