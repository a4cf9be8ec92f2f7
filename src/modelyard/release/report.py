"""The report: one HTML page that holds everything claimed of a release, with its evidence."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import Any

import jinja2
from markupsafe import Markup

from modelyard.core.evidence import BuildEvidence, Evidence, FallbackEvidence
from modelyard.core.metrics import METRICS
from modelyard.core.release import EvidenceRef, Release
from modelyard.release import drills, numbers, plots, rollouts, sections, sweeps, words

_TEMPLATES = Path(__file__).parent / "templates"
_FILTERS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        numbers.count, numbers.counted, numbers.figure, numbers.moment, numbers.plain, numbers.scientific,
        numbers.seconds, numbers.share, numbers.size, words.bound, words.breakable, words.confidence, words.interval,
        words.measured, words.params, words.population, words.prose, words.requirement, words.samples, words.shorten,
        words.value,
    )
}  # fmt: skip
_FILTERS["file_name"] = lambda source: PurePath(source).name  # where the builder's files lay is no one's concern


def render(
    release: Release, evidence: Sequence[tuple[EvidenceRef, Evidence]], spec_text: str, *, goal: str = ""
) -> str:
    """Return the report as one HTML page that needs no network and no script to be read.

    Args:
        evidence: oldest first; the page shows the last build, the last sweep, every fallback that was tried,
            the newest drill of each kind and the newest rollouts.
        goal: what the system is for, in the spec's words; left out when empty.

    What the evidence does not hold is not on the page. All foreign text is escaped.
    """
    style, script = _part("report.css"), _part("report.js")
    context: dict[str, Any] = {
        "release": release,
        "goal": goal,
        "spec_text": spec_text,
        "records": [ref for ref, _ in evidence],
        "fallbacks": [e for _, e in evidence if isinstance(e.payload, FallbackEvidence)],
        "build": None,
        "verdict": None,
        "lead": None,
        "style": Markup(style),  # our own files, not foreign text
        "script": Markup(script),
        "policy": _policy(style, script),
    }
    context["sweep"] = sweeps.view(evidence)
    context["drills"] = drills.view(evidence)
    context["rollouts"] = rollouts.views(evidence)
    build = words.last_build(evidence)
    if build is not None:
        context |= _of_build(build)
    return _environment().get_template("report.html").render(context)


def _of_build(build: BuildEvidence) -> dict[str, Any]:
    objective, target = words.objective_of(build), build.prepared.contract.target
    verdict, line = words.overall(build.evaluation.judgements)
    return {
        "build": build,
        "target": target,
        "objective": objective,
        "lead": words.overall_observation(build, objective),
        "chosen": next((c for c in build.candidates if c.chosen), None),
        "verdict": verdict,
        "verdict_line": line,
        "metrics": METRICS,
        "gates": sections.gates(build.evaluation.judgements, target),
        "contenders": sections.contenders(build.candidates),
        "failed": sections.failed_trials(build.trials),
        "search": plots.search(build.trials, objective),
        "quality": plots.quality(build),
        "speed": plots.speed(build),
        "slices": sections.slice_tables(build, objective),
        "fairness": sections.fairness_rows(build),
        "profile": sections.profile_rows(build.prepared),
        "split": sections.split_chart(build.prepared),
    }


def _part(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8").strip()


def _policy(style: str, script: str) -> str:
    """Return a content security policy that allows exactly our own style and script, and no fetch at all."""

    def allowed(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; style-src {allowed(style)}; script-src {allowed(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finished,
    )
    environment.filters |= _FILTERS
    return environment


def _finished(value: object) -> object:
    """Return what is written into the page; runs before escaping, on every expression."""
    if value is None:
        return ""
    return value if isinstance(value, Markup) or not isinstance(value, str) else words.clean(value)
