"""Measure what a shadow release costs callers: the same service with and without one, in turn.

    PYTHONPATH=. python bench/shadow.py [--rates 1000,2000] [--rounds 12] [--secs 8] [--harm slow]

All requests are copied. Each round measures both, in an order that changes from round to round, in an open loop that
sends on a clock. Told are the medians of the rounds, and the ratio of each round's two p99: their median, with an
interval of 95 % for it from the order of the ratios, which asks nothing of how they scatter. Ends with one JSON line.
The service, and its small release, are those of the tests; it needs nothing but this repository.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from scipy import stats
from tests.serve.bodies import ROW, write_body
from tests.serve.entry import changes
from tests.serve.running import Running, service
from tests.serve.spoiled import spoil
from tests.serve.test_deploy import row_of

from modelyard.adapters.onnx_harm import Harm
from modelyard.core.load import Arrivals, LoadPlan, LoadResult
from modelyard.loadtest.address import parse_address
from modelyard.loadtest.measure import Subject, measure
from modelyard.serve.messages import Limits

STABLE, SHADOW = "income@1", "income@2"
WARM_S = 1.0
BAR = 1.03
SLOW_TURNS = 20  # of work in each batch of a slow shadow: some 20 ms


class Quiet:
    """A progress that says nothing."""

    def stage(self, name: str, *, total: float | None = None) -> None: ...

    def advance(self, done: float, note: str = "") -> None: ...

    def say(self, line: str) -> None: ...


@dataclass(frozen=True)
class Cost:
    """What was measured at one rate."""

    rate: int
    p50_off_ms: float
    p50_on_ms: float
    p99_off_ms: float
    p99_on_ms: float
    ratio: float  # median of the rounds' p99 with a shadow over without
    low: float
    high: float
    failed: int  # requests without a good answer, and degraded ones
    copied: int
    fates: dict[str, int]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="1000,2000")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--secs", type=float, default=8)
    parser.add_argument("--harm", choices=[Harm.SLOW, Harm.NAN], help="have the shadow do harm")
    args = parser.parse_args()
    costs = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        bodies = {name: write_body(folder / name) for name in (STABLE, SHADOW)}
        if args.harm:
            bodies[SHADOW] = spoil(folder / SHADOW, Harm(args.harm), amount=SLOW_TURNS)
        known = {name: (folder / name, sha) for name, sha in bodies.items()}
        with service(folder / "income", known, limits=Limits()) as running:
            switch(running, on=True)
            for rate in map(int, args.rates.split(",")):
                costs.append(cost(running, rate, args.rounds, args.secs))
    print("| requests/s | p50 off, on (ms) | p99 off, on (ms) | p99 ratio (95 %) | failed | copied | outcomes |")
    print("|---|---|---|---|---|---|---|")
    for one in costs:
        print(
            f"| {one.rate:,} | {one.p50_off_ms:.3f}, {one.p50_on_ms:.3f} | {one.p99_off_ms:.3f}, {one.p99_on_ms:.3f} "
            f"| {one.ratio:.3f} ({one.low:.3f} to {one.high:.3f}) | {one.failed} | {one.copied:,} | {one.fates} |"
        )
    print(json.dumps({"bar": BAR, "rates": [asdict(one) for one in costs]}))


def cost(running: Running, rate: int, rounds: int, secs: float) -> Cost:
    """Measure one rate."""
    seen: dict[bool, list[LoadResult]] = {False: [], True: []}
    copied, fates = counts(running)
    for turn in range(rounds):
        for on in (turn % 2 == 0, turn % 2 == 1):
            switch(running, on=on)
            seen[on].append(load(running, rate, secs))
        last = [quantile(seen[on][-1], 0.99) for on in (False, True)]
        print(f"rate {rate}, round {turn + 1}: p99 off {last[0]:.3f} ms, on {last[1]:.3f} ms", flush=True)
    ratios = [quantile(on, 0.99) / quantile(off, 0.99) for off, on in zip(seen[False], seen[True], strict=True)]
    low, high = interval(ratios)
    after, ended = counts(running)
    every = [*seen[False], *seen[True]]
    return Cost(
        rate=rate,
        p50_off_ms=statistics.median(quantile(one, 0.5) for one in seen[False]),
        p50_on_ms=statistics.median(quantile(one, 0.5) for one in seen[True]),
        p99_off_ms=statistics.median(quantile(one, 0.99) for one in seen[False]),
        p99_on_ms=statistics.median(quantile(one, 0.99) for one in seen[True]),
        ratio=statistics.median(ratios),
        low=low,
        high=high,
        failed=sum(one.due - one.answered + one.degraded for one in every),
        copied=after - copied,
        fates={fate: rows - fates.get(fate, 0) for fate, rows in ended.items() if rows > fates.get(fate, 0)},
    )


def switch(running: Running, *, on: bool) -> None:
    """Let the shadow get copies of all requests, or of none; it stays loaded."""
    epoch = row_of(running.folder).traffic.epoch
    shadow = {SHADOW: 1.0 if on else 0.0}
    changes(running.folder).set_traffic("income", {STABLE: 1.0, SHADOW: 0.0}, shadow=shadow, expect_epoch=epoch)


def load(running: Running, rate: int, secs: float) -> LoadResult:
    """Ask one row a request, at a rate."""
    address = parse_address(f"http://127.0.0.1:{running.port}/predict")
    body = json.dumps({"rows": [ROW]}).encode()
    plan = LoadPlan(arrivals=Arrivals.POISSON, rate=rate, connections=64, seconds=secs, warmup_s=WARM_S)
    return measure(Subject(address=address, bodies=[body]), plan, Quiet())


def quantile(result: LoadResult, q: float) -> float:
    """Return a latency in milliseconds."""
    found = result.quantile(q)
    assert found is not None
    return found.value_ms


def counts(running: Running) -> tuple[int, dict[str, int]]:
    """Return the rows copied so far, and by outcome."""
    fates: dict[str, int] = {}
    for line in running.ask("GET", "/metrics").data.decode().splitlines():
        if line.startswith("modelyard_shadow_rows_total"):
            fates[line.split('"')[3]] = int(float(line.rpartition(" ")[2]))
    return int(running.metric("modelyard_shadow_copied_rows_total")), fates


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return an interval of at least 95 % for the median, from the order of the values; of few, all of them.

    Source: Conover, 1999, "Practical Nonparametric Statistics", section 3.2.
    """
    ordered, count = sorted(values), len(values)
    cut = int(stats.binom.ppf(0.025, count, 0.5))
    return ordered[max(0, cut - 1)], ordered[min(count - 1, count - cut)]


if __name__ == "__main__":
    main()
