"""A service for one measurement: a worker and a front over a packed body, asked through the real HTTP door."""

from __future__ import annotations

import contextlib
import http.client
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from modelyard.bundle.format import Body
from modelyard.bundle.open import Answers, read_body
from modelyard.core.arrays import Array, Columns
from modelyard.core.codec import encode_pretty
from modelyard.core.contract import Column, Kind
from modelyard.core.metrics import Task
from modelyard.core.release import Traffic
from modelyard.errors import ServiceError
from modelyard.serve.keep.children import Spawn
from modelyard.serve.keep.processes import listen
from modelyard.serve.messages import ERROR_FILE, BodyRef, FrontJob, Limits, Routes, WorkerJob
from modelyard.serve.v2.slots import DATATYPES

START_TIMEOUT_S = 60.0
REQUEST_TIMEOUT_S = 60.0


def endpoint_answers(folder: Path, batches: Iterable[Columns], *, spawn: Spawn) -> Answers:
    """Answer the batches, in order, through a service that is started for them, and put the answers together.

    `batches` have the feature columns as `Columns` holds them, at most 10 000 rows each. Raises: ServiceError where
    the service does not start or an answer is not complete.
    """
    body = read_body(folder)
    with serve_rows(folder, body, spawn=spawn) as port:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_TIMEOUT_S)
        with contextlib.closing(client):
            return _together(body, [_ask(client, body, batch) for batch in batches])


@contextlib.contextmanager
def serve_rows(folder: Path, body: Body, *, spawn: Spawn) -> Iterator[int]:
    """Run a worker and a front over the body in `folder` on a loopback port of their own; yield the port."""
    release = f"{body.manifest.name}@1"  # the door needs a version; nothing is sealed yet
    ref = BodyRef(folder=str(folder), digest=body.digest)
    routes = Routes(traffic=Traffic(epoch=0, shares={release: 1.0}), bodies={release: ref})
    limits = Limits(deadline_ms=REQUEST_TIMEOUT_S * 1000, most_deadline_ms=REQUEST_TIMEOUT_S * 1000, batch_rows=1024)
    with contextlib.ExitStack() as stack:
        run_folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="modelyard-probe-"))
        sock = stack.enter_context(listen("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        worker_job = WorkerJob(release=release, slot=0, body=ref, run_folder=run_folder)
        front_job = FrontJob(
            service=body.manifest.name, run_folder=run_folder, listen_fd=sock.fileno(), routes=routes, limits=limits
        )
        processes = []
        for process in (
            spawn("worker", encode_pretty(worker_job)),
            spawn("front", encode_pretty(front_job), pass_fds=(sock.fileno(),)),
        ):
            processes.append(process)
            stack.callback(_end, process)
        _wait_ready(port, processes)
        yield port


def request_bytes(body: Body, columns: Columns) -> bytes:
    """Return the protocol's JSON for feature columns; missing values are null."""
    rows = len(columns)
    inputs = []
    for column in body.contract.features:
        values = columns[column.name]
        datatype = column.datatype if column.kind is Kind.TENSOR else DATATYPES[column.kind]
        shape = [rows, *values.shape[1:]]
        inputs.append({"name": column.name, "datatype": datatype, "shape": shape, "data": json_values(column, values)})
    return msgspec.json.encode({"inputs": inputs})


def json_values(column: Column, values: Array) -> list[Any]:
    """Return a column as JSON has it: numbers, booleans, strings, ISO 8601 moments in UTC; missing is None.

    A tensor's elements are flat. The decimals of a number are those of its 64-bit form, which every narrower one has
    exactly.
    """
    if column.kind is Kind.TENSOR:
        return [None if element != element else element for element in values.reshape(-1).tolist()]
    if column.kind.is_string:
        return list(values.tolist())
    if column.kind.is_time:
        moments = np.asarray(values, dtype="datetime64[us]")
        texts = np.datetime_as_string(moments, unit="us").tolist()
        return [
            None if missing else f"{text}Z" for text, missing in zip(texts, np.isnat(moments).tolist(), strict=True)
        ]
    numbers = np.asarray(values, dtype=np.float64).tolist()
    if column.kind is Kind.INTEGER:
        return [None if number != number else int(number) for number in numbers]
    if column.kind is Kind.BOOLEAN:
        return [None if number != number else bool(number) for number in numbers]
    return [None if number != number else number for number in numbers]


def _ask(client: http.client.HTTPConnection, body: Body, columns: Columns) -> Answers:
    path = f"/v2/models/{body.manifest.name}/infer"
    headers = {"Content-Type": "application/json"}
    try:
        client.request("POST", path, body=request_bytes(body, columns), headers=headers)
        reply = client.getresponse()
        data = reply.read()
    except OSError as fault:
        raise ServiceError(f"The service that was started for the measurement went away: {fault}.") from fault
    if reply.status != http.client.OK or reply.headers.get("X-Degraded") is not None:
        raise ServiceError(
            f"The service answered {reply.status} ({reply.headers.get('X-Degraded') or 'not degraded'}): "
            f"{data[:500].decode(errors='replace')}"
        )
    outputs = {output["name"]: output["data"] for output in msgspec.json.decode(data)["outputs"]}
    if body.manifest.task is Task.REGRESSION:
        return Answers(values=np.array(outputs["value"], dtype=np.float64))
    labels = np.array(outputs["label"], dtype=object)
    table = np.array(outputs["probabilities"], dtype=np.float32).reshape(len(columns), -1)
    return Answers(labels=labels, probabilities=table)


def _together(body: Body, answers: list[Answers]) -> Answers:
    if body.manifest.task is Task.REGRESSION:
        return Answers(values=np.concatenate([np.empty(0), *(answer.values for answer in answers)]))
    return Answers(
        labels=np.concatenate([np.empty(0, dtype=object), *(answer.labels for answer in answers)]),
        probabilities=np.concatenate(
            [
                np.empty((0, len(body.manifest.classes)), dtype=np.float32),
                *(answer.probabilities for answer in answers),
            ]
        ),
    )


def _wait_ready(port: int, processes: list[subprocess.Popen[bytes]]) -> None:
    """Wait until the golden requests were answered through the worker; raises ServiceError where they are not."""
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end:
        for process in processes:
            if process.poll() is not None:
                raise ServiceError(
                    f"A process of the service ended with code {process.returncode} while it started; "
                    f"what it said is in `{ERROR_FILE}` of the folder that the spawner writes to."
                )
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
        with contextlib.closing(client), contextlib.suppress(OSError):
            client.request("GET", "/v2/health/ready")
            if client.getresponse().status == http.client.OK:
                return
        time.sleep(0.01)
    raise ServiceError(f"The service was not ready within {START_TIMEOUT_S:g} s.")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
