"""The service, measured beside its peers in the same run.

    python bench/service.py [--quick] [--peers fastapi-w2,floor-py-batch] [--models tabular] [--rounds 3] [--secs 6]

The peers and the closed-loop load are those of a harness outside the project, named by the environment:
BENCH_HARNESS (its folder, with `bench.py` and `peers.py`), BENCH_VENVS (an environment a peer), BENCH_MODELS (graphs
and bodies), BENCH_TMP (logs and scratch). BENCH_AUTOGROUP lets the run outrank its neighbours on a shared machine.
Every round starts, warms, loads and stops each server in turn. The open loop is `modelyard bench`. Ends with one JSON
line of figures.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from service_models import seal

VARIABLES = ("BENCH_HARNESS", "BENCH_VENVS", "BENCH_MODELS", "BENCH_TMP")
OURS, REFERENCE, FLOOR = "modelyard", "fastapi-w2", "floor-py-batch"
COMMAND = [sys.executable, "-m", "modelyard"]
CONNECTIONS = (1, 64, 256)
WARM_S = 3
FIRST_PORT = 21000
STARTS = 5
OPEN_RATE, OPEN_P99_MS = 10_000, 50.0


@dataclass
class Figure:
    """One measured figure beside its bar; `spread` is an interval or a range over repetitions."""

    name: str
    value: float
    unit: str
    spread: str
    bar: str
    met: bool | None


@dataclass
class Seen:
    """What the rounds saw of one server at one number of connections."""

    rates: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    errors: int = 0
    pss: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    start_s: list[float] = field(default_factory=list)


Table = dict[tuple[str, str, int], Seen]  # (model, server, connections)


def main() -> None:
    """Measure and print."""
    options = _options()
    missing = [name for name in VARIABLES if name not in os.environ]
    if missing:
        sys.exit(f"Set {', '.join(missing)}: {__doc__}")
    harness = _harness()
    peers = options.peers.split(",")
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as place:
        home = Path(place) / "home"
        table: Table = {}
        for model in options.models.split(","):
            release = seal(Path(os.environ["BENCH_MODELS"]), home, model, serving=options.serving)
            rounds(harness, table, model, release, home, peers, options)
            show(table, model, [OURS, *peers])
            if model == "tabular":
                figures += ratios(table)
                figures.append(starts(release, home, 2 if options.quick else STARTS))
                figures += open_loop(release, home, seconds=10 if options.quick else 60)
    for one in figures:
        verdict = "" if one.met is None else "met" if one.met else "MISSED"
        print(f"{one.name:56} {one.value:12.3f} {one.unit:12} {one.spread:24} bar {one.bar:12} {verdict}")
    print(json.dumps({"figures": [asdict(one) for one in figures]}))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round; ends within a minute")
    parser.add_argument("--peers", default=f"{REFERENCE},{FLOOR}", help="names of the harness's table")
    parser.add_argument("--models", default="tabular")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--secs", type=int, default=6)
    parser.add_argument(
        "--serving", default="{trace_sample: 0.01}", help="the spec's serving section, as YAML in one line"
    )
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.secs = 1, 2
    return options


def _harness() -> Any:
    """Return the harness's own module: its loads and its peers are used as they are."""
    folder = Path(os.environ["BENCH_HARNESS"])
    sys.path.insert(0, str(folder))
    Path(os.environ["BENCH_TMP"]).mkdir(parents=True, exist_ok=True)
    harness = importlib.import_module("bench")
    harness.lift([os.getpid()])
    return harness


def rounds(
    harness: Any, table: Table, model: str, release: str, home: Path, peers: Sequence[str], options: argparse.Namespace
) -> None:
    """Start, warm, load and stop ours and each peer in turn, so many times."""
    port = FIRST_PORT
    for number in range(options.rounds):
        for name in (OURS, *peers):
            port += 10
            with (
                _ours(harness, model, release, home, port) if name == OURS else _peer(harness, name, model, port) as up
            ):
                harness.wrk(up["url"], up["body"], up["headers"], 16, WARM_S, [])
                for connections in CONNECTIONS:
                    got = harness.wrk(up["url"], up["body"], up["headers"], connections, options.secs, up["pids"]())
                    _note(
                        table.setdefault((model, name, connections), Seen()),
                        got,
                        harness.mem(up.get("pair", up["pids"])())[0],
                        up,
                    )
            print(f"{model} round {number + 1}: {name} done", file=sys.stderr)


@contextlib.contextmanager
def _peer(harness: Any, name: str, model: str, port: int) -> Iterator[Mapping[str, Any]]:
    server = harness.Server(name, model, port)
    try:
        yield {
            "url": server.url, "body": server.body, "headers": server.headers, "pids": server.pids,
            "start_s": server.start,
        }  # fmt: skip
    finally:
        server.stop()


@contextlib.contextmanager
def _ours(harness: Any, model: str, release: str, home: Path, port: int) -> Iterator[Mapping[str, Any]]:
    """Serve the release as anyone would: the command, its own processes, everything on."""
    environment = {**os.environ, "MODELYARD_HOME": str(home)}
    begun = time.monotonic()
    words = [*COMMAND, "serve", release, "--port", str(port), "--detach", "--json"]
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"serve ended with {done.returncode}: {done.stdout}")
    start_s = time.monotonic() - begun
    name = release.partition("@")[0]
    harness.lift(harness.listeners(port))
    try:
        yield {
            "url": f"http://127.0.0.1:{port}/v2/models/{name}/infer",
            "body": Path(os.environ["BENCH_MODELS"]) / f"{model}.v2.json",
            "headers": "Content-Type: application/json",
            "pids": lambda: harness.listeners(port),
            "pair": lambda: _front_and_worker(home, name),
            "start_s": start_s,
        }
    finally:
        subprocess.run([*COMMAND, "stop", name], env=environment, stdout=subprocess.DEVNULL, check=False)


def _front_and_worker(home: Path, name: str) -> list[int]:
    """Return the processes that a request passes through."""
    run = json.loads((home / "run" / name / "run.json").read_bytes())
    return [child["pid"] for child in run["children"]]


def _note(seen: Seen, got: Mapping[str, Any], pss: float, up: Mapping[str, Any]) -> None:
    seen.rates.append(got["rps"])
    seen.p50.append(got.get("p50", float("nan")))
    seen.p99.append(got.get("p99", float("nan")))
    seen.errors += got.get("err", 1)
    seen.pss.append(pss)
    seen.cpu_us.append(got.get("cpu_us", float("nan")))
    seen.start_s.append(up["start_s"])


def show(table: Table, model: str, servers: Sequence[str]) -> None:
    """Print one model's table: medians of the rounds."""
    head = " ".join(f"{f'{one} conn: req/s (p50 / p99 ms)':>32}" for one in CONNECTIONS)
    print(f"\n{model:18} {head} {'CPU us':>8} {'PSS MiB':>8} {'start s':>8} {'errors':>7}")
    for name in servers:
        cells = []
        for connections in CONNECTIONS:
            seen = table[model, name, connections]
            cells.append(f"{_mid(seen.rates):,.0f} ({_mid(seen.p50):.2f} / {_mid(seen.p99):.2f})")
        last = table[model, name, CONNECTIONS[-1]]
        errors = sum(table[model, name, one].errors for one in CONNECTIONS)
        print(
            f"{name:18} " + " ".join(f"{cell:>32}" for cell in cells)
            + f" {_mid(last.cpu_us):8.1f} {_mid(last.pss):8.0f} {_mid(last.start_s):8.2f} {errors:7}"
        )  # fmt: skip


def ratios(table: Table) -> list[Figure]:
    """Return what ours must reach beside the peers of the same run; a peer that was left out leaves its line out."""
    at64, at256, alone = (table["tabular", OURS, one] for one in (64, 256, 1))
    found = []
    for peer, bar in ((REFERENCE, 5.0), (FLOOR, 0.5)):
        other = table.get(("tabular", peer, 64))
        if other is not None:
            each = [ours / theirs for ours, theirs in zip(at64.rates, other.rates, strict=True)]
            found.append(_at_least(f"requests/s at 64 connections, times {peer}", each, "times", bar))
    found.append(_below("p99 at 64 connections", at64.p99, "ms", 4.0))
    found.append(_below("p99 at 256 connections", at256.p99, "ms", 12.0))
    found.append(Figure("errors at 256 connections", at256.errors, "", "", "0", at256.errors == 0))
    floor = table.get(("tabular", FLOOR, 1))
    if floor is not None:
        above = [ours - theirs for ours, theirs in zip(alone.p50, floor.p50, strict=True)]
        found.append(_below(f"p50 at one connection, above {FLOOR}", above, "ms", 0.12))
    found.append(_below("memory of front and worker", [one * 1.048576 for one in at64.pss], "MB PSS", 110.0))
    detached = at64.start_s
    found.append(Figure("from `serve --detach` to its return", _mid(detached), "s", _range(detached), "", None))
    return found


def starts(release: str, home: Path, count: int) -> Figure:
    """Return how long `modelyard serve` takes until it says that it is ready."""
    environment = {**os.environ, "MODELYARD_HOME": str(home)}
    name, found = release.partition("@")[0], []
    for number in range(count):
        port = FIRST_PORT - 1 - number
        begun = time.monotonic()
        words = [*COMMAND, "serve", release, "--port", str(port)]
        process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not _is_ready(port):
            if process.poll() is not None or time.monotonic() - begun > 60:
                sys.exit(f"serve ended with {process.returncode}, or is not ready after 60 s")
            time.sleep(0.005)
        found.append(time.monotonic() - begun)
        subprocess.run([*COMMAND, "stop", name], env=environment, stdout=subprocess.DEVNULL, check=False)
        process.wait(30)
    return _below("from `serve` to ready", found, "s", 1.5)


def _is_ready(port: int) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready") as reply:
        return reply.status == 200
    return False


def open_loop(release: str, home: Path, *, seconds: float) -> list[Figure]:
    """Return the open loop's figures, by `modelyard bench` on a service of the release."""
    environment = {**os.environ, "MODELYARD_HOME": str(home)}
    words = [
        *COMMAND, "bench", release, "--rate", str(OPEN_RATE), "--arrivals", "constant", "--seconds", str(seconds),
        "--p99-ms", str(OPEN_P99_MS), "--json", "--path", f"/v2/models/{release.partition('@')[0]}/infer",
        "--body", str(Path(os.environ["BENCH_MODELS"]) / "tabular.v2.json"),
    ]  # fmt: skip
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    report = json.loads(done.stdout)
    result = report.get("result")
    if result is None:
        sys.exit(f"bench ended with {done.returncode}: {done.stdout}")
    p99 = next(one for one in result["latency"] if one["q"] == 0.99)
    failed = sum(count for kind, count in result["failures"].items() if kind != "by_status")
    where = f"open loop, {OPEN_RATE} requests/s for {seconds:g} s"
    for line in (*result["unsettled"], *result["cautions"]):
        print(f"{where}: {line}", file=sys.stderr)
    return [
        Figure(f"{where}: p99", p99["value_ms"], "ms", f"{p99['low_ms']} to {p99['high_ms']}", f"< {OPEN_P99_MS:g}",
               result["verdict"] == "pass"),
        Figure(f"{where}: failed", failed, "requests", "", "0", failed == 0),
        Figure(f"{where}: degraded", result["degraded"], "requests", "", "", None),
    ]  # fmt: skip


def _at_least(name: str, values: Sequence[float], unit: str, bar: float) -> Figure:
    return Figure(name, _mid(values), unit, _range(values), f">= {bar:g}", _mid(values) >= bar)


def _below(name: str, values: Sequence[float], unit: str, bar: float) -> Figure:
    return Figure(name, _mid(values), unit, _range(values), f"< {bar:g}", _mid(values) < bar)


def _mid(values: Sequence[float]) -> float:
    return statistics.median(values)


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.3f} to {max(values):.3f}" if len(values) > 1 else ""


if __name__ == "__main__":
    main()
