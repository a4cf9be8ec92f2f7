"""From a spec to what a run of it will do and check."""

from __future__ import annotations

from modelyard.core.metrics import Task
from modelyard.flow.build import prepare
from modelyard.flow.ports import Ports
from modelyard.flow.projection import newest, rollout_lines
from modelyard.flow.stage import StageLog
from modelyard.flow.translate import check_against_data
from modelyard.plan.outline import Section, outline
from modelyard.spec.fallback import in_words
from modelyard.spec.load import LoadedSpec


def plan(loaded: LoadedSpec, ports: Ports) -> tuple[Section, ...]:
    """Return the plan of a build and of the rollout after it.

    The data is loaded, checked and split for it, and kept for the run. Raises: as `build` up to there; UsageError
    where the primary metric of an experiment cannot be compared while serving.
    """
    spec = loaded.spec
    prepared, _, _ = prepare(loaded, ports, StageLog(ports))
    check_against_data(loaded, prepared.contract)
    return outline(
        name=spec.name,
        objective=spec.objective_for(prepared.contract.task),
        prepared=prepared,
        plans=spec.plans(),
        budget=spec.budget.in_effect(),
        requirements=spec.requirement_records(),
        threshold=_threshold(loaded, prepared.contract.task),
        fallback=[in_words(one) for one in spec.serving.fallback],
        rollout=tuple(rollout_lines(spec, newest(ports.releases, spec.name))),
    )


def _threshold(loaded: LoadedSpec, task: Task) -> str:
    wanted = loaded.spec.threshold_in_effect()
    if task is not Task.BINARY:
        return "none: the most likely class is answered" if task is Task.MULTICLASS else "none: a number is answered"
    if wanted is None:
        return "0.5: no requirement bounds a metric of labels"
    if wanted.maximise is not None:
        return f"chosen on the validation rows: best {wanted.maximise} that keeps the requirements on labels"
    return (
        f"chosen on the validation rows: least cost, {wanted.false_positive_cost:g} a false positive and "
        f"{wanted.false_negative_cost:g} a false negative"
    )
