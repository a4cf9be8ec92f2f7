"""ADDRESS MODEL ROWS: ask a service over the Open Inference Protocol's gRPC with an independent client."""

from __future__ import annotations

import json
import queue
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-not-found,import-untyped,unused-ignore]
import numpy as np
import tritonclient.grpc as triton  # type: ignore[import-not-found]
from tritonclient.grpc import service_pb2, service_pb2_grpc

TYPES = {"INT64": np.int64, "FP64": np.float64, "BYTES": np.object_, "BOOL": np.bool_}
TIMEOUT_S = 20.0


def main(address: str, model: str, rows: str) -> None:
    client = triton.InferenceServerClient(address)
    metadata = client.get_model_metadata(model, as_json=True)
    named = json.loads(Path(rows).read_text())
    inputs = [_input(wanted, named[wanted["name"]]) for wanted in metadata["inputs"]]
    outputs = [triton.InferRequestedOutput(output["name"]) for output in metadata["outputs"]]
    answer = client.infer(
        model,
        inputs,
        model_version="1",
        outputs=outputs,
        request_id="asked-1",
        headers={"x-request-id": "header-1"},
        client_timeout=TIMEOUT_S,
        parameters={"note": "mine"},
    )
    told = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready(model),
        "version_ready": client.is_model_ready(model, "1"),
        "server": client.get_server_metadata(as_json=True),
        "metadata": metadata,
        "index": client.get_model_repository_index(as_json=True),
        "config": client.get_model_config(model, as_json=True)["config"]["name"],
        "statistics": client.get_inference_statistics(model, as_json=True)["model_stats"][0]["name"],
        "traces": client.get_trace_settings(as_json=True)["settings"]["trace_level"]["value"],
        "id": answer.get_response().id,
        "outputs": _outputs(answer),
        "gzip": _outputs(client.infer(model, inputs, compression_algorithm="gzip")),
        "typed": _typed(address, model, inputs, named),
        "many": _many(client, model, inputs),
        "stream": _stream(client, model, inputs),
        "refused": {
            "stranger": _code(lambda: client.is_model_ready("stranger")),
            "version": _code(lambda: client.infer(model, inputs, model_version="9")),
            "output": _code(lambda: client.infer(model, inputs, outputs=[triton.InferRequestedOutput("x")])),
            "missing": _code(lambda: client.infer(model, inputs[1:])),
            "load": _code(lambda: client.load_model(model)),
            "unload": _code(lambda: client.unload_model(model)),
            "memory": _code(client.get_system_shared_memory_status),
        },
    }
    client.close()
    sys.stdout.write(json.dumps(told) + "\n")


def _input(wanted: dict[str, Any], values: list[Any]) -> Any:
    """Return a tensor; (rows, 1) for numbers and (rows,) for strings, since both shapes are spoken."""
    array: Any = np.array(values, dtype=TYPES[wanted["datatype"]])
    shaped = array if wanted["datatype"] == "BYTES" else array.reshape(-1, 1)
    tensor = triton.InferInput(wanted["name"], list(shaped.shape), wanted["datatype"])
    tensor.set_data_from_numpy(shaped)
    return tensor


def _outputs(answer: Any) -> dict[str, Any]:
    found = {}
    for output in answer.get_response().outputs:
        array = answer.as_numpy(output.name)
        found[output.name] = [value.decode() for value in array] if output.datatype == "BYTES" else array.tolist()
    return found


def _typed(address: str, model: str, inputs: list[Any], named: dict[str, list[Any]]) -> dict[str, Any]:
    """Ask with typed contents, through the generated stub."""
    fields = {"INT64": "int64_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents", "BOOL": "bool_contents"}
    request = service_pb2.ModelInferRequest(model_name=model)
    for tensor in inputs:
        values = named[tensor.name()]
        one = request.inputs.add(name=tensor.name(), datatype=tensor.datatype(), shape=[len(values)])
        given = [value.encode() for value in values] if tensor.datatype() == "BYTES" else values
        getattr(one.contents, fields[tensor.datatype()]).extend(given)
    with grpc.insecure_channel(address) as channel:
        response = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=TIMEOUT_S)
    label, probabilities = response.outputs  # read here: the client's own reader of these does not know numpy 2
    shares = np.array(probabilities.contents.fp32_contents).reshape(list(probabilities.shape))
    return {"label": [value.decode() for value in label.contents.bytes_contents], "probabilities": shares.tolist()}


def _many(client: Any, model: str, inputs: list[Any]) -> int:
    """Ask many times at once; return how many answers came."""
    results: queue.Queue[tuple[Any, Any]] = queue.Queue()
    for _ in range(200):
        client.async_infer(model, inputs, lambda result, error: results.put((result, error)))
    return sum(results.get(timeout=TIMEOUT_S)[1] is None for _ in range(200))


def _stream(client: Any, model: str, inputs: list[Any]) -> list[str]:
    """Ask over a stream; return the ids of the answers, and what was said of the one at fault."""
    results: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: results.put((result, error)))
    for place in range(20):
        client.async_stream_infer(model if place != 10 else "stranger", inputs, request_id=str(place))
    found = []
    for _ in range(20):
        result, error = results.get(timeout=TIMEOUT_S)
        found.append(result.get_response().id if error is None else str(error))
    client.stop_stream()
    return found


def _code(call: Callable[[], Any]) -> str:
    try:
        call()
    except triton.InferenceServerException as fault:
        return str(fault.status())
    return "answered"


if __name__ == "__main__":
    main(*sys.argv[1:])
