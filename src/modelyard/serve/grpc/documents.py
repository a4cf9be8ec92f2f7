"""What the protocol's messages say of server and models, apart from predictions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modelyard.core.contract import Column, Kind
from modelyard.serve.grpc import wire
from modelyard.serve.model import Model
from modelyard.serve.v2.outputs import OUTPUT_TYPES, output_shape
from modelyard.serve.v2.tensors import DATATYPES

EXTENSIONS = ("model_configuration", "model_repository", "schedule_policy", "statistics", "trace")

# the numbers of inference.DataType
_CONFIG_TYPES = {
    name: number
    for number, name in enumerate(
        (
            "BOOL",
            "UINT8",
            "UINT16",
            "UINT32",
            "UINT64",
            "INT8",
            "INT16",
            "INT32",
            "INT64",
            "FP16",
            "FP32",
            "FP64",
            "BYTES",
        ),
        start=1,
    )
}

Tensor = tuple[str, str, list[int]]  # name, datatype, shape with the rows first


def server(version: str) -> bytes:
    """Return a ServerMetadataResponse."""
    return wire.text(1, "modelyard") + wire.text(2, version) + b"".join(wire.text(3, name) for name in EXTENSIONS)


def model(name: str, versions: Sequence[str], known: Model) -> bytes:
    """Return a ModelMetadataResponse."""
    inputs, outputs = tensors(known)
    return b"".join(
        (
            wire.text(1, name),
            *(wire.text(2, version) for version in versions),
            wire.text(3, "onnx"),
            *(wire.blob(4, _tensor(one)) for one in inputs),
            *(wire.blob(5, _tensor(one)) for one in outputs),
        )
    )


def config(name: str, known: Model) -> bytes:
    """Return a ModelConfigResponse: as much of the configuration as load generators ask for."""
    inputs, outputs = tensors(known)
    made = [
        wire.text(1, name),
        wire.text(2, "onnx"),
        wire.whole(4, known.limits.rows_at_once),
        *(wire.blob(5, _config_tensor(one, dims=4)) for one in inputs),
        *(wire.blob(6, _config_tensor(one, dims=3)) for one in outputs),
    ]
    return wire.blob(1, b"".join(made))


def index(models: Iterable[tuple[str, str, str, str]]) -> bytes:
    """Return a RepositoryIndexResponse of name, version, state and reason of each."""
    return b"".join(
        wire.blob(1, b"".join(wire.text(place, word) for place, word in enumerate(words, start=1))) for words in models
    )


def trace_settings(sample: float) -> bytes:
    """Return a TraceSettingResponse: how many requests one is traced of."""
    rate = round(1 / sample) if sample > 0 else 0
    said = {"trace_level": "TIMESTAMPS" if rate else "OFF", "trace_rate": str(rate), "trace_mode": "opentelemetry"}
    return b"".join(wire.entry(1, name, wire.text(1, value)) for name, value in said.items())


def tensors(known: Model) -> tuple[list[Tensor], list[Tensor]]:
    """Return a model's inputs and outputs; -1 stands for any size."""
    inputs = [_input(column) for column in known.contract.features]
    outputs = [(name, OUTPUT_TYPES[name], output_shape(name, -1, known.body)) for name in known.output_names]
    return inputs, outputs


def _input(column: Column) -> Tensor:
    if column.kind is Kind.TENSOR:
        return column.name, column.datatype or "FP32", [-1, *column.shape]
    return column.name, DATATYPES[column.kind], [-1]


def _tensor(one: Tensor) -> bytes:
    name, datatype, shape = one
    return wire.text(1, name) + wire.text(2, datatype) + wire.blob(3, _sizes(shape))


def _config_tensor(one: Tensor, *, dims: int) -> bytes:
    name, datatype, shape = one
    return wire.text(1, name) + wire.whole(2, _CONFIG_TYPES[datatype]) + wire.blob(dims, _sizes(shape[1:] or [1]))


def _sizes(shape: Sequence[int]) -> bytes:
    return b"".join(wire.number(size & 0xFFFFFFFFFFFFFFFF) for size in shape)
