"""ADDRESS MODEL ROWS: send a tensor of every datatype with an independent client, in JSON and as bytes, both ways.

ROWS is a JSON file of rows by datatype; a tensor is named like its datatype, in small letters.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.http as triton  # type: ignore[import-not-found]
from tritonclient.utils import triton_to_np_dtype  # type: ignore[import-not-found]


def main(address: str, model: str, rows: str) -> None:
    client = triton.InferenceServerClient(address)
    tensors = json.loads(Path(rows).read_text())
    told: dict[str, Any] = {"answers": {}}
    for sent in (True, False):
        inputs = [_input(datatype, values, binary=sent) for datatype, values in tensors.items()]
        for wanted in (True, False):
            outputs = [triton.InferRequestedOutput(n, binary_data=wanted) for n in ("probabilities", "label")]
            answer = client.infer(model, inputs, outputs=outputs, request_id="a-1", timeout=5_000_000, priority=1)
            told["answers"][f"{sent} {wanted}"] = {
                "label": [_text(value) for value in answer.as_numpy("label")],
                "probabilities": answer.as_numpy("probabilities").tolist(),
                "dtype": str(answer.as_numpy("probabilities").dtype),
                "id": answer.get_response()["id"],
                "parameters": answer.get_response()["parameters"],
            }
        answer = client.infer(model, inputs)  # all outputs, as this client asks by itself: as bytes
        told["answers"][f"{sent} all"] = {
            "label": [_text(value) for value in answer.as_numpy("label")],
            "probabilities": answer.as_numpy("probabilities").tolist(),
        }
    asynchronous = [client.async_infer(model, inputs) for _ in range(3)]
    told["asynchronous"] = [one.get_result().as_numpy("probabilities").tolist() for one in asynchronous]
    told["server"] = client.get_server_metadata()
    told["statistics"] = client.get_inference_statistics(model)["model_stats"]
    told["all_statistics"] = client.get_inference_statistics()["model_stats"]
    told["index"] = client.get_model_repository_index()
    told["trace"] = client.get_trace_settings(model)
    others = [one for one in inputs if one.name() != "fp32"]
    told["refused"] = {
        "load": _refused(lambda: client.load_model(model)),
        "unload": _refused(lambda: client.unload_model(model)),
        "trace": _refused(lambda: client.update_trace_settings(model, {"trace_rate": "1"})),
        "version": _refused(lambda: client.infer(model, inputs, model_version="9")),
        "model": _refused(lambda: client.infer("stranger", inputs)),
        "missing": _refused(lambda: client.infer(model, inputs[1:])),
        "datatype": _refused(lambda: client.infer(model, [*others, _input("FP32", tensors["FP32"], as_type="FP64")])),
    }
    sys.stdout.write(json.dumps(told) + "\n")


def _input(datatype: str, values: list[Any], *, binary: bool = True, as_type: str | None = None) -> Any:
    kind = as_type or datatype
    array: Any = np.array(values, dtype=triton_to_np_dtype(kind))
    tensor = triton.InferInput(datatype.lower(), list(array.shape), kind)
    # The client itself refuses FP16 in JSON, as the protocol leaves its form open.
    tensor.set_data_from_numpy(array, binary_data=binary or kind == "FP16")
    return tensor


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _refused(act: Any) -> list[str]:
    """Return the status and the words of a refusal."""
    try:
        act()
    except triton.InferenceServerException as fault:
        return [str(fault.status()), str(fault.message())]
    return ["answered", ""]


if __name__ == "__main__":
    main(*sys.argv[1:])
