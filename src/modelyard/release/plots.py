"""The plots of the report: which curves of the evidence become which picture, and what is said beneath it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from modelyard.core.candidate import Trial, TrialState
from modelyard.core.evidence import BuildEvidence, Confusion, Curve
from modelyard.core.metrics import METRICS, Task
from modelyard.release import numbers, words
from modelyard.release.axes import Axis, axis, finite, focus
from modelyard.release.charts import TONES, Mark, Series, histogram, plot
from modelyard.release.strips import bars, heatmap

MOST_BARS = 20


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A picture with its heading and what was measured on how many rows."""

    title: str
    svg: Markup
    caption: str


def quality(build: BuildEvidence) -> list[Plot]:
    """Return the plots of how well it answers; a curve that was not measured has none."""
    metric = words.objective_of(build)
    drawn = (_roc, _precision_recall, _calibration, _predicted, _residuals, _scores, confusion)
    return [p for p in (*(one(build) for one in drawn), importance(build, metric)) if p]


def speed(build: BuildEvidence) -> list[Plot]:
    """Return the plots of how fast it answers."""
    curves = _curves(build, "latency")
    if not curves:
        return []
    quantiles = {
        n: o
        for n in (50, 95, 99)
        if (o := words.overall_observation(build, f"latency_p{n}_ms")) and o.value is not None
    }
    marks = [Mark(text="", x=o.value, y=n / 100) for n, o in quantiles.items()] if len(curves) == 1 else []
    slowest = max(max(finite(c.x)) for c in curves)
    drawn = [_without_tail(c) for c in curves]
    x = axis("ms", [v for c in drawn for v in c.x], include=(0.0,))
    svg = plot(
        _lines(drawn),
        title="Latency distribution",
        x=x,
        y=_unit_axis("share answered within"),
        marks=marks,
        notes=[f"p{n} {words.value(o)}" for n, o in quantiles.items()],
    )
    told = "; ".join(f"p{n} {words.measured(o)}" for n, o in quantiles.items()) or "One row at a time"
    return [Plot(title="Latency", svg=Markup(svg), caption=f"{told}. The slowest took {numbers.figure(slowest)} ms.")]


def _without_tail(curve: Curve) -> Curve:
    """Return the curve without its slowest calls, under one in a hundred, where these would press the others aside."""
    kept = [i for i, share in enumerate(curve.y) if share <= 0.992]
    if len(kept) < 2 or curve.x[-1] <= 2 * curve.x[kept[-1]]:
        return curve
    return Curve(name=curve.name, series=curve.series, x=curve.x[: kept[-1] + 1], y=curve.y[: kept[-1] + 1])


def search(trials: Sequence[Trial], metric: str) -> Plot | None:
    """Return the objective over trials, the best so far as a line, failed trials as crosses at the foot."""
    done = [t for t in trials if t.state is TrialState.DONE and t.value is not None]
    if len(done) < 2:
        return None
    known = METRICS.get(metric)
    pick = max if known is None or known.higher_is_better else min
    so_far: list[float] = []
    for trial in done:
        so_far.append(pick([*so_far[-1:], trial.value or 0.0]))
    near = focus([t.value for t in done], so_far[-1])
    y = axis(metric, near, pad=0.08)
    x = axis("trial", [float(t.number) for t in trials])
    series = _by_candidate(done)
    failed = [float(t.number) for t in trials if t.state is not TrialState.DONE]
    if failed:
        series.append(Series(name="failed", x=failed, y=[y.low] * len(failed), style="crosses", tone=TONES))
    best = Series(name="best so far", x=[float(t.number) for t in done], y=so_far, style="steps", tone=-1)
    outside = len(done) - len(near)
    note = f" {numbers.counted(outside, 'trial')} beyond the axis drawn at its edge." if outside else ""
    caption = (
        f"{metric} on validation rows, {numbers.counted(len(done), 'finished trial')}, {len(failed)} failed.{note}"
    )
    svg = plot([best, *series], title=f"Search progress: {metric} over trials", x=x, y=y)
    return Plot(title="Search", svg=Markup(svg), caption=caption)


def importance(build: BuildEvidence, metric: str) -> Plot | None:
    """Return the most important columns as bars; the rest is counted, not drawn."""
    ranked = sorted(build.evaluation.importance, key=lambda pair: -pair[1])
    if not ranked:
        return None
    shown = [(name, value) for name, value in ranked[:MOST_BARS] if finite((value,))]
    said = [numbers.figure(value, 0, max(abs(v) for _, v in shown) / 5) for _, value in shown]
    rest = (
        f" {numbers.counted(len(ranked) - MOST_BARS, 'column')} with less are not drawn."
        if len(ranked) > MOST_BARS
        else ""
    )
    caption = (
        f"How much worse {metric or 'the objective'} gets on validation rows when the values of a column are "
        f"shuffled; no interval was measured.{rest}"
    )
    return Plot(title="Importance", svg=Markup(bars(shown, title="Importance by column", names=said)), caption=caption)


def confusion(build: BuildEvidence) -> Plot | None:
    """Return the confusion matrix."""
    found = build.evaluation.confusion
    if not found or not found.classes:
        return None
    total = sum(sum(row) for row in found.counts)
    at = f" at threshold {numbers.plain(build.threshold)}" if build.threshold is not None else ""
    caption = f"{numbers.counted(total, 'test row')}{at}; per cent are of the row, the true class."
    return Plot(
        title="Confusion", svg=Markup(heatmap(found.classes, found.counts, title="Confusion matrix")), caption=caption
    )


def _roc(build: BuildEvidence) -> Plot | None:
    curves = _curves(build, "roc")
    if not curves:
        return None
    point = _operating_point(build)
    marks = [Mark(text=f"threshold {numbers.plain(build.threshold)}", x=point[0], y=point[1])] if point else []
    svg = plot(
        _lines(curves),
        title="ROC curve",
        x=_unit_axis("false positive rate"),
        y=_unit_axis("true positive rate"),
        marks=marks,
        diagonal=True,
        corner="lower right",
    )
    return Plot(title="ROC", svg=Markup(svg), caption=_told(build, "roc_auc"))


def _precision_recall(build: BuildEvidence) -> Plot | None:
    curves = _curves(build, "precision_recall")
    if not curves:
        return None
    point = _operating_point(build)
    marks = (
        [Mark(text=f"threshold {numbers.plain(build.threshold)}", x=point[1], y=point[2], before=True)] if point else []
    )
    svg = plot(
        _lines(curves),
        title="Precision over recall",
        x=_unit_axis("recall"),
        y=_unit_axis("precision"),
        marks=marks,
        corner="lower left",
    )
    return Plot(title="Precision and recall", svg=Markup(svg), caption=_told(build, "average_precision"))


def _calibration(build: BuildEvidence) -> Plot | None:
    """Draw the share that came true per bin, with its interval where the evidence has one, and the rows of each bin."""
    curves = {c.series: c for c in _curves(build, "calibration")}
    low, high = curves.pop("low", None), curves.pop("high", None)
    if not curves:
        return None
    first = next(iter(curves.values()))
    counts = list(zip(first.x, first.weight, strict=True)) if len(first.weight) == len(first.x) else []
    ends = low and high and len(curves) == 1 and len(low.y) == len(high.y) == len(first.x)
    lines = zip(curves.values(), _lines(list(curves.values())), strict=True)
    svg = plot(
        [s for c, drawn in lines for s in (drawn, _dots(c, drawn.tone))],
        title="Calibration: stated probability against share that came true",
        x=_unit_axis("stated probability"),
        y=_unit_axis("share that came true"),
        diagonal=True,
        corner="upper left",
        counts=counts if counts and max(n for _, n in counts) > 2 * min(n for _, n in counts) else (),
        whiskers=list(zip(first.x, low.y, high.y, strict=True)) if ends and low and high else (),
    )
    foot = ""
    if counts:
        rows = sorted(round(n) for _, n in counts)
        each = (
            f"{numbers.count(rows[0])} to {numbers.count(rows[-1])}" if rows[0] < rows[-1] else numbers.count(rows[0])
        )
        foot = f" {numbers.counted(len(rows), 'bin')} of {each} rows{', each with its interval' if ends else ''}."
    return Plot(title="Calibration", svg=Markup(svg), caption=_told(build, "calibration_error") + foot)


def _scores(build: BuildEvidence) -> Plot | None:
    found = build.evaluation.score_histogram
    if not found or not found.counts or len(finite(found.edges)) != len(found.counts) + 1:
        return None
    classes = build.prepared.contract.classes
    task = build.prepared.contract.task
    name = f"predicted {words.shorten(build.prepared.contract.target, 24)}"
    if task is not Task.REGRESSION:
        two = task is Task.BINARY and classes
        name = f"probability of {words.shorten(classes[-1], 20)}" if two else "highest probability"
    marks = (
        [Mark(text=f"threshold {numbers.plain(build.threshold)}", x=build.threshold)]
        if build.threshold is not None
        else []
    )
    svg = histogram(found.edges, found.counts, title="Histogram of answers", x_label=name, marks=marks)
    return Plot(
        title="Predictions" if task is Task.REGRESSION else "Scores",
        svg=Markup(svg),
        caption=f"{numbers.counted(sum(found.counts), 'test row')}.",
    )


def _predicted(build: BuildEvidence) -> Plot | None:
    curves = _curves(build, "predicted_actual")
    if not curves:
        return None
    target = build.prepared.contract.target
    both = [v for c in curves for v in (*c.x, *c.y)]
    svg = plot(
        [_dots(c, i, c.series) for i, c in enumerate(curves)],
        title="Actual against predicted",
        x=axis(f"predicted {words.shorten(target, 24)}", both),
        y=axis(f"actual {words.shorten(target, 24)}", both),
        diagonal=True,
    )
    return Plot(title="Predicted and actual", svg=Markup(svg), caption=_drawn_of(build, curves) + _told(build, "r2"))


def _residuals(build: BuildEvidence) -> Plot | None:
    curves = _curves(build, "residuals")
    if not curves:
        return None
    points, lines = [c for c in curves if not c.series], [c for c in curves if c.series]
    names = {"p05": "5 % below", "median": "median", "p95": "95 % below"}
    series = [_dots(c, 0) for c in points]
    series += [Series(name=names.get(c.series, c.series), x=c.x, y=c.y, tone=i + 1) for i, c in enumerate(lines)]
    svg = plot(
        series,
        title="Residuals over predicted values",
        x=axis(f"predicted {words.shorten(build.prepared.contract.target, 24)}", [v for c in curves for v in c.x]),
        y=axis("residual (actual less predicted)", [v for c in curves for v in c.y]),
        marks=[Mark(text="", y=0.0)],
    )
    return Plot(title="Residuals", svg=Markup(svg), caption=_drawn_of(build, points) + _told(build, "rmse"))


def _curves(build: BuildEvidence, name: str) -> list[Curve]:
    return [c for c in build.evaluation.curves if c.name == name and len(finite(c.x)) > 1 and len(c.x) == len(c.y)]


def _lines(curves: Sequence[Curve]) -> list[Series]:
    return [Series(name=c.series, x=c.x, y=c.y, tone=i) for i, c in enumerate(curves)]


def _dots(curve: Curve, tone: int, name: str = "") -> Series:
    return Series(name=name, x=curve.x, y=curve.y, style="dots", tone=tone)


def _by_candidate(done: Sequence[Trial]) -> list[Series]:
    names = list(dict.fromkeys(t.candidate for t in done))
    return [
        Series(
            name=name,
            x=[float(t.number) for t in done if t.candidate == name],
            y=[t.value for t in done if t.candidate == name and t.value is not None],
            style="dots",
            tone=i,
        )
        for i, name in enumerate(names)
    ]


def _unit_axis(label: str) -> Axis:
    return axis(label, (), include=(0.0, 1.0))


def _told(build: BuildEvidence, metric: str) -> str:
    seen = words.overall_observation(build, metric)
    rows = numbers.counted(build.evaluation.rows, "test row")
    return f"{metric} {words.measured(seen, build.prepared.contract.target)}." if seen else f"{rows}."


def _drawn_of(build: BuildEvidence, curves: Sequence[Curve]) -> str:
    drawn = sum(len(c.x) for c in curves)
    return f"{numbers.count(drawn)} of {numbers.counted(build.evaluation.rows, 'test row')} drawn. "


def _operating_point(build: BuildEvidence) -> tuple[float, float, float] | None:
    """Return false positive rate, recall and precision at the threshold, from the confusion matrix."""
    found: Confusion | None = build.evaluation.confusion
    if build.threshold is None or found is None or len(found.counts) != 2:
        return None
    (right_no, alarms), (missed, hits) = found.counts
    if not (right_no + alarms and missed + hits and alarms + hits):
        return None
    return alarms / (right_no + alarms), hits / (missed + hits), hits / (alarms + hits)
