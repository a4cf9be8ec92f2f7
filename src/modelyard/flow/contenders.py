"""Each candidate's best trial, packed as it would be sealed, and measured on the validation rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from modelyard.bundle.open import Answers, open_bundle
from modelyard.core.arrays import Columns
from modelyard.core.candidate import TrialState
from modelyard.core.codec import decode, digest_file, encode
from modelyard.core.contract import Contract, Part, Prepared
from modelyard.core.encoding import Head
from modelyard.core.metrics import Task
from modelyard.core.space import Plan
from modelyard.evaluate.choose import Contender
from modelyard.evaluate.timing import TimingJob, Timings
from modelyard.flow.ports import Ports
from modelyard.flow.stage import StageLog
from modelyard.flow.translate import threshold_of
from modelyard.release.pack import Parts, json_rows, pack
from modelyard.spec.load import LoadedSpec
from modelyard.train.features import FeatureSet
from modelyard.train.search import Tried

TIMED_ROWS = 500
BODY = "body"  # in the folder of the stage, which has a manifest of its own


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A candidate's best trial with its body."""

    plan: Plan
    tried: Tried
    trials: int
    failed: int
    head: Head
    threshold_reason: str
    body: Path
    timings: Timings
    valid: Columns
    task: Task

    @property
    def threshold(self) -> float | None:
        return self.head.threshold

    def contender(self, ports: Ports) -> Contender:
        """Return what the choice looks at; the bundle answers the validation rows."""
        return Contender(
            candidate=self.plan.name,
            algorithm=self.plan.algorithm,
            params={**self.tried.trial.params, **self.tried.trial.facts},
            trials=self.trials,
            failed=self.failed,
            fit_s=self.tried.trial.fit_s,
            answers=answer(self.body, self.valid, ports),
            timings=self.timings,
        )


def contenders_of(
    loaded: LoadedSpec, prepared: Prepared, features: FeatureSet, tried: Sequence[Tried], valid: Columns, ports: Ports,
    log: StageLog,
) -> dict[str, Packed]:  # fmt: skip
    """Return the contenders by candidate; a candidate without a trial that worked has none."""
    packed: dict[str, Packed] = {}
    plans = {plan.name: plan for plan in loaded.spec.plans()}
    for name, plan in plans.items():
        own = [one for one in tried if one.trial.candidate == name]
        done = [one for one in own if one.trial.value is not None]
        if done:
            best = max(done, key=lambda one: (one.trial.value, -one.trial.number))
            failed = sum(one.trial.state is not TrialState.DONE for one in own)
            packed[name] = _pack(loaded, prepared, features, plan, best, (len(own), failed), valid, ports, log)
    return packed


def _pack(
    loaded: LoadedSpec, prepared: Prepared, features: FeatureSet, plan: Plan, best: Tried, counts: tuple[int, int],
    valid: Columns, ports: Ports, log: StageLog,
) -> Packed:  # fmt: skip
    spec = loaded.spec
    head, reason = best.head(), "0.5, as the spec asks for no other"
    if prepared.contract.task is Task.BINARY:
        weight = features.weight(Part.VALID)
        choice = threshold_of(
            spec, best.answers(), np.load(features.target(Part.VALID)), None if weight is None else np.load(weight),
            judged_rows=prepared.rows[Part.TEST],
        )  # fmt: skip
        head = replace(head, threshold=0.5 if choice is None else choice.threshold)
        reason = reason if choice is None else choice.reason
    key = log.key("body", {
        "model": digest_file(best.folder / "model.onnx"), "head": head, "contract": prepared.contract,
        "steps": features.steps, "encoding": features.encodings[plan.encoding], "plan": plan,
        "params": best.trial.params, "facts": best.trial.facts, "spec": loaded.text, "data": prepared.data_digest,
    })  # fmt: skip

    def fill(folder: Path) -> None:
        (folder / BODY).mkdir()
        pack(_parts(loaded, prepared, features, plan, best, head, valid, ports), folder / BODY, ports.loader)

    body = log.keep("packing", key, fill) / BODY
    return Packed(
        plan=plan, tried=best, trials=counts[0], failed=counts[1], head=head, threshold_reason=reason, body=body,
        timings=timed(body, prepared.contract, valid, ports, log, name="timing", single_s=0.5, batch_s=0.3),
        valid=valid, task=prepared.contract.task,
    )  # fmt: skip


def _parts(
    loaded: LoadedSpec, prepared: Prepared, features: FeatureSet, plan: Plan, best: Tried, head: Head, valid: Columns,
    ports: Ports,
) -> Parts:  # fmt: skip
    spec = loaded.spec
    graph = ports.graphs.whole(
        features.encodings[plan.encoding], features.widths, (best.folder / "model.onnx").read_bytes(), head
    )
    return Parts(
        name=spec.name,
        contract=prepared.contract,
        preprocess=features.steps,
        graph=graph,
        threshold=head.threshold,
        candidate=plan.name,
        algorithm=plan.algorithm,
        params={**best.trial.params, **best.trial.facts},
        seed=spec.seed,
        spec_text=loaded.text,
        spec_digest=loaded.digest,
        data_digest=prepared.data_digest,
        code_version=ports.code_version,
        libraries=ports.environment,
        unknown_category=spec.serving.unknown_category.value,
        fallback=[one.model_dump(mode="json", exclude_none=True) for one in spec.serving.fallback],
        golden=valid,
    )


def timed(
    body: Path, contract: Contract, rows: Columns, ports: Ports, log: StageLog, *, name: str, single_s: float,
    batch_s: float,
) -> Timings:  # fmt: skip
    """Time a body in a process of its own, once."""
    key = log.key("timing", {"body": digest_file(body / "manifest.json"), "single_s": single_s, "batch_s": batch_s})

    def fill(folder: Path) -> None:
        asked = folder / "rows.json"
        asked.write_bytes(encode(json_rows(contract, rows.take(slice(0, TIMED_ROWS)))))
        job = TimingJob(body=str(body), rows=str(asked), single_s=single_s, batch_s=batch_s)
        with ports.spawn("timing") as process:
            out, _ = process.communicate(encode(job))
        (folder / "timings.json").write_bytes(out)
        decode(out, Timings)  # what cannot be read is not kept

    return decode((log.keep(name, key, fill) / "timings.json").read_bytes(), Timings)


def answer(body: Path, columns: Columns, ports: Ports) -> Answers:
    """Answer columns with a body, opened for this."""
    bundle = open_bundle(body, ports.loader)
    try:
        return bundle.answer(columns)
    finally:
        bundle.close()
