"""ADDRESS MODEL MARK CERT: probe a gRPC service with grpc's own health client, and watch it until it goes.

MARK is a file that is written once the watch has begun; CERT is empty where the service does not speak TLS.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-not-found,import-untyped,unused-ignore]
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

TIMEOUT_S = 20.0
WATCH_S = 90.0
STATES = health_pb2.HealthCheckResponse.ServingStatus


def main(address: str, model: str, mark: str, cert: str) -> None:
    with _channel(address, cert) as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        def check(service: str) -> str:
            asked = health_pb2.HealthCheckRequest(service=service)
            return str(_said(lambda: STATES.Name(stub.Check(asked, timeout=TIMEOUT_S).status)))

        told: dict[str, Any] = {
            "server": check(""),
            "model": check(model),
            "protocol": check("inference.GRPCInferenceService"),
            "stranger": check("stranger"),
            "stranger watched": _first(stub, "stranger"),
            "listed": _said(lambda: _listed(stub)),
        }
        told["watched"], told["ended"] = _watch(stub, model, Path(mark))
    sys.stdout.write(json.dumps(told) + "\n")


def _channel(address: str, cert: str) -> Any:
    if not cert:
        return grpc.insecure_channel(address)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(Path(cert).read_bytes()))


def _listed(stub: Any) -> dict[str, str]:
    found = stub.List(health_pb2.HealthListRequest(), timeout=TIMEOUT_S).statuses
    return {name: STATES.Name(one.status) for name, one in found.items()}


def _first(stub: Any, service: str) -> str:
    """Return what one who watches is told at once."""
    watched = stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT_S)
    state: str = STATES.Name(next(watched).status)
    watched.cancel()
    return state


def _watch(stub: Any, service: str, mark: Path) -> tuple[list[str], str]:
    """Return every state that is told until the stream ends, and how it ended."""
    states = []
    try:
        for told in stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=WATCH_S):
            states.append(STATES.Name(told.status))
            mark.touch()
    except grpc.RpcError as fault:
        return states, str(fault.code())
    return states, "closed"


def _said(act: Callable[[], Any]) -> Any:
    try:
        return act()
    except grpc.RpcError as fault:
        return str(fault.code())


if __name__ == "__main__":
    main(*sys.argv[1:])
