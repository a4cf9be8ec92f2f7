"""The sweep before sealing: how the packed body is best run, measured, and put on record with what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modelyard.core.codec import decode, digest_record, encode, encode_pretty
from modelyard.core.machine import Machine, fingerprint
from modelyard.core.ports import Spawn
from modelyard.core.requirement import Requirement
from modelyard.core.sweep import SweepEvidence
from modelyard.evaluate.sweep import SweepPlan, sweep
from modelyard.evaluate.sweep_choice import allowed, choose
from modelyard.flow.contenders import TIMED_ROWS
from modelyard.flow.making import Making
from modelyard.release.pack import body_digest, json_rows


def swept(making: Making, body: Path) -> SweepEvidence:
    """Sweep a body once on this machine. What the spec decides of `serving` is put in the choice when it is served."""
    machine = fingerprint()
    serving, requirements = making.loaded.spec.serving, making.question.requirements
    deadline_ms = float(serving.deadline_ms)
    key = making.log.key("sweep", {
        "body": body_digest(body), "machine": digest_record(machine), "requirements": requirements,
        "deadline_ms": deadline_ms,
    })  # fmt: skip

    def fill(folder: Path) -> None:
        asked = folder / "rows.json"
        asked.write_bytes(encode(json_rows(making.contract, making.valid.take(slice(0, TIMED_ROWS)))))
        record = sweep_body(
            body, rows=asked, deadline_ms=deadline_ms, requirements=requirements, machine=machine,
            spawn=making.ports.spawn,
        )  # fmt: skip
        (folder / "sweep.json").write_bytes(encode_pretty(record))

    return decode((making.log.keep("sweep", key, fill) / "sweep.json").read_bytes(), SweepEvidence)


def sweep_body(
    body: Path,
    *,
    rows: Path | None,
    deadline_ms: float,
    requirements: Sequence[Requirement],
    machine: Machine,
    spawn: Spawn,
) -> SweepEvidence:
    """Sweep a body on this machine, whose fingerprint is `machine`.

    Args:
        rows: a JSON file with rows to ask; None asks the golden ones.
    Raises: EngineFailed where not even single rows could be measured.
    """
    plan = SweepPlan(
        body=str(body),
        rows=None if rows is None else str(rows),
        batch_ms=allowed(deadline_ms, requirements),
        cores=machine.cores,
        memory_mb=machine.memory_mb,
    )
    seen = sweep(plan, spawn)
    chosen = choose(seen.points, deadline_ms=deadline_ms, requirements=requirements, waits=seen.waits, cores=plan.cores)
    return SweepEvidence(
        machine=machine,
        deadline_ms=deadline_ms,
        limit_s=plan.limit_s,
        spent_s=seen.spent_s,
        load_s=seen.load_s,
        points=seen.points,
        waits=seen.waits,
        stopped=seen.stopped,
        chosen=chosen,
    )
