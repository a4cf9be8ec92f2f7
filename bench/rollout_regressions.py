"""Regressions put into a canary under live load: when each was taken back, whom it harmed, and how much was seen.

A release that goes wrong at one thing is rolled out beside the sealed one, with a tenth of 500 requests a second. A
statistical one has a requirement that allows no loss (a margin of 0), judged together with four others that never fail,
and is held to the size of a one-sided test with one look and 80 % power at the same corrected level, for the effect put
in: what is seen of it where it is found is more than there is. Where a few dozen rows are enough, the test is
one that keeps its level with so few: the binomial one, and Student's.
"""

from __future__ import annotations

import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import stats

from modelyard.adapters.onnx_harm import Harm
from modelyard.core.arrays import Floats
from modelyard.core.release import Traffic
from modelyard.core.rollout import How, Window
from modelyard.errors import ModelyardError
from modelyard.measure.sequential import Allowance
from modelyard.measure.sequential_plan import Assumed, samples_for
from modelyard.rollout.claims import claims
from modelyard.rollout.course import Course
from modelyard.rollout.judging import levels
from rollout_live import Heard, Place, calling, kill, statuses, table_of, wall_to_monotonic
from rollout_models import AGAIN, GOOD, SERVING, Fault, Sealing, seal

RATE, SHARE, POWER = 500.0, 0.1, 0.8
WORK = 20.0  # products of matrices that a row asks for: about 0.4 ms
MEMORY_MB, LEAKED_MB = 150, 120  # a worker has about 70 of its own
PAIR = 0.25  # of a claim's level, that one direction of the first pair of groups has
WARM_S, AFTER_S = 4.0, 1.5
TRIAL, TRIAL_S = 3.0, 10.0  # times the work, and how long it is tried

Saboteur = Callable[[Place, str, threading.Event], None]
SLOWER, DEARER = 1.5, 2.0

Reference = Callable[[Course, Floats], float]  # of a course, and how long its stable release took


@dataclass(frozen=True, kw_only=True)
class Case:
    """One regression. `metric` is what has to fail; without one it is a rule of `decide`."""

    name: str
    candidate: Fault
    stable: Fault = GOOD
    requirements: str = "[]"
    metric: str | None = None
    reference: Reference | None = None
    saboteur: Saboteur | None = None
    serving: str = SERVING
    feedback: bool = False
    work: float = 0.0
    slower: float | None = None  # times the stable release's p95: the work for it is found by trial
    most_s: float = 60.0
    words: str = ""


@dataclass
class Run:
    """What one run gave. Times are in seconds."""

    taken_back: bool
    cause: str
    exposed: float = 0.0  # from the candidate's first request to its last
    lingered: float = 0.0  # from the decision to its last request
    requests: int = 0  # of the candidate
    failed: int = 0
    degraded: int = 0
    wrong: int = 0
    slow: int = 0  # beyond what 95 % of the stable release's stayed below
    samples: int = 0
    ratio: float | None = None
    others: str = ""  # what callers of the stable release met besides 200
    p95_ratio: float = 1.0
    reason: str = field(default="", repr=False)


def _crash(place: Place, release: str, stop: threading.Event) -> None:
    """Kill every worker of a release as soon as it is there."""
    killed: set[int] = set()
    while not stop.wait(0.02):
        try:
            found = place.pids(release.partition("@")[0], "worker", release)
        except ModelyardError:
            continue
        for pid in found:
            if pid not in killed:
                killed.add(pid)
                kill(pid)


def _stop(place: Place, release: str, stop: threading.Event) -> None:
    """Stop the first worker of a release, a second after its traffic began."""
    stop.wait(1.0)
    for pid in place.pids(release.partition("@")[0], "worker", release):
        kill(pid, signal.SIGSTOP)


def _window(course: Course, place: int) -> Window:
    return course.windows[(course.state.stable, course.state.candidates[0])[place]]


def _level(course: Course, metric: str) -> float:
    found = claims(course.requirements, course.policy)
    claim = next(one for one in found if one.requirement.metric == metric)
    return levels(found, course.policy, 1)[claim.key].fail


def _of_rates(metric: str, stable: float, candidate: float) -> Reference:
    """Return the rows of the candidate that one look needs to tell two shares apart."""

    def rows(course: Course, took_s: Floats) -> float:
        claim = next(one for one in claims(course.requirements, course.policy) if one.requirement.metric == metric)
        arms = Assumed(mean=stable), Assumed(mean=candidate)
        return samples_for(claim.allowance, *arms, level=_level(course, metric), power=POWER, share=SHARE).candidate

    return rows


def _of_latency(course: Course, took_s: Floats) -> float:
    """Return the rows for the stable release's share beyond its limit, and that of the same requests, slower."""
    stable = _window(course, 0).counts.rates["latency_p95_ms~stable"]
    before = (stable.hits + 0.5) / (stable.trials + 1)
    after = float(np.mean(SLOWER * took_s > np.quantile(took_s, 1 - before)))
    return binomial_rows(before, after, level=_level(course, "latency_p95_ms"))


def binomial_rows(before: float, after: float, *, level: float) -> float:
    """Return the rows from which the exact test of a share against a known one has the power."""
    rows = np.arange(1, 5000)
    least = stats.binom.isf(level, rows, before)  # more hits than these are found
    power = stats.binom.sf(least, rows, after)
    return float(rows[int(np.argmax(power >= POWER))]) if power.max() >= POWER else float("nan")


def _of_cost(course: Course, took_s: Floats) -> float:
    """Return the rows for a mean and a spread that grow alike, by Student's test."""
    totals = _window(course, 0).counts.means["cost_per_thousand~stable"]
    mean = totals.total / totals.count
    spread = float(np.sqrt(max(1e-18, totals.squares / totals.count - mean**2)))
    rows = np.arange(2, 5000)
    error = spread * np.sqrt(DEARER**2 / rows + SHARE / (1 - SHARE) / rows)
    found = stats.nct.sf(stats.t.isf(_level(course, "cost_per_thousand"), rows - 1), rows - 1, mean / error)
    return float(rows[int(np.argmax(found >= POWER))])


def gap_rows(stable: tuple[float, float], candidate: tuple[float, float], *, part: float, level: float) -> float:
    """Return the candidate's rows that one look needs to tell two gaps between groups apart; `part` is one group's."""

    def arm(rates: tuple[float, float]) -> Assumed:
        variance = rates[0] * (1 - rates[0]) / part + rates[1] * (1 - rates[1]) / (1 - part)
        return Assumed(mean=rates[0] - rates[1], spread=float(np.sqrt(variance)))

    return samples_for(Allowance(), arm(stable), arm(candidate), level=level, power=POWER, share=SHARE).candidate


def _of_gap(course: Course, took_s: Floats) -> float:
    level = PAIR * _level(course, "demographic_parity_difference")
    return gap_rows((0.3, 0.3), (0.3, 0.2), part=0.5, level=level)


WIDE = {
    "error_rate": 0.5,
    "latency_p95_ms": 10_000,
    "accuracy": 0.5,
    "demographic_parity_difference": 0.9,
    "cost_per_thousand": 1000,
}  # margins that no case exceeds


def _one(metric: str) -> str:
    """Return five requirements, judged together: one allows no loss, and the others never fail."""
    more = {"demographic_parity_difference": ", group: group"}
    lines = [f"{{metric: {one}, margin: {0 if one == metric else wide}{more.get(one, '')}}}"
             for one, wide in WIDE.items()]  # fmt: skip
    return f"[{', '.join(lines)}]"


CASES = (
    Case(name="errors +2 points (1 % to 3 %)", stable=Fault(errors=0.01), candidate=Fault(errors=0.03),
         requirements=_one("error_rate"), metric="error_rate", reference=_of_rates("error_rate", 0.01, 0.03)),
    Case(name="p95 x1.5", candidate=GOOD, slower=SLOWER, requirements=_one("latency_p95_ms"), metric="latency_p95_ms",
         reference=_of_latency, work=WORK),
    Case(name="accuracy -3 points (0.85 to 0.82)", candidate=Fault(flips=0.03 / 0.7), requirements=_one("accuracy"),
         metric="accuracy", reference=_of_rates("accuracy", 0.85, 0.82), feedback=True, most_s=300.0),
    Case(name="positives of one group -10 points (0.30 to 0.20)", candidate=Fault(denies=1 / 3),
         requirements=_one("demographic_parity_difference"),
         metric="demographic_parity_difference", reference=_of_gap, most_s=240.0),
    Case(name="cost x2", candidate=Fault(work=2.15), requirements=_one("cost_per_thousand"),
         metric="cost_per_thousand", reference=_of_cost, work=WORK,
         serving=SERVING.replace("}", ", price_per_cpu_hour: 0.05}")),
    Case(name="NaN outputs (2 % of the rows)", candidate=Fault(nans=0.02)),
    Case(name="crash loop", candidate=AGAIN, saboteur=_crash),
    Case(name="memory leak", candidate=Fault(leaks=0.05, leaked_mb=LEAKED_MB),
         serving=SERVING.replace("}", f", memory_mb: {MEMORY_MB}}}")),
    Case(name="hang: a graph that loops", candidate=Fault(harm=Harm.SLOW, amount=10_000_000)),
    Case(name="hang: SIGSTOP", candidate=AGAIN, saboteur=_stop),
)  # fmt: skip


def _tuned(place: Place, slower: float, number: int, rate: float) -> float:
    """Return how many times the work takes so many times the p95: by trial, all releases side by side."""
    name = f"tuned-{number}"
    stable, same, more = seal(place.home, name, [GOOD, AGAIN, Fault(work=TRIAL)], Sealing())
    with place.service(stable) as port, calling(place, name, port, rate=rate, work=WORK) as load:
        with place.traffic.changes() as changes:
            shares = {stable: 1 - 2 * SHARE, same: SHARE, more: SHARE}
            changes.set_traffic(name, shares, expect_epoch=place.table(name).epoch, previous=stable)
        time.sleep(1.0)
        settled = time.monotonic()
        time.sleep(TRIAL_S)
        heard = load.finish()
    took = [heard.took_s[(heard.served_by == one) & (heard.due > settled)] for one in (stable, same, more)]
    ours, as_good, worked = (float(np.quantile(one, 0.95)) for one in took)
    return float(np.clip(1 + (TRIAL - 1) * (slower * ours - as_good) / max(1e-9, worked - as_good), 1.2, 8.0))


def measure(place: Place, case: Case, number: int, *, rate: float = RATE) -> Run:
    """Roll the candidate of a case out under load, once."""
    name = f"case{CASES.index(case)}-{number}"
    sealing = Sealing(requirements=case.requirements, serving=case.serving)
    faulty = case.candidate if case.slower is None else Fault(work=_tuned(place, case.slower, number, rate))
    stable, candidate = seal(place.home, name, [case.stable, faulty], sealing)
    folder = str(place.run_folder(name)) if case.feedback else None
    stop = threading.Event()
    harming = threading.Thread(target=lambda: case.saboteur and case.saboteur(place, candidate, stop), daemon=True)
    with place.service(stable) as port, calling(
        place, name, port, rate=rate, run_folder=folder, work=case.work, seed=number + 1
    ) as load:  # fmt: skip
        time.sleep(WARM_S)
        place.command("deploy", candidate)
        table = Traffic(epoch=2, shares={stable: 1 - SHARE, candidate: SHARE})
        harming.start()
        course = place.wait_ended(name, case.most_s)
        stop.set()
        course = course or place.course(name)
        time.sleep(AFTER_S)
        heard = load.finish()
    return _run(case, course, heard, heard.met(table, candidate, stable))


def _run(case: Case, course: Course | None, heard: Heard, met: np.ndarray) -> Run:
    assert course is not None
    candidate = course.state.candidates[0]
    back = course.state.back.get(candidate)
    run = Run(
        taken_back=course.ended is not None and course.ended.how is How.TAKEN_BACK and back is not None,
        cause="still open" if course.ended is None else back.cause.value if back else course.ended.how.value,
        requests=int(met.sum()),
        reason=course.ended.reason if course.ended is not None else "",
    )
    if met.any():
        run.exposed = float(heard.sent[met].max() - heard.sent[met].min())
        if course.ended is not None:
            run.lingered = float(heard.sent[met].max() - wall_to_monotonic(course.ended.at))
    bad = heard.failed | heard.degraded
    run.failed = int((met & heard.failed).sum())
    run.degraded = int((met & heard.degraded).sum())
    run.wrong = int((met & heard.wrong).sum())
    theirs, ours = heard.took_s[~met & ~bad], heard.took_s[met & ~bad]
    limit = np.quantile(theirs, 0.95)
    run.slow = int((ours > limit).sum())
    run.p95_ratio = float(np.quantile(ours, 0.95) / limit) if len(ours) > 20 else float("nan")
    run.others = statuses(heard, ~met & bad)
    _judged(case, course, run, theirs)
    return run


def _judged(case: Case, course: Course, run: Run, took_s: Floats) -> None:
    """Note how much of the candidate was seen at the decision, and the ratio to one look."""
    if case.metric is None or course.last is None:
        run.samples = _window(course, 1).counts.requests if course.windows else 0
        return
    ruling = next((one for one in course.last.rulings if one.requirement.startswith(case.metric)), None)
    run.samples = ruling.samples if ruling is not None else 0
    if case.metric == "demographic_parity_difference":  # a ruling tells the smaller group; the test sees both
        found = claims(course.requirements, course.policy)
        claim = next(one for one in found if one.requirement.metric == case.metric)
        groups = _window(course, 1).counts.groups.get(claim.counts[0], {})
        run.samples = sum(hits.trials for hits in groups.values())
    if case.reference is not None and run.samples and run.taken_back:
        run.ratio = run.samples / case.reference(course, took_s)


def regressions(home: Path, *, runs: int, only: Sequence[int] = (), rate: float = RATE) -> list[str]:
    """Measure all cases, or those at some places; return tables in Markdown."""
    place = Place(home)
    chosen = [case for number, case in enumerate(CASES) if not only or number in only]
    found: dict[str, list[Run]] = {case.name: [] for case in chosen}
    for case in chosen:
        for number in range(runs):
            found[case.name].append(measure(place, case, number, rate=rate))
            print(f"{case.name}: {found[case.name][-1]}", file=sys.stderr, flush=True)
    head = ["regression", "taken back", "cause", "first to last request, s", "decision to last, s", "requests of it",
            "failed", "degraded", "wrong", "slow", "samples", "median / 80th of one look"]  # fmt: skip
    rows = [_row(case, found[case.name]) for case in chosen]
    notes = [_note(case, found[case.name]) for case in chosen]
    return [
        f"Regressions under {rate:g} requests/s, a canary of {SHARE:.0%}, {runs} runs each (medians; ranges behind)",
        table_of(head, rows),
        *(note for note in notes if note),
    ]


def _row(case: Case, runs: Sequence[Run]) -> list[str]:
    ratios = sorted(run.ratio for run in runs if run.ratio is not None)
    told = ""
    if ratios:
        told = f"{statistics.median(ratios):.2f} / {float(np.quantile(ratios, 0.8)):.2f}"
    causes = sorted({run.cause for run in runs})
    return [
        case.name, f"{sum(run.taken_back for run in runs)} of {len(runs)}", ", ".join(causes),
        _middle([run.exposed for run in runs], ".1f"), _middle([run.lingered for run in runs], ".2f"),
        *(_middle([getattr(run, what) for run in runs], ".0f")
          for what in ("requests", "failed", "degraded", "wrong", "slow", "samples")),
        told,
    ]  # fmt: skip


def _note(case: Case, runs: Sequence[Run]) -> str:
    told = []
    if case.work:
        told.append(f"{case.name}: p95 as callers saw it was x{_middle([run.p95_ratio for run in runs], '.2f')}.")
    others = [run.others for run in runs if run.others]
    if others and not case.stable.errors:
        told.append(f"{case.name}: callers of the stable release met {'; '.join(others)}.")
    return " ".join(told)


def _middle(values: Sequence[float], form: str) -> str:
    low, high, mid = min(values), max(values), statistics.median(values)
    return f"{mid:{form}}" if f"{low:{form}}" == f"{high:{form}}" else f"{mid:{form}} ({low:{form}} to {high:{form}})"
