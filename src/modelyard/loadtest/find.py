"""The highest rate at which a service keeps what is required of it."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from modelyard.core.load import Arrivals, Found, LoadPlan, LoadResult, SearchStep
from modelyard.core.ports import Progress
from modelyard.core.requirement import Requirement, Verdict
from modelyard.errors import UsageError
from modelyard.loadtest.measure import Subject, measure
from modelyard.loadtest.search import CONFIRMATIONS, Search, Try
from modelyard.loadtest.tally import MOST_REQUESTS

MOST_RATE = 200_000.0
CAPACITY_S, CAPACITY_CONNECTIONS = 2.0, 64
FIRST_SHARE = 1 / 8  # of the capacity, where doubling begins
STEP_S, STEP_WARMUP_S, MOST_STEP_S = 3.0, 1.0, 30.0
LEAST_SAMPLES = 2000  # of a step, so that a p99 has an interval
MOST_BAD = 0.001  # share of requests that may fail, and that may be answered degraded, at a rate that is met
TIMEOUT_BOUNDS = 10  # a step's callers wait this many times the bound ...
LEAST_TIMEOUT_S = 1.0  # ... and at least this long


def find_rate(
    subject: Subject, plan: LoadPlan, requirements: Sequence[Requirement], progress: Progress
) -> tuple[Found, LoadResult | None]:
    """Return the highest rate whose latency keeps the requirements, and the last run that confirmed it.

    `plan` gives the arrivals, the connections, and the length of the confirming runs; its rate is not used.
    Raises: what `measure` raises.
    """
    bounds = [one.bound for one in requirements if one.bound is not None]
    if not bounds:
        raise UsageError("There is nothing to keep: the highest rate needs a bound on a latency.")
    timeout_s = min(plan.timeout_s, max(LEAST_TIMEOUT_S, TIMEOUT_BOUNDS * max(bounds) / 1000))
    plan = replace(plan, timeout_s=timeout_s)
    capacity = _capacity(subject, plan, progress)
    progress.say(f"capacity, {CAPACITY_CONNECTIONS} connections asking in turn: {capacity:,.0f} requests/s")
    search = Search(FIRST_SHARE * capacity, most_rate=min(MOST_RATE, MOST_REQUESTS / (plan.seconds + plan.warmup_s)))
    steps: list[SearchStep] = []
    kept: list[LoadResult] = []  # the confirming runs of the rate in question
    stopped = ""
    while (tried := search.next()) is not None:
        for phase in (tried.phase, "again"):
            result = measure(subject, _step_plan(plan, tried), progress, requirements=requirements, name=_name(tried))
            step = _step(phase, tried.rate, result)
            steps.append(step)
            progress.say(_line(step))
            if step.met or result.verdict is not Verdict.INCONCLUSIVE or result.rising:
                break
        search.tell(tried, step.met)
        kept = [*kept, result] if tried.phase == "confirm" and step.met else []
        if not step.met and step.generator_limited and search.low is not None:
            stopped = f"beyond {search.low:g} requests/s the generator itself was the limit"
            if tried.phase in ("double", "bisect"):
                search = _only_confirm(search)
    return _found(search, steps, kept, stopped), kept[-1] if kept else None


def _capacity(subject: Subject, plan: LoadPlan, progress: Progress) -> float:
    closed = replace(
        plan,
        arrivals=Arrivals.CLOSED,
        rate=None,
        connections=min(CAPACITY_CONNECTIONS, plan.connections),
        seconds=CAPACITY_S,
        warmup_s=min(plan.warmup_s, STEP_WARMUP_S),
    )
    return max(1.0, measure(subject, closed, progress, name="capacity").throughput.value)


def _step_plan(plan: LoadPlan, tried: Try) -> LoadPlan:
    if tried.phase == "confirm":
        seconds, warmup_s = plan.seconds, plan.warmup_s
    else:
        seconds, warmup_s = min(STEP_S, plan.seconds), min(STEP_WARMUP_S, plan.warmup_s)
    seconds = max(seconds, min(MOST_STEP_S, LEAST_SAMPLES / tried.rate))
    return replace(plan, rate=tried.rate, seconds=seconds, warmup_s=warmup_s)


def _step(phase: str, rate: float, result: LoadResult) -> SearchStep:
    met, reason = _met(result)
    p50, p99 = result.quantile(0.5), result.quantile(0.99)
    return SearchStep(
        phase=phase,
        rate=rate,
        met=met,
        reason=reason,
        p50_ms=None if p50 is None else p50.value_ms,
        p99_ms=None if p99 is None else p99.value_ms,
        throughput=result.throughput.value,
        failed=result.failures.total,
        degraded=result.degraded,
        settled=not result.unsettled,
        generator_limited=result.generator_limited,
    )


def _met(result: LoadResult) -> tuple[bool, str]:
    """Say whether a run kept what is required, and why not. The point decides here; the interval when it is over."""
    for count, word in ((result.failures.total, "failed"), (result.degraded, "were degraded")):
        if count > MOST_BAD * result.due:
            return False, f"{count} of {result.due} requests {word}"
    if result.rising:
        return False, "; ".join(result.unsettled)
    for judgement in result.judgements:
        seen, bound = judgement.observation.value, judgement.requirement.bound
        if seen is None or bound is None or seen > bound:
            return False, judgement.reason
    return True, " ".join(judgement.reason for judgement in result.judgements)


def _only_confirm(search: Search) -> Search:
    """Return a search that has nothing left but to confirm the highest rate that was met."""
    assert search.low is not None
    last = Search(search.low, most_rate=search.low)
    last.low, last.high, last.steps = search.low, None, search.steps
    return last


def _found(search: Search, steps: Sequence[SearchStep], kept: Sequence[LoadResult], stopped: str) -> Found:
    failing = [step.rate for step in steps if not step.met and not step.generator_limited]
    lowest = min((rate for rate in failing if search.low is None or rate > search.low), default=None)
    confirmed = search.is_confirmed and all(one.verdict is Verdict.PASS for one in kept)
    if search.low is None:
        conclusion = "No rate was found that keeps what is required."
    elif confirmed:
        conclusion = f"{search.low:g} requests/s keep what is required, confirmed {CONFIRMATIONS} times."
    elif search.is_confirmed:
        conclusion = f"{search.low:g} requests/s keep it as measured, but the intervals leave it open."
    else:
        conclusion = f"{search.low:g} requests/s kept it once; it was not confirmed within {len(steps)} steps."
    if search.low is not None and lowest is None:
        conclusion += f" It may be more: {stopped or 'no higher rate was tried'}."
    return Found(
        highest=search.low,
        lowest_failing=lowest,
        confirmed=confirmed,
        conclusion=conclusion,
        steps=tuple(steps),
    )


def _name(tried: Try) -> str:
    return f"{tried.phase} {tried.rate:,.4g} requests/s"


def _line(step: SearchStep) -> str:
    p99 = "no answers" if step.p99_ms is None else f"p99 {step.p99_ms:.2f} ms"
    marks = "" if step.settled else ", not settled"
    marks += ", the generator was the limit" if step.generator_limited else ""
    return (
        f"{step.phase:8} {step.rate:>9,.4g}/s  {p99:>16}  {step.throughput:>9,.0f} answered/s  "
        f"{'met' if step.met else 'NOT met'}{marks}{'' if step.met else ': ' + step.reason}"
    )
