"""What changed from one release to another: spec, data, contract, model, numbers with intervals, libraries."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from modelyard.core.contract import Column, Contract
from modelyard.core.evidence import BuildEvidence
from modelyard.core.metrics import METRICS
from modelyard.core.release import Release
from modelyard.core.requirement import Observation
from modelyard.release import numbers, words


@dataclass(frozen=True, kw_only=True)
class ReleaseView:
    """What a comparison needs of a release: its row, its last build and its spec."""

    release: Release
    build: BuildEvidence
    spec_text: str


class Shift(StrEnum):
    """How a number moved. Intervals that do not overlap are told apart, others are not."""

    BETTER = "better"
    WORSE = "worse"
    DIFFERENT = "different"  # beyond the intervals, of a metric that has no known direction
    WITHIN = "within the intervals"  # the intervals overlap: these rows cannot tell the two apart
    SAME = "same"
    UNKNOWN = "unknown"  # one of them was not measured, or has no interval


_BEYOND = (Shift.BETTER, Shift.WORSE, Shift.DIFFERENT)


class Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that differs: its name and both sides in words, None where it is absent."""

    name: str
    before: str | None
    after: str | None


class MetricChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One metric of both releases, on all rows, a slice or between groups."""

    metric: str
    population: str
    before: Observation | None
    after: Observation | None
    difference: float | None
    shift: Shift


class DiffReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that differs between two releases; a metric is listed even where it stayed."""

    before: str
    after: str
    same_body: bool
    same_test_rows: bool  # the same data and split, so that the numbers are of the same rows
    spec_lines: tuple[str, ...]  # a unified diff without its head
    data: tuple[Change, ...]
    columns: tuple[Change, ...]
    model: tuple[Change, ...]  # chosen candidate, algorithm, parameters, threshold
    verdicts: tuple[Change, ...]
    metrics: tuple[MetricChange, ...]
    body: tuple[Change, ...]  # size, machine
    libraries: tuple[Change, ...]

    @property
    def text(self) -> str:
        """The differences in lines for people."""
        return "\n".join(_lines(self)) + "\n"


def diff(a: ReleaseView, b: ReleaseView) -> DiffReport:
    """Return what changed from `a` to `b`."""
    one, two = a.build.prepared, b.build.prepared
    return DiffReport(
        before=str(a.release.id),
        after=str(b.release.id),
        same_body=a.release.body == b.release.body,
        same_test_rows=(one.data_digest, one.split_method, one.rows) == (two.data_digest, two.split_method, two.rows),
        spec_lines=_spec_lines(a, b),
        data=_changes(_data_facts(a), _data_facts(b)),
        columns=_changes(_column_facts(one.contract), _column_facts(two.contract)),
        model=_changes(_model_facts(a.build), _model_facts(b.build)),
        verdicts=_changes(_verdicts(a.build), _verdicts(b.build)),
        metrics=_metrics(a.build, b.build),
        body=_changes(_body_facts(a), _body_facts(b)),
        libraries=_changes(_libraries(a.build), _libraries(b.build)),
    )


def shift(before: Observation | None, after: Observation | None) -> Shift:
    """Say whether two observations of one metric differ beyond their intervals.

    Two intervals that do not overlap differ; the rule is careful, so a real difference smaller than both
    intervals is called within the intervals.
    """
    if before is None or after is None or before.value is None or after.value is None:
        return Shift.UNKNOWN
    if None in (before.low, before.high, after.low, after.high):
        return Shift.UNKNOWN
    if (before.value, before.low, before.high) == (after.value, after.low, after.high):
        return Shift.SAME
    apart = _below(before.high, after.low) or _below(after.high, before.low)
    if not apart:
        return Shift.WITHIN
    known = METRICS.get(after.metric)
    if known is None:
        return Shift.DIFFERENT
    return Shift.BETTER if (after.value > before.value) == known.higher_is_better else Shift.WORSE


def _below(high: float | None, low: float | None) -> bool:
    return high is not None and low is not None and high < low


def _spec_lines(a: ReleaseView, b: ReleaseView) -> tuple[str, ...]:
    found = difflib.unified_diff(a.spec_text.splitlines(), b.spec_text.splitlines(), n=1, lineterm="")
    return tuple(words.clean(line) for line in found)[2:]


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Change, ...]:
    names = [*before, *(name for name in after if name not in before)]
    return tuple(
        Change(name=name, before=before.get(name), after=after.get(name))
        for name in names
        if before.get(name) != after.get(name)
    )


def _data_facts(view: ReleaseView) -> dict[str, str]:
    data = view.build.prepared
    facts = {
        "digest": data.data_digest,
        "sources": ", ".join(data.sources),
        "rows read": numbers.count(data.rows_read),
        "rows quarantined": numbers.count(data.rows_quarantined),
        "split": data.split_method,
    }
    return facts | {f"{part.value} rows": numbers.count(rows) for part, rows in sorted(data.rows.items())}


def _column_facts(contract: Contract) -> dict[str, str]:
    return {column.name: _column(column) for column in contract.columns}


def _column(column: Column) -> str:
    parts = [column.role.value, column.kind.value]
    if column.minimum is not None and column.maximum is not None:
        parts.append(f"{words.extent(column, column.minimum)} to {words.extent(column, column.maximum)}")
    if column.categories:
        parts.append(f"{numbers.counted(column.distinct, 'category', 'categories')}")
    parts.append(f"missing {numbers.share(column.missing_share)}" if column.nullable else "never missing")
    return ", ".join(parts)


def _model_facts(build: BuildEvidence) -> dict[str, str]:
    facts = {"candidate": build.chosen}
    chosen = next((c for c in build.candidates if c.chosen), None)
    if chosen is not None:
        facts["algorithm"] = chosen.algorithm
        facts |= {name: numbers.plain(value) for name, value in sorted(chosen.params.items())}
    if build.threshold is not None:
        facts["threshold"] = numbers.plain(build.threshold)
    return facts


def _verdicts(build: BuildEvidence) -> dict[str, str]:
    judged = {words.requirement(j.requirement): j.verdict.value for j in build.evaluation.judgements}
    return judged | {words.requirement(one.requirement): "not judged at build" for one in build.evaluation.passed_over}


def _body_facts(view: ReleaseView) -> dict[str, str]:
    machine = view.build.lineage.machine
    return {
        "size": numbers.size(view.release.size_bytes),
        "code": view.build.lineage.code_version,
        "machine": f"{machine.processor}, {numbers.counted(machine.cores, 'core')}",
    }


def _libraries(build: BuildEvidence) -> dict[str, str]:
    machine = build.lineage.machine
    return {"python": machine.python, **dict(sorted(machine.libraries.items()))}


def _metrics(a: BuildEvidence, b: BuildEvidence) -> tuple[MetricChange, ...]:
    before, after = _observations(a), _observations(b)
    keys = [*before, *(key for key in after if key not in before)]
    return tuple(_metric_change(key, before.get(key), after.get(key)) for key in keys)


def _observations(build: BuildEvidence) -> dict[tuple[str, str], Observation]:
    whole = [*build.evaluation.observations, *build.evaluation.fairness]
    parts = {
        (o.metric, f"where {part.column}={part.value}"): o
        for part in build.evaluation.slices
        for o in part.observations
    }
    return {(o.metric, words.population(o)): o for o in whole} | parts


def _metric_change(key: tuple[str, str], before: Observation | None, after: Observation | None) -> MetricChange:
    values = [o.value for o in (before, after) if o is not None and o.value is not None]
    difference = values[1] - values[0] if len(values) == 2 else None
    return MetricChange(
        metric=key[0],
        population=key[1],
        before=before,
        after=after,
        difference=difference,
        shift=shift(before, after),
    )


def _lines(report: DiffReport) -> Iterator[str]:
    yield f"{report.before} → {report.after}"
    if report.same_body:
        yield "The bodies are the same, byte for byte."
    yield from _section("Model", report.model)
    yield from _metric_lines(report)
    yield from _section("Requirements", report.verdicts)
    yield from _section("Data", report.data, _short_digest)
    yield from _section("Columns", report.columns)
    yield from _section("Body", report.body)
    yield from _section("Libraries", report.libraries)
    if report.spec_lines:
        yield from ("", "Spec", *(f"  {line}" for line in report.spec_lines))


def _section(title: str, changes: Sequence[Change], told: Callable[[str], str] = str) -> Iterator[str]:
    if changes:
        yield from ("", title)
    for change in changes:
        before = "absent" if change.before is None else told(change.before)
        after = "absent" if change.after is None else told(change.after)
        yield f"  {words.clean(change.name)}: {words.clean(before)} → {words.clean(after)}"


def _metric_lines(report: DiffReport) -> Iterator[str]:
    if not report.metrics:
        return
    rows = "on the same test rows" if report.same_test_rows else "on different test rows"
    yield from ("", f"Measured, {rows}; two numbers differ where their intervals do not overlap")
    told = [m for m in report.metrics if not m.population or m.shift in _BEYOND]
    table = [(f"{m.metric} {m.population}".strip(), _side(m.before), _side(m.after), m.shift.value) for m in told]
    widths = [max(len(row[i]) for row in table) for i in range(3)] if table else []
    for row in table:
        padded = [words.clean(cell).ljust(wide) for cell, wide in zip(row, widths, strict=False)]
        yield "  " + "  ".join([*padded, row[3]])
    quiet = len(report.metrics) - len(told)
    if quiet:
        yield f"  {numbers.counted(quiet, 'number')} on slices and between groups did not move beyond the intervals."


def _side(observation: Observation | None) -> str:
    if observation is None:
        return "absent"
    between = words.interval(observation)
    return words.value(observation) + (f" ({between})" if between else "")


def _short_digest(value: str) -> str:
    return value[:12] if len(value) == 64 and set(value) <= set("0123456789abcdef") else value
