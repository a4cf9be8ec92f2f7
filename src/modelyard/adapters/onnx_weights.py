"""The weights of a large graph in a file of their own, which ONNX Runtime maps: workers share its pages."""

from __future__ import annotations

import onnx
from onnx import TensorProto, external_data_helper, numpy_helper

LEAST_BYTES = 4 * 1024 * 1024  # of all weights together, from which a file of their own pays
LEAST_TENSOR_BYTES = 4 * 1024  # smaller ones stay in the graph
PAGE_BYTES = 64 * 1024  # each tensor begins at a multiple of it: what a mapping may begin at on every platform


def split(graph: bytes, file: str) -> tuple[bytes, bytes]:
    """Return a graph that finds its large weights in the file `file` beside it, and what that file holds.

    A graph with few weights is returned as it is, with nothing for the file. Equal graphs give equal bytes.
    """
    model = onnx.load_model_from_string(graph)
    large = [one for one in model.graph.initializer if _size(one) >= LEAST_TENSOR_BYTES]
    if sum(_size(one) for one in large) < LEAST_BYTES:
        return graph, b""
    weights = bytearray()
    for tensor in large:
        if not tensor.HasField("raw_data"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
        weights.extend(bytes(-len(weights) % PAGE_BYTES))
        data = tensor.raw_data
        external_data_helper.set_external_data(tensor, file, offset=len(weights), length=len(data))
        tensor.ClearField("raw_data")
        weights += data
    return bytes(model.SerializeToString(deterministic=True)), bytes(weights)


def _size(tensor: onnx.TensorProto) -> int:
    """Return the bytes of a tensor's numbers; 0 of one that a mapped file cannot hold."""
    if tensor.data_type == TensorProto.STRING or tensor.data_location == TensorProto.EXTERNAL:
        return 0
    if tensor.HasField("raw_data"):
        return len(tensor.raw_data)
    return int(numpy_helper.to_array(tensor).nbytes)
