"""Models that fill the machine: what the service brings of what ONNX Runtime brings by itself, in turn.

    python bench/service_heavy.py [--models cnn,encoder] [--rounds 3] [--secs 8]

In process: sessions on one and two threads, alone and two side by side in one process, batches of 1, 4 and 8. The best
of a first look is the reference; since the best of ten noisy looks is mostly a lucky one, it is measured afresh, before
and behind the service, and their mean counts. The service: the command, as it was measured at sealing, asked over the
protocol's binary form in a closed loop. Both run the very same graph. The environment names the harness as
bench/service.py says.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnxruntime as ort

from service import COMMAND
from service import _harness as harness_of
from service_models import MODELS, rows, seal

DEADLINE_MS = 10_000
CONNECTIONS = (4, 16)
LAYOUTS = list(itertools.product((1, 2), (1, 2), (1, 4, 8)))  # threads, sessions side by side, batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="cnn,encoder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--secs", type=float, default=8)
    parser.add_argument("--inside", help="measure one model in process and print rows a second by layout")
    parser.add_argument("--layout", help="with --inside: this one only")
    args = parser.parse_args()
    if args.inside:
        print(json.dumps(inside(Path(args.inside), args.secs, args.layout)))
        return
    harness = harness_of()
    serving = f"{{deadline_ms: {DEADLINE_MS}}}"
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as place:
        home = Path(place) / "home"
        for name in args.models.split(","):
            release = seal(Path(os.environ["BENCH_MODELS"]), home, name, serving=serving, deadline_ms=DEADLINE_MS)
            compare(harness, name, release, home, args)


def compare(harness: Any, name: str, release: str, home: Path, args: argparse.Namespace) -> None:
    """Measure both in turn, and print the ratio of each round."""
    body = next(path.parent for path in (home / "bodies").glob("**/manifest.json")
                if json.loads(path.read_bytes())["name"] == name)  # fmt: skip
    (record,) = (home / "releases" / name).glob("*/evidence/*-sweep-*.json")
    chosen = json.loads(record.read_bytes())["payload"]["chosen"]
    print(f"{name}: sealed for {chosen['workers']} workers of {chosen['threads']} threads, "
          f"batches of up to {chosen['batch_rows']}")  # fmt: skip
    request = Path(os.environ["BENCH_TMP"]) / f"{name}.request"
    head = write_request(name, request)
    ratios, ours_all, theirs_all = [], [], []
    for number in range(args.rounds):
        found = look_inside(body, args.secs / 4)
        best = max(found, key=found.__getitem__)
        before = look_inside(body, args.secs, best)[best]
        with serving_release(release, home, 23_000 + number) as url:
            headers = f"Content-Type: application/octet-stream\nInference-Header-Content-Length: {head}"
            harness.wrk(url, request, headers, 4, 2, [])
            tries = {c: harness.wrk(url, request, headers, c, max(1, round(args.secs)), []) for c in CONNECTIONS}
        most = max(CONNECTIONS, key=lambda c: tries[c]["rps"])
        errors = sum(one["err"] for one in tries.values())
        behind = look_inside(body, args.secs, best)[best]
        reference = (before + behind) / 2
        ours_all.append(tries[most]["rps"])
        theirs_all.append(reference)
        ratios.append(tries[most]["rps"] / reference)
        print(f"{name} round {number + 1}: in process ({best}) {before:.1f} and {behind:.1f}/s, "
              f"at first {found[best]:.1f}; "
              f"service {tries[most]['rps']:.1f}/s at {most} connections, p99 {tries[most]['p99']:.0f} ms, "
              f"errors {errors}; {ratios[-1]:.3f}", flush=True)  # fmt: skip
    print(f"{name}: {statistics.median(ours_all):.1f}/s of {statistics.median(theirs_all):.1f}/s, "
          f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}), bar 0.95")  # fmt: skip


def look_inside(body: Path, secs: float, layout: str | None = None) -> dict[str, float]:
    """Measure layouts in a process of their own."""
    words = [sys.executable, __file__, "--inside", str(body), "--secs", str(secs)]
    words += [] if layout is None else ["--layout", layout]
    found: dict[str, float] = json.loads(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout)
    return found


def write_request(name: str, path: Path) -> int:
    """Write one request in the protocol's binary form; return the length of its JSON."""
    array = rows(MODELS[name], 1)
    tensor = {"name": "x", "shape": list(array.shape), "datatype": MODELS[name].datatype,
              "parameters": {"binary_data_size": array.nbytes}}  # fmt: skip
    outputs = [{"name": "probabilities", "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": [tensor], "outputs": outputs}).encode()
    path.write_bytes(head + array.tobytes())
    return len(head)


@contextmanager
def serving_release(release: str, home: Path, port: int) -> Iterator[str]:
    """Serve a release as anyone would; yield where it is asked."""
    environment = {**os.environ, "MODELYARD_HOME": str(home)}
    words = [*COMMAND, "serve", release, "--port", str(port), "--detach"]
    subprocess.run(words, env=environment, stdout=subprocess.DEVNULL, check=True)
    name = release.partition("@")[0]
    try:
        yield f"http://127.0.0.1:{port}/v2/models/{name}/infer"
    finally:
        subprocess.run([*COMMAND, "stop", name], env=environment, stdout=subprocess.DEVNULL, check=True)


def inside(body: Path, secs: float, only: str | None) -> dict[str, float]:
    """Return rows a second in this process, by layout."""
    name = json.loads((body / "manifest.json").read_bytes())["name"]
    found = {}
    for threads, side_by_side, batch in LAYOUTS:
        key = f"{threads} threads, {side_by_side} sessions, batch {batch}"
        if threads * side_by_side > (os.cpu_count() or 1) or only not in (None, key):
            continue
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        sessions = [
            ort.InferenceSession(str(body / "model.onnx"), options, providers=["CPUExecutionProvider"])
            for _ in range(side_by_side)
        ]
        given = {"x": rows(MODELS[name], batch)}
        for session in sessions:
            session.run(None, given)
        counts = [0] * side_by_side
        end = time.perf_counter() + secs

        def run(
            place: int, sessions: Any = sessions, given: Any = given, counts: Any = counts, end: float = end
        ) -> None:
            while time.perf_counter() < end:
                sessions[place].run(None, given)
                counts[place] += 1

        began = time.perf_counter()
        running = [threading.Thread(target=run, args=(place,)) for place in range(side_by_side)]
        for one in running:
            one.start()
        for one in running:
            one.join()
        found[key] = sum(counts) * batch / (time.perf_counter() - began)
    return found


if __name__ == "__main__":
    main()
