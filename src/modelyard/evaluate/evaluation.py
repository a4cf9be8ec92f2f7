"""The one look at the test rows: everything the report, the card and the gate read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from modelyard.bundle.open import Answers, Bundle
from modelyard.core.arrays import Columns
from modelyard.core.contract import Contract, Histogram
from modelyard.core.evidence import Confusion, Curve, Evaluation, PassedOver
from modelyard.core.metrics import METRICS, Needs, Task
from modelyard.core.requirement import Judgement, Observation, Requirement, Stage, Verdict
from modelyard.errors import RequirementInconclusive, RequirementNotMet
from modelyard.evaluate.importance import importance
from modelyard.evaluate.outcomes import outcome_of
from modelyard.evaluate.slices import fairness, observe_requirement, sliced
from modelyard.evaluate.timing import Timings, observe_timings
from modelyard.measure import curves
from modelyard.measure.intervals import observe_all
from modelyard.measure.judge import judge
from modelyard.measure.outcome import Outcome
from modelyard.measure.scores import score

CONFIDENCE = 0.95
MOST_CURVES = 10  # classes that get a curve of their own
LATENCY_POINTS = 200


@dataclass(frozen=True, kw_only=True)
class Question:
    """What to measure, besides the rows."""

    contract: Contract
    requirements: Sequence[Requirement]
    objective: str
    price_per_cpu_hour: float
    seed: int


def evaluate(
    question: Question, bundle: Bundle, *, test: Columns, answers: Answers, valid: Columns, timings: Timings
) -> Evaluation:
    """Return all that is measured of a packed bundle.

    `answers` are the bundle's to the test rows; `valid` rows serve the importance of columns, which
    needs many looks.
    """
    contract = question.contract
    rng = np.random.default_rng(question.seed)
    outcome = outcome_of(contract, test, answers)
    quality = [m.name for m in METRICS.values() if m.is_quality and contract.task in m.tasks]
    observations = [
        *observe_all(quality, outcome, confidence=CONFIDENCE, rng=rng),
        *observe_timings(timings, confidence=CONFIDENCE, price_per_cpu_hour=question.price_per_cpu_hour),
    ]
    return Evaluation(
        rows=len(test),
        observations=tuple(observations),
        judgements=judged(question, test, answers, timings, rng=rng),
        passed_over=passed_over(question.requirements),
        slices=sliced(
            contract, test, answers,
            requirements=question.requirements, objective=question.objective, confidence=CONFIDENCE, rng=rng,
        ),
        fairness=fairness(contract, test, answers, confidence=CONFIDENCE, rng=rng),
        curves=(*_curves(contract, outcome), _latency_curve(timings)),
        confusion=_confusion(contract, outcome),
        score_histogram=_histogram(outcome),
        importance=importance(bundle, valid, objective_of(question), rng=rng),
    )  # fmt: skip


def objective_of(question: Question) -> Callable[[Answers, Columns], float | None]:
    """Return the objective as a function of answers and rows, better when higher."""
    sign = 1.0 if METRICS[question.objective].higher_is_better else -1.0

    def value(answers: Answers, columns: Columns) -> float | None:
        found = score(question.objective, outcome_of(question.contract, columns, answers))
        return None if found is None else sign * found

    return value


def judged(
    question: Question, columns: Columns, answers: Answers, timings: Timings, *, rng: np.random.Generator
) -> tuple[Judgement, ...]:
    """Return the verdict of every requirement that is checked at build; a margin beside a bound is passed over."""
    timed: dict[float, Mapping[str, Observation]] = {}
    found = []
    for requirement in question.requirements:
        if Stage.BUILD not in requirement.stages:
            continue
        if METRICS[requirement.metric].needs in (Needs.TIMING, Needs.BODY):
            at = requirement.confidence
            if at not in timed:
                seen = observe_timings(timings, confidence=at, price_per_cpu_hour=question.price_per_cpu_hour)
                timed[at] = {observation.metric: observation for observation in seen}
            observation = timed[at][requirement.metric]
        else:
            observation = observe_requirement(requirement, question.contract, columns, answers, rng=rng)
        found.append(_bound_judged(requirement, observation))
    return tuple(found)


def _bound_judged(requirement: Requirement, observation: Observation) -> Judgement:
    """Return the verdict of the bound; a build has no release to hold a margin against, and says so."""
    if requirement.margin is None or requirement.bound is None:
        return judge(requirement, observation)
    found = judge(replace(requirement, margin=None), observation)
    later = requirement.stages.get(Stage.ROLLOUT)
    is_served = later is not None and later.population != requirement.stages[Stage.BUILD].population
    told = (
        f"Its margin of {requirement.margin:g} against the stable release has nothing to compare with at build; "
        f"{'it is judged at rollout' if is_served else 'what serves has nothing of the kind either'}."
    )
    return replace(found, requirement=requirement, reason=f"{found.reason} {told}")


def passed_over(requirements: Sequence[Requirement]) -> tuple[PassedOver, ...]:
    """Return the requirements of which a build can see nothing, each with the reason; none of them was judged."""
    return tuple(
        PassedOver(requirement=one, reason=_why_not_yet(one)) for one in requirements if Stage.BUILD not in one.stages
    )


def _why_not_yet(requirement: Requirement) -> str:
    later = " and ".join(f"at {stage.value}" for stage in requirement.stages)
    if METRICS[requirement.metric].needs is Needs.SERVICE:
        why = f"{requirement.metric} is counted while a release serves"
    else:
        why = f"{requirement.metric} has a margin against the stable release and no bound of its own"
    return f"{why}: not judged at build, neither met nor broken; judged {later}."


def require(judgements: Sequence[Judgement], *, where: str) -> None:
    """Raise RequirementNotMet or RequirementInconclusive unless every requirement lets the release pass."""
    failed = [judgement for judgement in judgements if judgement.verdict is Verdict.FAIL]
    if failed:
        raise RequirementNotMet(f"{where}: {_count(failed)} not met.", [judgement.reason for judgement in failed])
    held = [
        judgement
        for judgement in judgements
        if judgement.verdict is Verdict.INCONCLUSIVE and not judgement.requirement.accept_inconclusive
    ]
    if held:
        raise RequirementInconclusive(
            f"{where}: {_count(held)} inconclusive, and inconclusive does not pass. More test rows, or "
            "`accept_inconclusive: true` on the requirement.",
            [judgement.reason for judgement in held],
        )


def _count(judgements: Sequence[Judgement]) -> str:
    return f"{len(judgements)} requirement{' is' if len(judgements) == 1 else 's are'}"


def _curves(contract: Contract, outcome: Outcome) -> tuple[Curve, ...]:
    if contract.task is Task.REGRESSION:
        return (*curves.residual_curves(outcome), curves.predicted_actual_curve(outcome))
    ranked = (*curves.roc_curves(outcome, contract.classes), *curves.precision_recall_curves(outcome, contract.classes))
    shown = contract.classes[:MOST_CURVES]
    return (*(curve for curve in ranked if curve.series in ("", *shown)), *curves.calibration_curves(outcome))


def _confusion(contract: Contract, outcome: Outcome) -> Confusion | None:
    return None if contract.task is Task.REGRESSION else curves.confusion(outcome, contract.classes)


def _histogram(outcome: Outcome) -> Histogram | None:
    if outcome.values is not None:
        return curves.histogram(outcome.values)
    if outcome.probabilities is None:
        return None
    shown = outcome.probabilities[:, 1] if outcome.is_binary else outcome.probabilities.max(axis=1)
    return curves.histogram(shown)


def _latency_curve(timings: Timings) -> Curve:
    """Return the share of single-row calls (y) that took at most x milliseconds."""
    ordered = np.sort(np.array(timings.single_ms))
    share = np.linspace(0, 1, LATENCY_POINTS)
    return Curve(name="latency", series="", x=tuple(np.quantile(ordered, share).tolist()), y=tuple(share.tolist()))
