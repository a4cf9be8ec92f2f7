"""The rows of the report's tables, each with its small chart: evidence in, what the template lays out out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from modelyard.core.candidate import Scored, Trial, TrialState
from modelyard.core.contract import Column, ColumnProfile, Part, Prepared
from modelyard.core.evidence import BuildEvidence
from modelyard.core.requirement import Direction, Judgement, Observation, Requirement, Stage, Verdict
from modelyard.release import numbers, words
from modelyard.release.axes import Axis, axis, finite, focus
from modelyard.release.strips import interval_bar, shares, spark

_FROM_ZERO = ("ms", "MB", "currency", "rows/s")  # units whose zero means nothing spent


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A row of the requirement table."""

    judgement: Judgement
    bar: Markup | None
    also: str  # at which later stages the same line is checked, and how


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A row of the candidate table."""

    scored: Scored
    bar: Markup | None
    verdict: Verdict | None  # over its requirements on validation rows
    verdict_line: str


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One metric of one slice."""

    observation: Observation
    bar: Markup | None


@dataclass(frozen=True, kw_only=True)
class SliceRow:
    """One slice: the value of its column, its rows, and a cell for each metric, None where it was not measured."""

    value: str
    rows: int
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True, kw_only=True)
class SliceTable:
    """The slices of one column."""

    column: str
    metrics: tuple[str, ...]
    rows: tuple[SliceRow, ...]


@dataclass(frozen=True, kw_only=True)
class ProfileRow:
    """A row of the data profile."""

    column: Column
    distinct: int
    missing: float
    chart: Markup | None
    summary: str


def gates(judgements: Sequence[Judgement], target: str) -> list[Gate]:
    """Return the requirement table, the ones not met first."""
    order = {Verdict.FAIL: 0, Verdict.INCONCLUSIVE: 1, Verdict.PASS: 2}
    ranked = sorted(judgements, key=lambda j: order[j.verdict])
    return [Gate(judgement=j, bar=_gate_bar(j, target), also=_also(j.requirement)) for j in ranked]


def _gate_bar(judgement: Judgement, target: str) -> Markup | None:
    seen, required = judgement.observation, judgement.requirement
    if seen.value is None:
        return None
    values = (seen.value, seen.low, seen.high, required.bound)
    zero = (0.0,) if seen.unit in _FROM_ZERO or required.group else ()
    title = f"{required.metric}: {words.measured(seen, target)}; wanted {words.bound(required)}"
    return _bar(
        seen,
        axis("", values, include=zero, pad=0.15),
        title,
        bound=required.bound,
        good_above=required.direction is Direction.AT_LEAST,
    )


def _bar(
    seen: Observation,
    scale: Axis,
    title: str,
    *,
    bound: float | None = None,
    good_above: bool = True,
    width: float = 150.0,
) -> Markup:
    drawn = interval_bar(
        seen.value, seen.low, seen.high, scale=scale, title=title, bound=bound, good_above=good_above, width=width
    )
    return Markup(drawn)  # made by our own charts, which escape what is foreign


def _also(required: Requirement) -> str:
    later = [
        f"{stage.value}: {estimator.measure} over {estimator.population}"
        for stage, estimator in sorted(required.stages.items())
        if stage is not Stage.BUILD
    ]
    return "; ".join(later)


def contenders(candidates: Sequence[Scored]) -> list[Contender]:
    """Return the candidate table in the order of the evidence, best first; the chosen leads, the unscored close."""
    values = [c.objective.value for c in candidates if c.objective]
    chosen = next((c.objective.value for c in candidates if c.chosen and c.objective), None)
    near = set(focus(values, chosen))
    ends: list[float | None] = []
    for c in candidates:
        if c.objective and c.objective.value in near:
            ends += [c.objective.value, c.objective.low, c.objective.high]
    scale = axis("", ends, pad=0.06)
    ranked = sorted(candidates, key=lambda c: (not c.chosen, c.objective is None))
    return [_contender(c, scale) for c in ranked]


def _contender(scored: Scored, scale: Axis) -> Contender:
    seen = scored.objective
    verdict, line = words.overall(scored.judgements) if scored.judgements else (None, "")
    bar = None
    if seen is not None and seen.value is not None:
        bar = _bar(seen, scale, f"{scored.candidate}: {seen.metric} {words.measured(seen)}", width=130)
    return Contender(scored=scored, bar=bar, verdict=verdict, verdict_line=line)


def slice_tables(build: BuildEvidence, objective: str) -> list[SliceTable]:
    """Return a table for each column that was sliced, the bars of a metric on one scale over all of them."""
    slices = build.evaluation.slices
    columns = list(dict.fromkeys(s.column for s in slices))
    overall = {o.metric: o.value for o in build.evaluation.observations if o.slice is None and o.group is None}
    seen = [o for s in slices for o in s.observations]
    metrics = sorted(dict.fromkeys(o.metric for o in seen), key=lambda m: m != objective)
    scales = {m: _scale([o for o in seen if o.metric == m], overall.get(m)) for m in metrics}
    tables = []
    for column in columns:
        mine = [s for s in slices if s.column == column]
        rows = []
        for s in mine:
            by_metric = {o.metric: o for o in s.observations}
            cells = [_cell(by_metric.get(m), scales[m], overall.get(m), f"{column}={s.value}") for m in metrics]
            rows.append(SliceRow(value=s.value, rows=s.rows, cells=tuple(cells)))
        rows.sort(key=lambda row: -row.rows)
        tables.append(SliceTable(column=column, metrics=tuple(metrics), rows=tuple(rows)))
    return tables


def _scale(observations: Iterable[Observation], overall: float | None = None) -> Axis:
    ends: list[float | None] = [overall]
    for o in observations:
        ends += [o.value, o.low, o.high]
    return axis("", ends, pad=0.06)


def _cell(seen: Observation | None, scale: Axis, overall: float | None, name: str) -> Cell | None:
    if seen is None:
        return None
    if seen.value is None:
        return Cell(observation=seen, bar=None)
    drawn = interval_bar(
        seen.value,
        seen.low,
        seen.high,
        scale=scale,
        title=f"{name}: {seen.metric} {words.measured(seen)}; the line is all rows",
        guide=overall,
        width=110,
    )
    return Cell(observation=seen, bar=Markup(drawn))


def fairness_rows(build: BuildEvidence) -> list[Cell]:
    """Return the fairness table; its bars begin at zero, no gap at all."""
    seen = build.evaluation.fairness
    scale = axis("", [v for o in seen for v in (o.value, o.low, o.high)], include=(0.0,))
    return [
        Cell(observation=o, bar=None if o.value is None else _bar(o, scale, f"{o.metric}: {words.measured(o)}"))
        for o in seen
    ]


def profile_rows(prepared: Prepared) -> list[ProfileRow]:
    """Return the data profile in the table's own order of columns."""
    seen = {p.column: p for p in prepared.profile}
    rows = prepared.rows.get(Part.TRAIN, 0)
    return [_profile(column, seen.get(column.name), rows) for column in prepared.contract.columns]


def _profile(column: Column, seen: ColumnProfile | None, rows: int) -> ProfileRow:
    chart = None
    if seen and seen.histogram and len(seen.histogram.counts) > 1 and len(finite(seen.histogram.edges)) > 1:
        title = f"{column.name}: distribution in the training part"
        chart = Markup(spark(seen.histogram.edges, seen.histogram.counts, title=title))
    return ProfileRow(
        column=column,
        distinct=seen.distinct if seen else column.distinct,
        missing=seen.missing_share if seen else column.missing_share,
        chart=chart,
        summary=_summary(column, seen, rows),
    )


def _summary(column: Column, seen: ColumnProfile | None, rows: int) -> str:
    if seen and seen.top and not column.kind.is_numeric:
        shown = [
            f"{words.shorten(value, 24)} {numbers.share(min(1.0, n / rows)) if rows else n}"
            for value, n in seen.top[:3]
        ]
        return " · ".join(shown)
    if column.minimum is None or column.maximum is None:
        return ""
    ends = f"{words.extent(column, column.minimum)} to {words.extent(column, column.maximum)}"
    middle = seen.quantiles.get("0.5") if seen else None
    return ends if middle is None else f"{ends}, median {words.extent(column, middle)}"


def split_chart(prepared: Prepared) -> Markup | None:
    """Return one bar cut into the parts of the table."""
    parts = [(part.value, prepared.rows[part]) for part in Part if prepared.rows.get(part)]
    return Markup(shares(parts, title="Rows by part: " + ", ".join(f"{n} {r}" for n, r in parts))) if parts else None


def failed_trials(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that did not end well, in order."""
    return [t for t in trials if t.state is not TrialState.DONE]
