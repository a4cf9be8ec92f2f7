"""A caller of a service's gRPC front, made of grpcio and of messages that are not ours."""

from __future__ import annotations

import socket
from typing import Any

import grpc
import numpy as np
import polars as pl

from tests.serve.grpc_protos import infer_request, of

ROOT = "inference.GRPCInferenceService"
SERVING = 1  # of grpc.health.v1
TIMEOUT_S = 20.0
DATATYPES = {"age": "INT64", "city": "BYTES", "hours": "FP64"}  # of the columns of `shop`
Caller = list[tuple[str, str]]
NOBODY: Caller = []


def free_port() -> int:
    """Return a port that is free now; a spec names its port of gRPC."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
        return port


def check(channel: grpc.Channel, name: str = "", *, patient: bool = True) -> int:
    """Probe as a platform does, which has no key; one without patience fails where it cannot connect."""
    request = of("HealthCheckRequest")(service=name)
    answer = _ask(channel, "grpc.health.v1.Health/Check", request, "HealthCheckResponse", NOBODY, patient=patient)
    state: int = answer.status
    return state


def is_server_ready(channel: grpc.Channel) -> bool:
    ready: bool = _ask(channel, f"{ROOT}/ServerReady", of("Nothing")(), "Yes", NOBODY).yes
    return ready


def infer(channel: grpc.Channel, rows: pl.DataFrame, caller: Caller = NOBODY) -> tuple[list[str], Any]:
    """Ask `shop` for rows without gaps; return their labels and probabilities."""
    columns = {name: (datatype, _elements(rows[name])) for name, datatype in DATATYPES.items()}
    request = infer_request("shop", **columns)
    label, shares = _ask(channel, f"{ROOT}/ModelInfer", request, "ModelInferResponse", caller).outputs
    values = np.array(shares.contents.fp32_contents).reshape(list(shares.shape))
    return [one.decode() for one in label.contents.bytes_contents], values


def _elements(column: pl.Series) -> list[Any]:
    return [one.encode() if isinstance(one, str) else one for one in column.to_list()]


def _ask(channel: grpc.Channel, method: str, request: Any, answer: str, caller: Caller, *, patient: bool = True) -> Any:
    stub = channel.unary_unary(f"/{method}", type(request).SerializeToString, of(answer).FromString)
    return stub(request, metadata=caller, timeout=TIMEOUT_S, wait_for_ready=patient)
