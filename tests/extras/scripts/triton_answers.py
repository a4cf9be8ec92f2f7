"""ADDRESS MODEL ROWS: ask a service over the Open Inference Protocol with an independent client."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.http as triton  # type: ignore[import-not-found]

TYPES = {"INT64": np.int64, "FP64": np.float64, "BYTES": np.object_, "BOOL": np.bool_}


def main(address: str, model: str, rows: str) -> None:
    client = triton.InferenceServerClient(address)
    metadata = client.get_model_metadata(model)
    named = json.loads(Path(rows).read_text())
    inputs = [_input(wanted, named[wanted["name"]]) for wanted in metadata["inputs"]]
    outputs = [triton.InferRequestedOutput(output["name"], binary_data=False) for output in metadata["outputs"]]
    answer = client.infer(model, inputs, model_version="1", outputs=outputs, request_id="asked-1")
    plain = client.infer(model, inputs)
    told = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready(model),
        "version_ready": client.is_model_ready(model, "1"),
        "stranger_ready": client.is_model_ready("stranger"),
        "server": client.get_server_metadata(),
        "metadata": metadata,
        "id": answer.get_response()["id"],
        "outputs": {output["name"]: answer.as_numpy(output["name"]).tolist() for output in metadata["outputs"]},
        "unasked": {output["name"]: _texts(plain.as_numpy(output["name"]).tolist()) for output in metadata["outputs"]},
        "shapes": {output["name"]: answer.get_output(output["name"])["shape"] for output in metadata["outputs"]},
        "refused": _refused(client, model, inputs),
    }
    sys.stdout.write(json.dumps(told) + "\n")


def _texts(values: list[Any]) -> list[Any]:
    """Return values as JSON has them; this client asks for outputs as bytes where it is not told otherwise."""
    return [value.decode() if isinstance(value, bytes) else value for value in values]


def _input(wanted: dict[str, Any], values: list[Any]) -> Any:
    """Return a tensor; (rows, 1) for numbers and (rows,) for strings, since both shapes are spoken."""
    array: Any = np.array(values, dtype=TYPES[wanted["datatype"]])
    shaped = array if wanted["datatype"] == "BYTES" else array.reshape(-1, 1)
    tensor = triton.InferInput(wanted["name"], list(shaped.shape), wanted["datatype"])
    tensor.set_data_from_numpy(shaped, binary_data=False)
    return tensor


def _refused(client: Any, model: str, inputs: list[Any]) -> str:
    """Return the status of a request with a column that the contract does not know."""
    stranger = triton.InferInput("stranger", [inputs[0].shape()[0]], "INT64")
    stranger.set_data_from_numpy(np.zeros(inputs[0].shape()[0], dtype=np.int64), binary_data=False)
    try:
        client.infer(model, [*inputs, stranger])
    except triton.InferenceServerException as fault:
        return str(fault.status())
    return "answered"


if __name__ == "__main__":
    main(*sys.argv[1:])
