"""The gRPC door beside the peers that have one, in turn, loaded with h2load.

    python bench/service_grpc.py [--rounds 3] [--requests 20000] [--peers pytriton-batch,torchserve-batch,mlserver]

A call asks for one row of 30 float32 in raw contents; 64 calls are in flight (8 connections with 8 streams). The
environment names the harness as bench/service.py says; PyTriton needs its own libraries on LD_LIBRARY_PATH.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelyard.serve.grpc import wire
from service import COMMAND
from service import _harness as harness_of
from service_models import MODELS, rows, seal

INFER = "/inference.GRPCInferenceService/ModelInfer"
PREDICTIONS = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"
PORTS = {"mlserver": 1, "pytriton-batch": 1, "torchserve-batch": 3}  # of gRPC, above a peer's own
OURS = "modelyard"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--peers", default=",".join(PORTS))
    args = parser.parse_args()
    harness = harness_of()
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as place:
        home, scratch = Path(place) / "home", Path(place)
        port = 24_000
        release = seal(
            Path(os.environ["BENCH_MODELS"]), home, "tabular", serving=f"{{grpc_port: {port}, trace_sample: 0.01}}"
        )
        for number in range(args.rounds):
            for name in (OURS, *args.peers.split(",")):
                with (
                    _ours(release, home, port) if name == OURS else _peer(harness, name, 24_100 + 20 * number) as asked
                ):
                    body = scratch / "body"
                    body.write_bytes(_body("tabular" if name == OURS else "m", name))
                    path = PREDICTIONS if name.startswith("torchserve") else INFER
                    _load(asked, path, body, max(1000, args.requests // 10))
                    found.setdefault(name, []).append(_load(asked, path, body, args.requests))
                print(f"round {number + 1}: {name} {found[name][-1]:,.0f}/s", flush=True)
    for name, rates in found.items():
        print(f"{name:18} {statistics.median(rates):9,.0f}/s ({min(rates):,.0f} to {max(rates):,.0f})")
    if len(found) > 1:
        best = max((name for name in found if name != OURS), key=lambda name: statistics.median(found[name]))
        ratios = [ours / theirs for ours, theirs in zip(found[OURS], found[best], strict=True)]
        print(f"times {best}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), bar 2")


@contextmanager
def _ours(release: str, home: Path, port: int) -> Iterator[int]:
    environment = {**os.environ, "MODELYARD_HOME": str(home)}
    words = [*COMMAND, "serve", release, "--port", "0", "--detach"]
    subprocess.run(words, env=environment, stdout=subprocess.DEVNULL, check=True)
    try:
        yield port
    finally:
        subprocess.run([*COMMAND, "stop", "tabular"], env=environment, stdout=subprocess.DEVNULL, check=True)


@contextmanager
def _peer(harness: Any, name: str, port: int) -> Iterator[int]:
    server = harness.Server(name, "tabular", port)
    try:
        time.sleep(2.0)
        yield port + PORTS[name]
    finally:
        server.stop()


def _body(model: str, server: str) -> bytes:
    """Return one call's message, with gRPC's five bytes before it."""
    row = rows(MODELS["tabular"], 1)
    if server.startswith("torchserve"):
        given = json.dumps({"inputs": row.tolist()}).encode()
        message = wire.text(1, "m") + wire.blob(3, wire.text(1, "body") + wire.blob(2, given))
    else:
        shape = bytes((1, 30))
        tensor = wire.text(1, "x") + wire.text(2, "FP32") + wire.blob(3, shape)
        message = wire.text(1, model) + wire.blob(5, tensor) + wire.blob(7, row.tobytes())
    return struct.pack(">BI", 0, len(message)) + message


def _load(port: int, path: str, body: Path, requests: int) -> float:
    """Return the calls a second; ends where one failed."""
    words = ["h2load", "-n", str(requests), "-c", "8", "-m", "8", "-t", "1", "-d", str(body)]
    words += ["-H", "content-type: application/grpc", "-H", "te: trailers", f"http://127.0.0.1:{port}{path}"]
    said = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout
    done = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", said)
    rate = re.search(r", ([0-9.]+) req/s", said)
    if done is None or rate is None or int(done[1]) != requests:
        sys.exit(f"h2load on port {port}: {said}")
    return float(rate[1])


if __name__ == "__main__":
    main()
