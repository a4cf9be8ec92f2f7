"""Records in words, the same on the page, in the card and in a diff."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from markupsafe import Markup, escape

from modelyard.core.contract import Column, Kind
from modelyard.core.evidence import BuildEvidence, Evidence
from modelyard.core.metrics import METRICS, Needs
from modelyard.core.release import EvidenceRef
from modelyard.core.requirement import Direction, Judgement, Observation, Requirement, Verdict
from modelyard.measure.judge import worst
from modelyard.release.numbers import UNMEASURED, counted, decimals, figure, fixed, plain

_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# Characters that cannot stand in XML, or that turn the direction of what follows and so can forge what is read.
_UNSAFE = {
    code: _REPLACEMENT
    for code in (
        *range(0x20),
        *range(0x7F, 0xA0),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
        *range(0xD800, 0xE000),
        0xFFFE,
        0xFFFF,
    )
    if code not in (0x09, 0x0A, 0x0D)
}


def clean(text: str) -> str:
    r"""Return foreign text without control, surrogate and direction-turning characters.

    >>> clean("a\x00b")
    'a\ufffdb'
    """
    return text.translate(_UNSAFE)


def shorten(text: str, most: int) -> str:
    """Return at most `most` characters on one line, an ellipsis where some were left out.

    >>> shorten("Never-married", 6)
    'Never…'
    """
    line = " ".join(clean(text).split())
    return line if len(line) <= most else line[: most - 1].rstrip() + _ELLIPSIS


def params(values: dict[str, bool | int | float | str | None]) -> str:
    """Return parameters in one line, by name, numbers to four digits."""
    rounded = {name: float(f"{v:.4g}") if isinstance(v, float) else v for name, v in sorted(values.items())}
    return ", ".join(f"{name} {plain(value)}" for name, value in rounded.items())


def prose(text: str) -> Markup:
    """Return escaped text with its words in backticks set as code.

    >>> prose("behind `a<b`")
    Markup('behind <code>a&lt;b</code>')
    """
    parts = clean(text).split("`")
    if len(parts) % 2 == 0:
        return Markup(escape(clean(text)))
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else p for i, p in enumerate(parts))


def breakable(text: str) -> Markup:
    """Return escaped text that may break after an underscore.

    >>> breakable("a_<b>")
    Markup('a_<wbr>&lt;b&gt;')
    """
    return Markup("<wbr>").join(part for part in re.split(r"(?<=_)(?=.)", clean(text)))


def unit(observation: Observation, target: str = "") -> str:
    """Return the unit as it follows a number: nothing for shares, the target's name for its own unit."""
    if observation.unit in ("share", "currency", ""):
        return ""
    return f" {target or observation.unit}" if observation.unit == "target" else f" {observation.unit}"


def value(observation: Observation, target: str = "", bound: float | None = None) -> str:
    """Return what was measured, with its unit."""
    if observation.value is None:
        return UNMEASURED
    return figure(observation.value, observation.low, observation.high, bound) + unit(observation, target)


def interval(observation: Observation, bound: float | None = None) -> str:
    """Return the interval as `low to high`; nothing where there is none or it has no width."""
    low, high = observation.low, observation.high
    if observation.value is None or low == high:
        return ""
    places = decimals(observation.value, low, high, bound)
    left, right = ("unbounded" if end is None else fixed(end, places) for end in (low, high))
    return f"{left} to {right}"


def samples(observation: Observation) -> str:
    """Return how many samples there were, by what they are; nothing for what is weighed."""
    known = METRICS.get(observation.metric)
    if known is None:
        return counted(observation.samples, "sample")
    if known.needs is Needs.BODY:
        return ""
    if known.needs is Needs.TIMING:
        return counted(observation.samples, "timing")
    if known.needs is Needs.SERVICE:
        return counted(observation.samples, "request")
    if known.needs is Needs.GROUPS:
        return counted(observation.samples, "row in the smallest group", "rows in the smallest group")
    return counted(observation.samples, "row")


def measured(observation: Observation, target: str = "") -> str:
    """Return value, interval and samples in one line."""
    if observation.value is None:
        return f"{UNMEASURED} ({observation.method})" if observation.method else UNMEASURED
    between = interval(observation)
    inner = [f"{confidence(observation)} interval {between}"] if between else []
    inner += [samples(observation)] if samples(observation) else []
    return value(observation, target) + (f" ({', '.join(inner)})" if inner else "")


def confidence(observation: Observation) -> str:
    """Return an interval's confidence in per cent."""
    return f"{observation.confidence * 100:g} %"


def extent(column: Column, value: float) -> str:
    """Return an end of a column's range; dates and times as such."""
    if not column.kind.is_time:
        return figure(value)
    try:
        moment = datetime.fromtimestamp(value / 1e6, UTC)
    except (OverflowError, ValueError, OSError):
        return figure(value)
    return moment.strftime("%Y-%m-%d" if column.kind is Kind.DATE else "%Y-%m-%d %H:%M")


def population(observation: Observation | Requirement) -> str:
    """Return on which slice or between which groups; nothing for all rows."""
    parts = [f"where {observation.slice}"] if observation.slice else []
    parts += [f"between groups of {observation.group}"] if observation.group else []
    return " ".join(parts)


def bound(requirement: Requirement) -> str:
    """Return the bound and the margin of a requirement.

    A margin is the loss allowed against the stable release.
    """
    side = "at least" if requirement.direction is Direction.AT_LEAST else "at most"
    known = METRICS.get(requirement.metric)
    named = f" {known.unit}" if known and known.unit not in ("share", "target", "currency") else ""
    parts = [f"{side} {plain(requirement.bound)}{named}"] if requirement.bound is not None else []
    if requirement.margin is not None:
        worse = "below" if requirement.direction is Direction.AT_LEAST else "above"
        parts.append(f"at most {plain(requirement.margin)}{named} {worse} the stable release")
    return " and ".join(parts)


def requirement(record: Requirement) -> str:
    """Return a requirement as a sentence's worth of words."""
    return " ".join(part for part in (record.metric, bound(record), population(record)) if part)


def overall(judgements: Sequence[Judgement]) -> tuple[Verdict | None, str]:
    """Return the verdict over all requirements and one line that says it.

    One fail is a fail; else one inconclusive holds, unless the spec accepts it; None without any.
    """
    if not judgements:
        return None, "No requirement was judged."
    by_verdict = {verdict: [j.requirement for j in judgements if j.verdict is verdict] for verdict in Verdict}
    failed = [r.id for r in by_verdict[Verdict.FAIL]]
    held = [r.id for r in by_verdict[Verdict.INCONCLUSIVE] if not r.accept_inconclusive]
    accepted = [r.id for r in by_verdict[Verdict.INCONCLUSIVE] if r.accept_inconclusive]
    binding = [j for j in judgements if j.verdict is not Verdict.INCONCLUSIVE or not j.requirement.accept_inconclusive]
    verdict = worst([j.verdict for j in binding] or [Verdict.PASS])
    total = counted(len(judgements), "requirement")
    met = len(by_verdict[Verdict.PASS])
    told = [f"All {total} met." if met == len(judgements) > 1 else f"{met} of {total} met."]
    told += [f"Not met: {', '.join(failed)}."] if failed else []
    told += [f"Inconclusive: {', '.join(held)}."] if held else []
    told += [f"Inconclusive and accepted by the spec: {', '.join(accepted)}."] if accepted else []
    return verdict, " ".join(told)


def last_build(evidence: Sequence[tuple[EvidenceRef, Evidence]]) -> BuildEvidence | None:
    """Return the newest build on record."""
    builds = [e.payload for _, e in evidence if isinstance(e.payload, BuildEvidence)]
    return builds[-1] if builds else None


def objective_of(build: BuildEvidence) -> str:
    """Return the metric that candidates were compared by; empty when none was scored."""
    scored = sorted(build.candidates, key=lambda c: not c.chosen)
    return next((c.objective.metric for c in scored if c.objective), "")


def overall_observation(build: BuildEvidence, metric: str) -> Observation | None:
    """Return a metric as measured over all test rows."""
    every = build.evaluation.observations
    return next((o for o in every if o.metric == metric and o.slice is None and o.group is None), None)
