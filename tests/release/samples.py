"""Evidence as a real build would leave it, made from simulated scores: Adult-like, bike-like and penguin-like."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from msgspec.structs import replace

from modelyard.core.contract import Prepared
from modelyard.core.evidence import (
    BuildEvidence,
    Confusion,
    Evaluation,
    Evidence,
    FallbackEvidence,
    Lineage,
    Parity,
    ParityRow,
    PassedOver,
    Payload,
    SliceScore,
)
from modelyard.core.ids import ReleaseId
from modelyard.core.machine import Machine
from modelyard.core.metrics import Task
from modelyard.core.release import EvidenceRef, Release
from modelyard.core.requirement import (
    Direction,
    Estimator,
    Inference,
    Judgement,
    Observation,
    Requirement,
    Slice,
    Stage,
    Verdict,
)
from tests.release.simulated import (
    binary_scores,
    calibration,
    curve,
    histogram,
    latency_curve,
    rates,
    residual_lines,
    timing,
)
from tests.release.tables import candidates, observation, prepared, trials

BODY = "3f9c2a71" * 8
WILSON = "Wilson score interval"
SPEC = """\
name: income
goal: Say whether a person earns more than 50,000 dollars a year, to pick whom to invite to a study.
task: binary
data:
  source: adult.csv
  target: income
  audit: [sex, race]
requirements:
  - metric: roc_auc
    at_least: 0.92
  - metric: recall
    at_least: 0.6
    slice: sex=Female
  - metric: latency_p95_ms
    at_most: 5
candidates: [constant, linear, lightgbm, random_forest, neural]
budget: 60 s
fallback: {kind: constant, answer: "<=50K"}
"""


def release(name: str = "income", number: int = 1, *, headline: str = "roc_auc 0.9271 (0.9236 to 0.9305)") -> Release:
    return Release(
        id=ReleaseId(name=name, number=number),
        body=BODY,
        spec_digest="ab12" * 16,
        sealed="2026-11-20T14:03:27.000000Z",
        headline=headline,
        size_bytes=1_942_113,
    )


def recorded(payload: Payload, *, of: str = "income@1", kind: str = "build") -> tuple[EvidenceRef, Evidence]:
    moment = "2026-11-20T14:03:26.000000Z"
    return (
        EvidenceRef(kind=kind, digest="77e0" * 16, recorded=moment),
        Evidence(release=of, body=BODY, recorded=moment, payload=payload),
    )


def fallback(*, answered: bool = True) -> FallbackEvidence:
    return FallbackEvidence(
        kind="constant", answered=answered, seconds=0.0031, detail="answered `<=50K` to 8 golden requests"
    )


def requirement(
    metric: str,
    direction: Direction = Direction.AT_LEAST,
    bound: float | None = None,
    *,
    slice: Slice | None = None,
    group: str | None = None,
    margin: float | None = None,
    accept_inconclusive: bool = False,
) -> Requirement:
    return Requirement(
        id="-".join(part for part in (metric, str(slice or ""), group or "") if part),
        metric=metric,
        direction=direction,
        bound=bound,
        margin=margin,
        slice=slice,
        group=group,
        accept_inconclusive=accept_inconclusive,
        stages={
            Stage.BUILD: Estimator(measure=metric, population="test rows", inference=Inference.FIXED),
            Stage.LIVE: Estimator(measure=metric, population="labelled requests", inference=Inference.ALWAYS_VALID),
        },
    )


def not_yet(build: BuildEvidence) -> BuildEvidence:
    """Return a build with a requirement of which it could see nothing."""
    required = requirement("error_rate", Direction.AT_MOST, 0.01)
    one = PassedOver(requirement=required, reason="error_rate is counted while a release serves: not judged at build.")
    return replace(build, evaluation=replace(build.evaluation, passed_over=(one,)))


def judged(required: Requirement, seen: Observation) -> Judgement:
    """Judge as a sample needs it, by which side of the bound the interval lies on."""
    verdict, reason = Verdict.INCONCLUSIVE, "the interval holds the bound: more samples could decide"
    if seen.low is not None and seen.high is not None and required.bound is not None:
        above, below = seen.low >= required.bound, seen.high < required.bound
        good, bad = (above, below) if required.direction is Direction.AT_LEAST else (below, above)
        if good:
            verdict, reason = Verdict.PASS, f"the whole interval is on the right side of {required.bound:g}"
        elif bad:
            verdict, reason = Verdict.FAIL, f"the whole interval is on the wrong side of {required.bound:g}"
    return Judgement(requirement=required, verdict=verdict, reason=reason, observation=seen)


def machine() -> Machine:
    return Machine(
        processor="Intel(R) Xeon(R) Processor @ 2.60GHz",
        cores=2,
        memory_mb=8_220,
        system="Linux 6.1.0 x86_64",
        python="3.11.7",
        libraries={"numpy": "2.4.6", "onnxruntime": "1.31.1", "lightgbm": "4.7.0", "scikit-learn": "1.9.1"},
    )


def lineage() -> Lineage:
    return Lineage(
        spec_digest="ab12" * 16,
        data_digest="c0ffee12" * 8,
        code_version="0.1.0+4f1d2c9",
        run="run-5f3a9c0d1e2b",
        started="2026-11-20T14:01:41.000000Z",
        finished="2026-11-20T14:03:26.000000Z",
        machine=machine(),
        test_rows_seen_by=(
            "run-5f3a9c0d1e2b: evaluation of the packed bundle",
            "run-5f3a9c0d1e2b: parity, pipeline and bundle",
        ),
        stages={
            "data": "cached",
            "train": "built in 60.4 s",
            "pack": "built in 3.1 s",
            "measure": "built in 14.2 s",
        },
    )


def parity(*, passed: bool = True) -> tuple[Parity, ...]:
    good = Parity(
        between="pipeline and bundle",
        rows=16_281,
        largest_difference=3.1e-7,
        tolerance=1e-5,
        labels_changed=0,
        passed=True,
    )
    if passed:
        return (good,)
    worst = ParityRow(row=412, difference=3.2e-4, columns={"age": 39, "workclass": None, "capital_gain": 99999.0})
    bad = Parity(
        between="bundle and endpoint",
        rows=16_281,
        largest_difference=3.2e-4,
        tolerance=1e-5,
        labels_changed=2,
        passed=False,
        worst=(worst,),
    )
    return (good, bad)


def binary(**changes: Any) -> BuildEvidence:
    """Return the evidence of an Adult-like build; `changes` replace fields."""
    probs, labels = binary_scores()
    positive, called = labels == 1, probs >= 0.41
    alarms, recall, precision = rates(probs, positive)
    women = Slice(column="sex", value="Female")
    overall = (
        observation("roc_auc", 0.92712, 0.0034),
        observation("average_precision", 0.8291, 0.0091),
        observation("recall", 0.7433, 0.0139, samples=3_846, method=WILSON),
        observation("precision", 0.7021, 0.0137, samples=4_072, method=WILSON),
        observation("calibration_error", 0.0083, 0.0031),
        *timing(),
    )
    parity_gap = observation("demographic_parity_difference", 0.1812, 0.0112, group="sex")
    at_most = Direction.AT_MOST
    judgements = (
        judged(requirement("roc_auc", bound=0.92), overall[0]),
        judged(
            requirement("recall", bound=0.6, slice=women),
            observation("recall", 0.662, 0.038, samples=590, method=WILSON, slice=women),
        ),
        judged(requirement("precision", bound=0.70, accept_inconclusive=True), overall[3]),
        judged(requirement("demographic_parity_difference", at_most, 0.2, group="sex"), parity_gap),
        judged(requirement("latency_p95_ms", at_most, 5.0), overall[6]),
        judged(requirement("size_mb", at_most, 10.0), overall[10]),
    )
    evaluation = Evaluation(
        rows=16_281,
        observations=overall,
        judgements=judgements,
        slices=_slices(),
        fairness=(
            parity_gap,
            observation("equal_opportunity_difference", 0.0912, 0.0391, group="sex"),
            observation("demographic_parity_difference", 0.1391, 0.0272, group="race"),
        ),
        curves=(
            curve("roc", alarms, recall),
            curve("precision_recall", recall, precision),
            *calibration(probs, positive),
            latency_curve(),
        ),
        confusion=Confusion(
            classes=("<=50K", ">50K"),
            counts=tuple(tuple(int(((labels == t) & (called == p)).sum()) for p in (0, 1)) for t in (0, 1)),
        ),
        score_histogram=histogram(probs, 0.0, 1.0),
        importance=(
            ("capital_gain", 0.0462),
            ("relationship", 0.0311),
            ("age", 0.0248),
            ("education_num", 0.0223),
            ("occupation", 0.0121),
            ("hours_per_week", 0.0092),
            ("capital_loss", 0.0071),
            ("workclass", 0.0018),
            ("native_country", 0.0003),
            ("signup", -0.0001),
        ),
    )
    return _build(evaluation, prepared(), changes, threshold=0.41)


def _slices() -> tuple[SliceScore, ...]:
    rows = (
        ("sex", "Male", 10_860, 0.9113, 0.7602),
        ("sex", "Female", 5_421, 0.9421, 0.6620),
        ("race", "White", 13_946, 0.9255, 0.7451),
        ("race", "Black", 1_561, 0.9398, 0.6904),
        ("race", "Asian-Pac-Islander", 480, 0.9127, 0.7501),
        ("race", "Amer-Indian-Eskimo", 159, 0.921, 0.61),
    )
    made = []
    for column, value, size, auc, recall in rows:
        where = Slice(column=column, value=value)
        made.append(
            SliceScore(
                column=column,
                value=value,
                rows=size,
                observations=(
                    observation("roc_auc", auc, 0.35 / math.sqrt(size), samples=size, slice=where),
                    observation(
                        "accuracy", recall + 0.1, 0.6 / math.sqrt(size), samples=size, method=WILSON, slice=where
                    ),
                    observation(
                        "precision", recall - 0.04, 1.9 / math.sqrt(size), samples=size // 4, method=WILSON, slice=where
                    ),
                    observation("recall", recall, 1.7 / math.sqrt(size), samples=size // 5, method=WILSON, slice=where),
                ),
            )
        )
    other = observation(
        "roc_auc",
        None,
        slice=Slice(column="race", value="Other"),
        samples=3,
        method="3 rows of one class: it has no ranking",
    )
    made.append(SliceScore(column="race", value="Other", rows=3, observations=(other,)))
    return tuple(made)


def _build(
    evaluation: Evaluation, data: Prepared, changes: dict[str, Any], *, threshold: float | None
) -> BuildEvidence:
    values: dict[str, Any] = {
        "prepared": data,
        "candidates": candidates(),
        "trials": trials(),
        "budget": "60 s: 63 trials, 60.4 s spent",
        "chosen": "lightgbm",
        "threshold": threshold,
        "threshold_reason": "the highest precision on validation rows at which recall is at least 0.74"
        if threshold
        else "",
        "evaluation": evaluation,
        "parity": parity(),
        "lineage": lineage(),
    }
    return BuildEvidence(**{**values, **changes})


def regression(**changes: Any) -> BuildEvidence:
    """Return the evidence of a bike-sharing-like build."""
    rng = np.random.default_rng(5)
    actual = rng.gamma(1.1, 170, 400)
    predicted = np.maximum(0, actual + rng.normal(0, 12 + 0.11 * actual, 400))
    overall = (
        observation("r2", 0.9467, 0.0041, samples=3_476),
        observation("rmse", 41.83, 1.32, samples=3_476, unit="target"),
        observation("mae", 24.71, 0.93, samples=3_476, unit="target"),
        *timing(),
    )
    evaluation = Evaluation(
        rows=3_476,
        observations=overall,
        judgements=(
            judged(requirement("r2", bound=0.94), overall[0]),
            judged(requirement("rmse", Direction.AT_MOST, 40.0), overall[1]),
            judged(requirement("latency_p95_ms", Direction.AT_MOST, 5.0), overall[4]),
        ),
        slices=(),
        fairness=(),
        curves=(
            curve("predicted_actual", predicted, actual),
            curve("residuals", predicted, actual - predicted),
            *residual_lines(predicted, actual - predicted),
            latency_curve(),
        ),
        score_histogram=histogram(predicted, 0.0, float(predicted.max())),
        importance=(("hour", 0.71), ("temperature", 0.12), ("working_day", 0.093), ("humidity", 0.021)),
    )
    data = prepared(Task.REGRESSION, target="cnt", classes=())
    scored = candidates("r2", values=(0.9481, 0.9433, 0.9302, 0.3981, -0.0003))
    values = {"candidates": scored, "trials": trials(best=0.9481, spread=0.045), **changes}
    return _build(evaluation, data, values, threshold=None)


def multiclass(**changes: Any) -> BuildEvidence:
    """Return the evidence of a build with four classes, of which one is rare."""
    rng = np.random.default_rng(9)
    classes, shares = ("adelie", "chinstrap", "gentoo", "emperor"), (0.45, 0.3, 0.22, 0.03)
    labels = rng.choice(4, 1200, p=shares)
    logits = rng.normal(0, 1.3, (1200, 4)) + 3.2 * np.eye(4)[labels]
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    curves = [latency_curve()]
    for i, name in enumerate(classes):
        alarms, recall, precision = rates(probs[:, i], labels == i)
        curves += [
            curve("roc", alarms, recall, series=name),
            curve("precision_recall", recall, precision, series=name),
        ]
    answers = probs.argmax(1)
    confident = calibration(probs.max(1), answers == labels)
    overall = (
        observation("balanced_accuracy", 0.9021, 0.0212, samples=1200),
        observation("log_loss", 0.2713, 0.0181, samples=1200, unit="nats"),
        *timing(),
    )
    evaluation = Evaluation(
        rows=1200,
        observations=overall,
        judgements=(judged(requirement("balanced_accuracy", bound=0.89), overall[0]),),
        slices=(),
        fairness=(),
        curves=(*curves, *confident),
        confusion=Confusion(
            classes=classes,
            counts=tuple(tuple(int(((labels == t) & (answers == p)).sum()) for p in range(4)) for t in range(4)),
        ),
    )
    data = prepared(Task.MULTICLASS, target="species", classes=classes)
    return _build(evaluation, data, {"candidates": candidates("balanced_accuracy"), **changes}, threshold=None)
