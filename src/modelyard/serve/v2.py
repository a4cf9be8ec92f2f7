"""The Open Inference Protocol, version 2, in its JSON form.

Inputs are the raw named columns, each of shape [n] or [n, 1]; null is a missing value. Outputs are `label` (BYTES)
and `probabilities` (FP32, [n, classes]), or `value` (FP64).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from modelyard.bundle.check import check_values
from modelyard.bundle.format import Body
from modelyard.core.arrays import Columns
from modelyard.core.contract import Kind
from modelyard.core.metrics import Task
from modelyard.serve.batching import Settled
from modelyard.serve.doors import Malformed, Said, TooLarge, why_malformed
from modelyard.serve.messages import Limits

Scalar = str | int | float | bool | None
Parameters = dict[str, Scalar]

_INTEGERS = frozenset({int, type(None)})
_FLOATS = frozenset({int, float, type(None)})
_TYPES = {
    "BOOL": frozenset({bool, type(None)}),
    "BYTES": frozenset({str, type(None)}),
    **{f"{sign}INT{bits}": _INTEGERS for sign in ("", "U") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": _FLOATS for bits in (16, 32, 64)},
}

DATATYPES = {
    Kind.INTEGER: "INT64",
    Kind.NUMBER: "FP64",
    Kind.BOOLEAN: "BOOL",
    Kind.CATEGORY: "BYTES",
    Kind.TEXT: "BYTES",
    Kind.DATE: "BYTES",
    Kind.DATETIME: "BYTES",
}


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    data: list[str] | list[float]


class _Input(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    datatype: str
    shape: list[int]
    data: list[Scalar | list[Scalar]]
    parameters: Parameters | None = None


class _Wanted(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    parameters: Parameters | None = None


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    inputs: list[_Input]
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[_Wanted] | None = None


class _Reply(msgspec.Struct, omit_defaults=True):
    model_name: str
    model_version: str
    parameters: Parameters
    outputs: list[_Output]
    id: str | None = None


_DECODER = msgspec.json.Decoder(_Request)
_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True)
class AskedTensors:
    """Columns as they were sent, held against the contract, with what is to be said back."""

    columns: Columns
    rows: int
    id: str | None
    parameters: Parameters
    wanted: tuple[str, ...]

    def answer(self, settled: Settled, body: Body, said: Said) -> bytes:
        name, _, version = said.release.partition("@")
        parameters: Parameters = {**self.parameters, "served_by": said.served_by, "degraded": said.degraded is not None}
        if said.degraded is not None:
            parameters["reason"] = said.degraded
        outputs = [_output(wanted, settled, body, self.rows) for wanted in self.wanted]
        return _ENCODER.encode(
            _Reply(model_name=name, model_version=version, parameters=parameters, outputs=outputs, id=self.id)
        )


class V2Door:
    """Reads the protocol's infer request."""

    name = "v2"

    def read(self, data: bytes, body: Body, limits: Limits) -> AskedTensors:
        """Read a request; raises Malformed, TooLarge, ContractBroken."""
        try:
            request = _DECODER.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
            raise Malformed(why_malformed(data, fault, limits)) from fault
        if not request.inputs:
            raise Malformed("`inputs` is empty, wanted the model's columns.")
        most = len(body.contract.columns)
        if len(request.inputs) > most:
            raise Malformed(f"{len(request.inputs)} inputs came; the model knows {most} columns.")
        named: dict[str, Sequence[Any]] = {}
        for tensor in request.inputs:
            if tensor.name in named:
                raise Malformed(f"Input `{tensor.name}` came twice.")
            named[tensor.name] = _values(tensor)
        rows = len(next(iter(named.values())))
        if rows == 0:
            raise Malformed("The inputs have no rows, wanted at least one.")
        if rows > limits.rows_at_once:
            raise TooLarge(f"{rows} rows came, at most {limits.rows_at_once} are taken at once.")
        wanted = _wanted(request, output_names(body))
        columns = check_values(body.contract, named, unknown_category=body.manifest.unknown_category)
        return AskedTensors(columns, rows, request.id, request.parameters or {}, wanted)


def output_names(body: Body) -> tuple[str, ...]:
    """Return the names of a model's outputs."""
    return ("value",) if body.manifest.task is Task.REGRESSION else ("label", "probabilities")


def server_metadata(version: str) -> bytes:
    """Return the server's metadata."""
    return _ENCODER.encode({"name": "modelyard", "version": version, "extensions": []})


def model_metadata(body: Body, name: str, versions: Sequence[str]) -> bytes:
    """Return a model's metadata."""
    inputs = [
        {"name": column.name, "datatype": DATATYPES[column.kind], "shape": [-1]} for column in body.contract.features
    ]
    if body.manifest.task is Task.REGRESSION:
        outputs: list[dict[str, Any]] = [{"name": "value", "datatype": "FP64", "shape": [-1]}]
    else:
        outputs = [
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(body.manifest.classes)]},
        ]
    return _ENCODER.encode(
        {"name": name, "versions": list(versions), "platform": "onnx", "inputs": inputs, "outputs": outputs}
    )


def _wanted(request: _Request, known: tuple[str, ...]) -> tuple[str, ...]:
    if not request.outputs:
        return known
    names = tuple(output.name for output in request.outputs)
    for name in names:
        if name not in known:
            raise Malformed(f"Output `{name}` is not known. Known: {', '.join(known)}.")
    return names


def _values(tensor: _Input) -> list[Any]:
    """Return a column's values, flat; raises Malformed where shape, datatype and data do not agree."""
    types = _TYPES.get(tensor.datatype)
    if types is None:
        raise Malformed(f"Input `{tensor.name}` has the datatype `{tensor.datatype}`. Known: {', '.join(_TYPES)}.")
    shape, data = tensor.shape, tensor.data
    if not 1 <= len(shape) <= 2 or (len(shape) == 2 and shape[1] != 1) or shape[0] < 0:
        raise Malformed(f"Input `{tensor.name}` has the shape {shape}, wanted [rows] or [rows, 1].")
    seen = set(map(type, data))
    if list in seen:
        if len(shape) != 2 or seen != {list} or any(len(item) != 1 for item in data):  # type: ignore[arg-type]
            raise Malformed(f"Input `{tensor.name}` has data that is not nested as its shape {shape}.")
        data = [item[0] for item in data]  # type: ignore[index]
        seen = set(map(type, data))
    if len(data) != shape[0]:
        raise Malformed(f"Input `{tensor.name}` has {len(data)} values and the shape {shape}.")
    if not seen <= types:
        raise Malformed(f"Input `{tensor.name}` has values that are not of its datatype `{tensor.datatype}`.")
    return data


def _output(name: str, settled: Settled, body: Body, rows: int) -> _Output:
    if settled.values is not None:
        return _Output(name, "FP64", [rows], settled.values)
    assert settled.labels is not None and settled.probabilities is not None
    if name == "label":
        return _Output(name, "BYTES", [rows], settled.labels)
    flat = [share for shares in settled.probabilities for share in shares]
    return _Output(name, "FP32", [rows, len(body.manifest.classes)], flat)
