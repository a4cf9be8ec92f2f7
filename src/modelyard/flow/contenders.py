"""Each candidate's best trial, packed as it would be sealed, and measured on the validation rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from modelyard.bundle.format import WEIGHTS
from modelyard.bundle.open import Answers, open_bundle
from modelyard.core.arrays import Columns
from modelyard.core.candidate import Scored, TrialState
from modelyard.core.codec import decode, digest_file, encode
from modelyard.core.contract import Part
from modelyard.core.encoding import Head
from modelyard.core.metrics import Task
from modelyard.core.space import Plan
from modelyard.errors import EngineFailed
from modelyard.evaluate.choose import Contender
from modelyard.evaluate.timing import TimingJob, Timings
from modelyard.flow.making import Making
from modelyard.flow.ports import Ports
from modelyard.flow.translate import threshold_of
from modelyard.release.pack import Parts, body_digest, json_rows, pack
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


def contenders_of(making: Making, tried: Sequence[Tried]) -> dict[str, Packed]:
    """Return the contenders by candidate; a candidate without a trial that worked has none."""
    packed: dict[str, Packed] = {}
    plans = making.loaded.spec.plans()
    making.ports.progress.stage("pack and time the best trial of each", total=float(len(plans)))
    for done, plan in enumerate(plans, start=1):
        own = [one for one in tried if one.trial.candidate == plan.name]
        worked = [one for one in own if one.trial.value is not None]
        if worked:
            best = max(worked, key=lambda one: (one.trial.value, -one.trial.number))
            failed = sum(one.trial.state is not TrialState.DONE for one in own)
            packed[plan.name] = _packed(making, plan, best, trials=len(own), failed=failed)
        making.ports.progress.advance(float(done), plan.name)
    return packed


def failed_rows(making: Making, tried: Sequence[Tried]) -> tuple[Scored, ...]:
    """Return a row for each candidate without a trial that worked, with the reason."""
    rows = []
    for plan in making.loaded.spec.plans():
        own = [one.trial for one in tried if one.trial.candidate == plan.name]
        if not own:
            reason = "not tried: the budget was spent before its turn"
            rows.append(
                Scored(candidate=plan.name, algorithm=plan.algorithm, trials=0, failed=0, params={}, objective=None,
                       reason=reason)
            )  # fmt: skip
        elif all(trial.value is None for trial in own):
            reason = f"{own[0].state.replace('_', ' ')}: {own[0].reason}"
            rows.append(
                Scored(
                    candidate=plan.name, algorithm=plan.algorithm, trials=len(own), failed=len(own),
                    params=own[0].params, objective=None, fit_s=own[0].fit_s, reason=reason,
                )
            )  # fmt: skip
    return tuple(rows)


def _packed(making: Making, plan: Plan, best: Tried, *, trials: int, failed: int) -> Packed:
    head, reason = _with_threshold(making, best)
    features = making.features
    key = making.log.key("body", {
        "model": digest_file(best.folder / "model.onnx"), "head": head, "contract": making.contract,
        "steps": features.steps, "encoding": features.encodings[plan.encoding], "plan": plan,
        "params": best.trial.params, "facts": best.trial.facts, "spec": making.loaded.text,
        "data": making.prepared.data_digest,
    })  # fmt: skip

    def fill(folder: Path) -> None:
        (folder / BODY).mkdir()
        pack(_parts(making, plan, best, head), folder / BODY, making.ports.loader)

    body = making.log.keep("packing", key, fill) / BODY
    return Packed(
        plan=plan,
        tried=best,
        trials=trials,
        failed=failed,
        head=head,
        threshold_reason=reason,
        body=body,
        timings=timed(making, body, name="timing", single_s=0.5, batch_s=0.3),
        valid=making.valid,
        task=making.contract.task,
    )


def _with_threshold(making: Making, best: Tried) -> tuple[Head, str]:
    """Return the head with the threshold that the validation rows speak for, and the reason."""
    head = best.head()
    if making.contract.task is not Task.BINARY:
        return head, "the most likely class" if making.contract.classes else "a number has no threshold"
    target, weight = making.features.target(Part.VALID), making.features.weight(Part.VALID)
    choice = threshold_of(
        making.loaded.spec,
        best.answers(),
        np.load(target),
        None if weight is None else np.load(weight),
        judged_rows=making.prepared.rows[Part.TEST],
    )
    if choice is None:
        return replace(head, threshold=0.5), "0.5: no requirement bounds a metric of labels"
    return replace(head, threshold=choice.threshold), choice.reason


def _parts(making: Making, plan: Plan, best: Tried, head: Head) -> Parts:
    spec, features = making.loaded.spec, making.features
    estimator = (best.folder / "model.onnx").read_bytes()
    graphs = making.ports.graphs
    graph, weights = graphs.split(
        graphs.whole(features.encodings[plan.encoding], features.widths, estimator, head), WEIGHTS
    )
    return Parts(
        name=spec.name,
        contract=making.contract,
        preprocess=features.steps,
        graph=graph,
        weights=weights,
        threshold=head.threshold,
        candidate=plan.name,
        algorithm=plan.algorithm,
        params={**best.trial.params, **best.trial.facts},
        seed=spec.seed,
        spec_text=making.loaded.text,
        spec_canonical=spec.canonical(),
        spec_digest=making.loaded.digest,
        data_digest=making.prepared.data_digest,
        code_version=making.ports.code_version,
        libraries=making.ports.environment,
        unknown_category=spec.serving.unknown_category.value,
        fallback=[one.model_dump(mode="json", exclude_none=True) for one in spec.serving.fallback],
        golden=making.valid,
    )


def timed(making: Making, body: Path, *, name: str, single_s: float, batch_s: float) -> Timings:
    """Time a body in a process of its own, once."""
    key = making.log.key("timing", {"body": body_digest(body), "single_s": single_s, "batch_s": batch_s})

    def fill(folder: Path) -> None:
        asked = folder / "rows.json"
        asked.write_bytes(encode(json_rows(making.contract, making.valid.take(slice(0, TIMED_ROWS)))))
        job = TimingJob(body=str(body), rows=str(asked), single_s=single_s, batch_s=batch_s)
        with making.ports.spawn("timing") as process:
            try:
                out, _ = process.communicate(encode(job))
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            raise EngineFailed(f"The process that times a bundle ended with status {process.returncode}.")
        (folder / "timings.json").write_bytes(out)

    return decode((making.log.keep(name, key, fill) / "timings.json").read_bytes(), Timings)


def answer(body: Path, columns: Columns, ports: Ports) -> Answers:
    """Answer columns with a body, opened for this."""
    bundle = open_bundle(body, ports.loader)
    try:
        return bundle.answer(columns)
    finally:
        bundle.close()
