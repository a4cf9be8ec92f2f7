"""What was measured under load, as tables and lines."""

from __future__ import annotations

from modelyard.cli.printing import Printer
from modelyard.cli.tables import judgement_lines
from modelyard.core.load import Arrivals, Failures, Found, LatencyQuantile, LoadPlan, LoadResult
from modelyard.loadtest.summary import BUSY_CORES

_KINDS = {
    "refused": "refused",
    "closed": "connection closed",
    "status": "status",
    "timeout": "timed out",
    "late": "never sent in time",
    "malformed": "not HTTP",
}


def found_lines(printer: Printer, found: Found) -> None:
    """Print every rate that was tried, and what follows."""
    rows = [
        (
            step.phase,
            f"{step.rate:,.4g}",
            "-" if step.p50_ms is None else f"{step.p50_ms:.2f}",
            "-" if step.p99_ms is None else f"{step.p99_ms:.2f}",
            f"{step.throughput:,.0f}",
            str(step.failed),
            str(step.degraded),
            "yes" if step.met else "NO",
            ("" if step.settled else "not settled ") + ("generator was the limit" if step.generator_limited else ""),
        )
        for step in found.steps
    ]
    printer.table(("step", "rate/s", "p50 ms", "p99 ms", "answered/s", "failed", "degraded", "met", "note"), rows)
    printer.line()
    printer.line(found.conclusion)
    if found.lowest_failing is not None:
        printer.line(f"The lowest rate that did not keep it: {found.lowest_failing:,.4g} requests/s.")
    printer.line()


def result_lines(printer: Printer, result: LoadResult) -> None:
    """Print one measured load."""
    rate = result.throughput
    printer.line(_load_words(result.plan))
    between = "" if rate.low is None or rate.high is None else f" (95 % interval {rate.low:,.0f} to {rate.high:,.0f})"
    printer.line(f"answered  {rate.value:,.1f} a second{between}; {result.answered} of {result.due} due")
    if result.degraded:
        printer.line(f"degraded  {result.degraded} of the answers")
    printer.line(f"failed    {_failure_words(result.failures)}")
    printer.table(
        ("latency", "ms", "95 % low", "95 % high"),
        [
            (_named(one), f"{one.value_ms:.3f}", _edge(one, one.low_ms), _edge(one, one.high_ms))
            for one in result.latency
        ],
    )
    _server_lines(printer, result)
    lag = result.lag
    printer.line(
        f"generator late by {lag.p99_ms:.3f} ms at p99 ({lag.max_ms:.2f} at most), used {lag.cores:.2f} cores"
        + ("" if lag.foreign_cores is None else f" while neither it nor the server used {lag.foreign_cores:.2f}")
        + f"; requests waited {lag.waited_p99_ms:.3f} ms for a free connection at p99"
    )
    if result.generator_limited:
        busy = lag.cores > BUSY_CORES
        why = "it used a whole core" if busy else "it had to wait for a core: this machine is too busy, or too small"
        printer.line(f"CAUTION   the generator itself was the limit, so the latencies are too high: {why}")
    for reason in result.unsettled:
        printer.line(f"UNSTABLE  {reason}")
    if result.plan.arrivals is Arrivals.CLOSED:
        printer.line("CAUTION   a closed loop stops asking while the server stalls: take its latencies for no promise")
    for caution in result.cautions:
        printer.line(f"note      {caution}")
    if result.judgements:
        judgement_lines(printer, result.judgements)
        assert result.verdict is not None
        if any(one.verdict is not result.verdict for one in result.judgements) and len(result.judgements) == 1:
            why = "it had not settled" if result.rising else "the generator was the limit"
            printer.line(f"HOLD  {why}, so the requirement is neither kept nor missed")


def _server_lines(printer: Printer, result: LoadResult) -> None:
    used = result.usage
    if used is None:
        return
    each = "" if used.cpu_us_per_request is None else f", {used.cpu_us_per_request:.1f} us a request"
    memory = "" if used.pss_mb is None else f", {used.pss_mb:.1f} MB PSS ({used.rss_mb:.1f} MB RSS)"
    gone = f"; {used.gone} ended meanwhile" if used.gone else ""
    printer.line(f"server    {used.processes} processes, {used.cores:.2f} cores{each}{memory}{gone}")
    if result.cost_per_thousand is not None:
        printer.line(f"cost      {result.cost_per_thousand:.3g} for a thousand requests, at the price of its CPU time")


def _load_words(plan: LoadPlan) -> str:
    when = f"{plan.seconds:g} s after {plan.warmup_s:g} s of warm-up"
    if plan.arrivals is Arrivals.CLOSED:
        return f"closed loop, {plan.connections} connections, {when}"
    return f"open loop, {plan.rate:,.6g} requests/s ({plan.arrivals}), up to {plan.connections} connections, {when}"


def _failure_words(failures: Failures) -> str:
    if not failures.total:
        return "none"
    kinds = [f"{getattr(failures, kind)} {word}" for kind, word in _KINDS.items() if getattr(failures, kind)]
    statuses = [f"{status}: {count}" for status, count in failures.by_status.items()]
    return ", ".join(kinds) + (f" ({', '.join(statuses)})" if statuses else "")


def _named(one: LatencyQuantile) -> str:
    return "max" if one.q == 1 else f"p{100 * one.q:g}"


def _edge(one: LatencyQuantile, edge: float | None) -> str:
    if one.q == 1:
        return ""
    return "open" if edge is None else f"{edge:.3f}"
