"""Requests of the protocol's REST form, as bytes, and how the door reads them."""

from __future__ import annotations

import json
from typing import Any

from modelyard.serve.model import Model
from modelyard.serve.v2.door import AskedTensors, V2Door
from tests.serve.tensor_models import asking, model_of, tensor_column

TENSOR = model_of([tensor_column("x", "FP32", 3)])
HEADER = "Inference-Header-Content-Length"


def body(*inputs: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"inputs": list(inputs), **more}).encode()


def entry(name: str, datatype: str, shape: list[int], data: Any = None, **parameters: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
    return made | ({} if data is None else {"data": data}) | ({"parameters": parameters} if parameters else {})


X = entry("x", "FP32", [2, 3], [1, 2, 3, 4, 5, 6])


def read(model: Model, data: bytes, **headers: bytes) -> AskedTensors:
    return V2Door().read(asking(data, **headers), model)


def with_tail(head: bytes, *tensors: bytes) -> tuple[bytes, dict[str, bytes]]:
    return b"".join((head, *tensors)), {HEADER.lower().replace("-", "_"): b"%d" % len(head)}


def read_slowly(model: Model, data: bytes) -> AskedTensors:
    """Read without the short way: with the header, all of the body is looked at closely."""
    whole, headers = with_tail(data)
    return read(model, whole, **headers)
