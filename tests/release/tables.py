"""The table and the candidates of a build, as the samples use them: Adult's columns, six candidates, 63 trials."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelyard.core.candidate import ParamValue, Scored, Trial, TrialState
from modelyard.core.contract import (
    Column,
    ColumnProfile,
    Contract,
    Histogram,
    Kind,
    Leak,
    Part,
    Prepared,
    Quarantined,
    Role,
)
from modelyard.core.metrics import Task
from modelyard.core.requirement import Observation, Slice

BOOTSTRAP = "percentile bootstrap, 1000 resamples"


def observation(
    metric: str,
    value: float | None,
    half: float = 0.0,
    *,
    samples: int = 16_281,
    unit: str = "share",
    method: str = BOOTSTRAP,
    slice: Slice | None = None,
    group: str | None = None,
) -> Observation:
    return Observation(
        metric=metric,
        value=value,
        low=None if value is None else value - half,
        high=None if value is None else value + half,
        confidence=0.95,
        samples=samples,
        unit=unit,
        method=method,
        slice=slice,
        group=group,
    )


# Adult: name, kind, missing share, distinct, (minimum, maximum) or the most frequent values with their counts.
_Range = tuple[float, float]
_Top = tuple[tuple[str, int], ...]
_ADULT: tuple[tuple[str, Kind, Role, float, int, _Range | _Top], ...] = (
    ("age", Kind.INTEGER, Role.FEATURE, 0.0, 73, (17, 90)),
    (
        "workclass",
        Kind.CATEGORY,
        Role.FEATURE,
        0.0564,
        8,
        (("Private", 14800), ("Self-emp-not-inc", 1660), ("Local-gov", 1370), ("State-gov", 850)),
    ),
    ("fnlwgt", Kind.INTEGER, Role.IGNORE, 0.0, 21648, (12285, 1484705)),
    (
        "education",
        Kind.CATEGORY,
        Role.FEATURE,
        0.0,
        16,
        (("HS-grad", 6850), ("Some-college", 4760), ("Bachelors", 3490), ("Masters", 1120)),
    ),
    ("education_num", Kind.INTEGER, Role.FEATURE, 0.0, 16, (1, 16)),
    (
        "marital_status",
        Kind.CATEGORY,
        Role.FEATURE,
        0.0,
        7,
        (("Married-civ-spouse", 9770), ("Never-married", 6970), ("Divorced", 2890)),
    ),
    (
        "occupation",
        Kind.CATEGORY,
        Role.FEATURE,
        0.0566,
        14,
        (("Prof-specialty", 2700), ("Craft-repair", 2670), ("Exec-managerial", 2650)),
    ),
    (
        "relationship",
        Kind.CATEGORY,
        Role.FEATURE,
        0.0,
        6,
        (("Husband", 8610), ("Not-in-family", 5410), ("Own-child", 3310)),
    ),
    ("race", Kind.CATEGORY, Role.AUDIT, 0.0, 5, (("White", 18_220), ("Black", 2_050), ("Asian-Pac-Islander", 680))),
    ("sex", Kind.CATEGORY, Role.AUDIT, 0.0, 2, (("Male", 14_270), ("Female", 7_062))),
    ("capital_gain", Kind.INTEGER, Role.FEATURE, 0.0, 119, (0, 99999)),
    ("capital_loss", Kind.INTEGER, Role.FEATURE, 0.0, 92, (0, 4356)),
    ("hours_per_week", Kind.INTEGER, Role.FEATURE, 0.0, 94, (1, 99)),
    (
        "native_country",
        Kind.CATEGORY,
        Role.FEATURE,
        0.0179,
        41,
        (("United-States", 19_090), ("Mexico", 640), ("Philippines", 200)),
    ),
    ("signup", Kind.DATETIME, Role.FEATURE, 0.0, 20_871, (1.577e15, 1.735e15)),
    ("income", Kind.CATEGORY, Role.TARGET, 0.0, 2, (("<=50K", 16_190), (">50K", 5_142))),
)


def prepared(
    task: Task = Task.BINARY, *, target: str = "income", classes: tuple[str, ...] = ("<=50K", ">50K")
) -> Prepared:
    columns, profile = [], []
    rng = np.random.default_rng(7)
    for name, kind, role, missing, distinct, known in _ADULT:
        if role is Role.TARGET and name != target:
            continue
        column, seen = _described(name, kind, role, missing, distinct, known, rng)
        columns.append(column)
        profile.append(seen)
    if target not in {c.name for c in columns}:
        kind = Kind.NUMBER if task is Task.REGRESSION else Kind.CATEGORY
        columns.append(Column(name=target, kind=kind, role=Role.TARGET, nullable=False, distinct=len(classes) or 869))
    return Prepared(
        contract=Contract(task=task, target=target, columns=tuple(columns), classes=classes),
        rows={Part.TRAIN: 21_332, Part.CALIBRATE: 3_256, Part.VALID: 7_973, Part.TEST: 16_281},
        rows_read=48_849,
        rows_quarantined=7,
        data_digest="c0ffee12" * 8,
        sources=("adult.csv", "adult-test.csv"),
        profile=tuple(profile),
        leaks=(
            Leak(
                rule="duplicate_rows",
                column=None,
                strength=0.0011,
                reason="18 rows of the test part stand in the training part too",
            ),
        ),
        quarantine_sample=(
            Quarantined(
                file="adult.csv",
                row=14_161,
                column=None,
                reason="15 fields, wanted 16",
                text="39,State-gov,77516,Bachelors,13",
            ),
            Quarantined(
                file="adult.csv",
                row=20_002,
                column="age",
                reason="`thirty` is not an integer",
                text="thirty,Private,1,…",
            ),
        ),
        split_method="test: its own file; train, calibrate and valid: stratified by income, seed 0",
        notes=("`fnlwgt` is a sampling weight and not used as a feature.",),
    )


def _described(
    name: str, kind: Kind, role: Role, missing: float, distinct: int, known: Any, rng: np.random.Generator
) -> tuple[Column, ColumnProfile]:
    if kind.is_string:
        column = Column(
            name=name,
            kind=kind,
            role=role,
            nullable=missing > 0,
            missing_share=missing,
            distinct=distinct,
            categories=tuple(v for v, _ in known),
            longest=20,
        )
        return column, ColumnProfile(column=name, missing_share=missing, distinct=distinct, top=known)
    low, high = known
    values = low + (high - low) * rng.beta(1.6, 4.0, 21_332)
    if name.startswith("capital"):
        values = np.where(rng.random(21_332) < 0.9, 0.0, values)
    counts, edges = np.histogram(values, bins=20, range=(low, high))
    column = Column(
        name=name,
        kind=kind,
        role=role,
        nullable=missing > 0,
        missing_share=missing,
        distinct=distinct,
        minimum=low,
        maximum=high,
    )
    return column, ColumnProfile(
        column=name,
        missing_share=missing,
        distinct=distinct,
        mean=float(values.mean()),
        deviation=float(values.std()),
        quantiles={q: float(np.quantile(values, float(q))) for q in ("0.05", "0.25", "0.5", "0.75", "0.95")},
        histogram=Histogram(edges=tuple(map(float, edges)), counts=tuple(map(int, counts))),
    )


def candidates(
    metric: str = "roc_auc", *, values: tuple[float, ...] = (0.9281, 0.9262, 0.9147, 0.9078, 0.5)
) -> tuple[Scored, ...]:
    rows: tuple[tuple[str, str, int, int, float, float, float, dict[str, ParamValue]], ...] = (
        (
            "lightgbm",
            "lightgbm",
            31,
            1,
            1.42,
            0.038,
            1.94,
            {"learning_rate": 0.0612, "num_leaves": 41, "min_child_samples": 37},
        ),
        ("boosted_small", "lightgbm", 14, 0, 0.61, 0.021, 0.31, {"learning_rate": 0.11, "num_leaves": 15}),
        ("random_forest", "random_forest", 9, 2, 4.87, 0.212, 48.2, {"max_depth": 18, "n_estimators": 300}),
        ("linear", "logistic_regression", 12, 0, 0.38, 0.017, 0.02, {"C": 0.72, "penalty": "l2"}),
        ("constant", "constant", 1, 0, 0.002, 0.009, 0.001, {}),
    )
    scored = []
    for i, ((name, algorithm, trials, failed, fit_s, p95, size_mb, params), value) in enumerate(
        zip(rows, values, strict=True)
    ):
        scale = abs(values[0]) or 1.0
        gap = observation(metric, value - values[0], 0.0016 * scale * (1 + i), samples=7_973, method="paired bootstrap")
        scored.append(
            Scored(
                candidate=name,
                algorithm=algorithm,
                trials=trials,
                failed=failed,
                params=params,
                objective=observation(metric, value, 0.0041 * scale, samples=7_973),
                gap=gap if i else None,
                fit_s=fit_s,
                latency_p95_ms=p95,
                size_mb=size_mb,
                chosen=i == 0,
                reason="best on validation rows among those that meet the requirements"
                if i == 0
                else "the chosen one scores better",
            )
        )
    failed_row = Scored(
        candidate="mine",
        algorithm="custom",
        trials=1,
        failed=1,
        params={},
        objective=None,
        reason="no trial finished: `mymodels:build` crashed",
    )
    return (*scored, failed_row)


def trials(*, best: float = 0.9281, spread: float = 0.02) -> tuple[Trial, ...]:
    rng = np.random.default_rng(3)
    names = ("lightgbm", "boosted_small", "random_forest", "linear")
    made = [
        Trial(number=0, candidate="constant", params={}, state=TrialState.DONE, value=best - 21 * spread, fit_s=0.002)
    ]
    for number in range(1, 62):
        name = names[int(rng.integers(0, 4))]
        state, reason, value = TrialState.DONE, "", None
        if number in (9, 33):
            state, reason = TrialState.OUT_OF_MEMORY, "used 2,148 MB of the 2,048 MB allowed"
        elif number == 40:
            state, reason = TrialState.TIMED_OUT, "still fitting after 20.0 s"
        else:
            value = best - abs(float(rng.normal(0, spread))) * (1 + names.index(name) / 2) * 8 / (8 + number)
        made.append(
            Trial(
                number=number,
                candidate=name,
                params={"seed": number},
                state=state,
                value=value,
                fit_s=1.1,
                reason=reason,
            )
        )
    made.append(
        Trial(
            number=62,
            candidate="mine",
            params={},
            state=TrialState.CRASHED,
            reason="ValueError: could not convert string to float: '?'",
        )
    )
    return tuple(made)
