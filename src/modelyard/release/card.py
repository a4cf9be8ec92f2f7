"""The model card: one Markdown page on what a release is for, how it was chosen, what holds and what was not tested."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from modelyard.core.contract import Column, Part, Role
from modelyard.core.evidence import BuildEvidence, Evidence, FallbackEvidence
from modelyard.core.metrics import Task
from modelyard.core.release import EvidenceRef, Release
from modelyard.core.requirement import Observation
from modelyard.release import numbers, rollouts, words

MOST_CATEGORIES = 8
# An underscore within a word is no markup; a bar ends a table's cell even within code.
_SPECIAL = re.compile(r"([\\`*{}\[\]<>#|~!&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")


def render(release: Release, evidence: Sequence[tuple[EvidenceRef, Evidence]], *, goal: str = "") -> str:
    """Return the card of a release as Markdown.

    Args:
        evidence: oldest first; the card tells of the last build, of every fallback tried and of the newest rollouts.
        goal: what the system is for, in the spec's words.

    Foreign text is escaped, so that a column or category name can neither break a table nor bring in HTML.
    """
    build = words.last_build(evidence)
    fallbacks = [e.payload for _, e in evidence if isinstance(e.payload, FallbackEvidence)]
    taken = rollouts.views(evidence)
    lines = [f"# {text(str(release.id))}", ""]
    if build is None:
        lines += [*_purpose(goal), text(release.headline), "", "There is no record of a build."]
        return "\n".join([*lines, *_fallback(fallbacks), *_rollouts(taken), *_use(release, None)]) + "\n"
    parts = (
        _headline(release, build),
        _purpose(goal),
        _data(build),
        _choice(build),
        _requirements(build),
        _quality(build),
        _slices(build),
        _limits(build),
        _fallback(fallbacks),
        _rollouts(taken),
        _use(release, build),
        _origin(release, build),
    )
    return "\n".join([*lines, *(line for part in parts for line in part)]).rstrip() + "\n"


def text(foreign: str) -> str:
    r"""Return foreign text on one line with everything that Markdown or HTML would read as markup escaped.

    >>> text("a|b <c>")
    'a\\|b \\<c\\>'
    """
    return _SPECIAL.sub(r"\\\1", " ".join(words.clean(foreign).split()))


def code(foreign: str) -> str:
    """Return foreign text as code; a bar in it would end a table's cell, a backtick the code."""
    inner = " ".join(words.clean(foreign).split())
    return f"`{inner}`" if inner and not set("`|") & set(inner) else text(inner)


def prose(foreign: str) -> str:
    r"""Return foreign text whose words in backticks stay code.

    >>> prose("behind `a` by <b>")
    'behind `a` by \\<b\\>'
    """
    parts = words.clean(foreign).split("`")
    if len(parts) % 2 == 0:
        return text(foreign)
    kept = (code(part) if i % 2 else _SPECIAL.sub(r"\\\1", " ".join(part.split("\n"))) for i, part in enumerate(parts))
    return "".join(kept).strip()


def _headline(release: Release, build: BuildEvidence) -> Iterator[str]:
    contract = build.prepared.contract
    classes = f" ({', '.join(text(c) for c in contract.classes[:MOST_CATEGORIES])})" if contract.classes else ""
    _, line = words.overall(build.evaluation.judgements)
    columns = numbers.counted(len(contract.features), "column")
    yield f"Answers {code(contract.target)}{classes} from {columns}. {text(line)}"
    lead = words.overall_observation(build, words.objective_of(build))
    if lead is not None:
        yield ""
        yield f"**{text(lead.metric)} {text(words.measured(lead, contract.target))}**, on test rows."
    yield from (
        "",
        f"Sealed {numbers.moment(release.sealed)}, {numbers.size(release.size_bytes)}, body `{release.body[:12]}`.",
        "",
    )


def _purpose(goal: str) -> Iterator[str]:
    if goal.strip():
        yield from ("## What it is for", "", text(goal), "")


def _data(build: BuildEvidence) -> Iterator[str]:
    data = build.prepared
    sources = ", ".join(code(PurePath(source).name) for source in data.sources)
    yield from (
        "## Data",
        "",
        f"{numbers.counted(data.rows_read, 'row')} from {sources}, SHA-256 `{data.data_digest[:12]}`.",
    )
    if data.rows_quarantined:
        yield f"{numbers.counted(data.rows_quarantined, 'row')} could not be used and were set aside."
    parts = [f"{part.value} {numbers.count(data.rows[part])}" for part in Part if data.rows.get(part)]
    yield f"Split: {_sentence(text(data.split_method))} Rows: {', '.join(parts)}."
    audit = [column.name for column in data.contract.with_role(Role.AUDIT)]
    if audit:
        yield f"Protected, never shown to the model: {', '.join(code(name) for name in audit)}."
    for leak in data.leaks:
        column = f" ({code(leak.column)})" if leak.column else ""
        yield from ("", f"Possible leak{column}: {_sentence(prose(leak.reason))}")
    yield ""


def _choice(build: BuildEvidence) -> Iterator[str]:
    yield from (
        "## How it was chosen",
        "",
        f"{text(build.chosen)} among {numbers.counted(len(build.candidates), 'candidate')}",
    )
    yield f"in {numbers.counted(len(build.trials), 'trial')} (budget {text(build.budget)}), on validation rows."
    if build.threshold is not None:
        because = f": {prose(build.threshold_reason)}" if build.threshold_reason else ""
        yield _sentence(f"Decision threshold {numbers.plain(build.threshold)}{because}")
    rows = [
        (
            text(c.candidate) + (" **(chosen)**" if c.chosen else ""),
            _cell(c.objective) if c.objective else numbers.UNMEASURED,
            _cell(c.gap) if c.gap else "",
            f"{c.trials}, {c.failed} failed" if c.failed else str(c.trials),
            prose(c.reason),
        )
        for c in build.candidates
    ]
    head = ("Candidate", text(words.objective_of(build)) or "Objective", "Gap to chosen", "Trials", "Reason")
    yield from ("", *_table(head, rows), "")


def _requirements(build: BuildEvidence) -> Iterator[str]:
    evaluation = build.evaluation
    if not evaluation.judgements and not evaluation.passed_over:
        return
    target = build.prepared.contract.target
    rows = [
        (
            text(words.requirement(j.requirement)),
            f"**{j.verdict.value}**",
            text(words.measured(j.observation, target)),
            text(j.observation.method),
        )
        for j in evaluation.judgements
    ]
    yield from ("## Requirements", "")
    if rows:
        yield from (*_table(("Requirement", "Verdict", "Measured on test rows", "Method"), rows), "")
    for one in evaluation.passed_over:
        yield from (f"Not judged at build: {text(words.requirement(one.requirement))}. {prose(one.reason)}", "")


def _quality(build: BuildEvidence) -> Iterator[str]:
    target = build.prepared.contract.target
    rows = [(text(o.metric), text(words.measured(o, target)), text(o.method)) for o in build.evaluation.observations]
    if rows:
        yield from ("## Measured", "", *_table(("Metric", "Value", "Method"), rows), "")


def _slices(build: BuildEvidence) -> Iterator[str]:
    metric, target = words.objective_of(build), build.prepared.contract.target
    rows = []
    for part in build.evaluation.slices:
        seen = [o for o in part.observations if o.metric == metric] or list(part.observations[:1])
        told = f"{text(seen[0].metric)} {text(words.measured(seen[0], target))}" if seen else numbers.UNMEASURED
        rows.append((f"{text(part.column)} = {text(part.value)}", numbers.count(part.rows), told))
    gaps = [(text(o.metric), text(o.group or ""), text(words.measured(o))) for o in build.evaluation.fairness]
    if rows or gaps:
        yield from ("## Slices and fairness", "")
    if rows:
        yield from (*_table(("Slice", "Test rows", "Measured"), rows), "")
    if gaps:
        yield from (*_table(("Metric", "Between groups of", "Measured"), gaps), "")


def _limits(build: BuildEvidence) -> Iterator[str]:
    """Say where the measurements end: values that training never saw, slices too small, what was inconclusive."""
    contract = build.prepared.contract
    yield from ("## Limits", "", "Nothing was measured beyond what the training and test rows hold:", "")
    for column in contract.features:
        yield f"- {code(column.name)}: {_seen(column)}"
    small = [p for p in build.evaluation.slices if any(o.value is None for o in p.observations)]
    if small:
        names = ", ".join(f"{text(p.column)} = {text(p.value)} ({numbers.counted(p.rows, 'row')})" for p in small)
        yield from ("", f"Too few rows to measure every metric: {names}.")
    if contract.task is not Task.REGRESSION and len(contract.classes) > 1:
        yield from (
            "",
            f"It can only answer {', '.join(text(c) for c in contract.classes)}; there is no answer for anything else.",
        )
    yield from (
        "",
        "Drift after the day of the build, and load by many callers at once, are not part of these measurements.",
        "",
    )


def _seen(column: Column) -> str:
    missing = f"missing in {numbers.share(column.missing_share)}" if column.nullable else "never missing"
    if column.minimum is not None and column.maximum is not None:
        return f"{words.extent(column, column.minimum)} to {words.extent(column, column.maximum)}, {missing}"
    if column.categories:
        shown = ", ".join(text(words.shorten(c, 40)) for c in column.categories[:MOST_CATEGORIES])
        more = column.distinct - min(len(column.categories), MOST_CATEGORIES)
        return f"{shown}{f' and {numbers.count(more)} more' if more > 0 else ''}, {missing}"
    longest = f", up to {numbers.counted(column.longest, 'character')}" if column.longest else ""
    return f"{column.kind.value}, {numbers.counted(column.distinct, 'value')}{longest}, {missing}"


def _fallback(tried: Sequence[FallbackEvidence]) -> Iterator[str]:
    if not tried:
        return
    yield from ("## Fallback", "")
    for record in tried:
        outcome = "answered" if record.answered else "did **not** answer"
        yield f"- {text(record.kind)} {outcome} in {numbers.seconds(record.seconds)}: {prose(record.detail)}"
        for step in record.steps if len(record.steps) > 1 else ():
            done = {True: "answered", False: "did **not** answer", None: "was passed over"}[step.answered]
            yield f"  - {text(step.kind)} {done}: {prose(step.detail)}"
    yield ""


def _rollouts(taken: Sequence[rollouts.RolloutView]) -> Iterator[str]:
    if not taken:
        return
    yield from ("## Rollouts", "")
    for one in taken:
        record = one.record
        told = f"by {one.strategy} beside {text(record.stable)}, {numbers.moment(record.began)}"
        yield f"- **{one.how}** after {numbers.seconds(one.seconds)} ({told}): {prose(one.reason)}"
        for ruling in one.rulings:
            name = (
                f"{code(ruling.requirement)} of {text(ruling.release)}"
                if one.is_of_several
                else code(ruling.requirement)
            )
            yield f"  - {name} **{ruling.verdict.value}**: {prose(ruling.reason)}"
        for row in one.windows:
            counted = f"{numbers.counted(row.requests, 'request')}, {numbers.counted(row.errors, 'error')}"
            yield f"  - {text(row.release)} in the last step: {counted}, {numbers.count(row.degraded)} degraded"
        steps = "; ".join(f"{row.at} {row.outcome} at {row.step}" for row in one.history)
        if steps:
            yield f"  - decisions: {steps}"
    yield ""


def _use(release: Release, build: BuildEvidence | None) -> Iterator[str]:
    yield from ("## How to use it", "", "```sh", f"modelyard predict {release.id} rows.csv")
    yield from (f"modelyard serve {release.id.name}", f"modelyard report {release.id}", "```", "")
    if build is not None:
        columns = ", ".join(code(column.name) for column in build.prepared.contract.features)
        yield from (f"It takes the raw columns {columns}; preprocessing is inside.", "")


def _origin(release: Release, build: BuildEvidence) -> Iterator[str]:
    line = build.lineage
    yield from ("## Where it came from", "")
    yield f"- code {code(line.code_version)}, run {code(line.run)}"
    yield f"- from {numbers.moment(line.started)} to {numbers.moment(line.finished)}"
    yield f"- spec `{line.spec_digest[:12]}`, data `{line.data_digest[:12]}`, body `{release.body}`"
    machine = line.machine
    yield f"- measured on {text(machine.processor)}, {numbers.counted(machine.cores, 'core')}, {text(machine.system)}"
    for who in line.test_rows_seen_by:
        yield f"- test rows seen by {prose(who)}"


def _sentence(written: str) -> str:
    return written.rstrip(".") + "."


def _cell(observation: Observation) -> str:
    between = words.interval(observation)
    return text(words.value(observation) + (f" ({between})" if between else ""))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'|'.join(' --- ' for _ in head)}|"
    for row in rows:
        yield f"| {' | '.join(row)} |"
