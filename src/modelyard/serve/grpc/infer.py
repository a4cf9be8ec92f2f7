"""ModelInferRequest and ModelInferResponse of the Open Inference Protocol, read and written.

An input without contents of its own says the same with every request of a client: what was read of it is remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelyard.serve.grpc import wire
from modelyard.serve.grpc.wire import BYTES, EIGHT, FOUR, VARINT, WireFault
from modelyard.serve.v2.wishes import Parameters, Wanted

MOST_KNOWN = 4_096  # inputs that are remembered
MOST_KNOWN_BYTES = 512  # of one

# datatype -> the field of contents that has its elements
CONTENTS = {
    "BOOL": 1,
    **dict.fromkeys(("INT8", "INT16", "INT32"), 2),
    "INT64": 3,
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), 4),
    "UINT64": 5,
    "FP32": 6,
    "FP64": 7,
    "BYTES": 8,
}
CONTENT_NAMES = {
    1: "bool_contents",
    2: "int_contents",
    3: "int64_contents",
    4: "uint_contents",
    5: "uint64_contents",
    6: "fp32_contents",
    7: "fp64_contents",
    8: "bytes_contents",
}
_NUMBERS = {1: (64, False), 2: (32, True), 3: (64, True), 4: (32, False), 5: (64, False)}  # field -> bits, signed
_FLOATS = {6: (FOUR, 4), 7: (EIGHT, 8)}  # field -> how one is written, its bytes

Contents = dict[int, Any]  # field -> its elements: a list, or raw floats


class Input:
    """An input of a request."""

    __slots__ = ("contents", "datatype", "name", "shape")

    def __init__(self, name: str, datatype: str, shape: list[int], contents: Contents | None) -> None:
        self.name, self.datatype, self.shape, self.contents = name, datatype, shape, contents


class InferMessage:
    """A request as it was sent."""

    __slots__ = ("id", "inputs", "model_name", "model_version", "outputs", "parameters", "raw")

    def __init__(self) -> None:
        self.model_name = self.model_version = self.id = ""
        self.parameters: Parameters | None = None
        self.inputs: list[Input] = []
        self.outputs: list[Wanted] | None = None
        self.raw: list[bytes] = []


_known: dict[bytes, Input] = {}


def read_infer(data: bytes) -> InferMessage:
    """Read a request; raises WireFault."""
    message = InferMessage()
    inputs, raw = message.inputs, message.raw
    at, end = 0, len(data)
    while at < end:
        tag = data[at]
        if tag > 0x3A or tag & 7 != BYTES or at + 1 == end:
            *_, at = wire.field(data, at)  # one that is not known, which is passed over
            continue
        size = data[at + 1]
        at += 2
        if size > 0x7F:
            size, at = wire.varint(data, at - 1)
        start, at = at, at + size
        if at > end:
            raise WireFault("The message ends within a field.")
        part = data[start:at]
        if tag == 0x2A:
            inputs.append(_known.get(part) or _input(part))
        elif tag == 0x3A:
            raw.append(part)
        else:
            _other(message, tag >> 3, part)
    return message


def _other(message: InferMessage, number: int, part: bytes) -> None:
    if number == 1:
        message.model_name = wire.to_text(part)
    elif number == 2:
        message.model_version = wire.to_text(part)
    elif number == 3:
        message.id = wire.to_text(part)
    elif number == 4:
        message.parameters = _with(message.parameters, part)
    elif number == 6:
        message.outputs = [*(message.outputs or ()), _wanted(part)]
    else:
        raise WireFault("The message has a field without a number.")


def _input(data: bytes) -> Input:
    name = datatype = ""
    shape: list[int] = []
    contents: Contents | None = None
    for number, kind, value in wire.fields(data):
        if number == 1 and kind == BYTES:
            name = wire.to_text(value)
        elif number == 2 and kind == BYTES:
            datatype = wire.to_text(value)
        elif number == 3 and kind == BYTES:
            shape += wire.packed(value, bits=64, is_signed=True)  # type: ignore[arg-type]  # by its kind
        elif number == 3 and kind == VARINT:
            shape.append(wire.signed(value))  # type: ignore[arg-type]  # by its kind
        elif number == 4 and kind == BYTES:
            _with(None, value)  # type: ignore[arg-type]  # by its kind; parameters of an input mean nothing here
        elif number == 5 and kind == BYTES:
            contents = {} if contents is None else contents
            _add_contents(contents, value)  # type: ignore[arg-type]  # by its kind
    made = Input(name, datatype, shape, contents)
    if contents is None and len(data) <= MOST_KNOWN_BYTES:
        if len(_known) >= MOST_KNOWN:
            _known.clear()
        _known[data] = made
    return made


def _add_contents(contents: Contents, data: bytes) -> None:
    for number, kind, value in wire.fields(data):
        if number in _FLOATS:
            one, size = _FLOATS[number]
            if kind == BYTES and len(value) % size == 0:  # type: ignore[arg-type]  # by its kind
                contents.setdefault(number, []).append(value)
            elif kind == one:
                contents.setdefault(number, []).append(value.to_bytes(size, "little"))  # type: ignore[union-attr]
            else:
                raise WireFault(f"The message has `{CONTENT_NAMES[number]}` that end within a number.")
        elif number in _NUMBERS:
            bits, is_signed = _NUMBERS[number]
            part = value if kind == BYTES else wire.number(value) if kind == VARINT else b""  # type: ignore[arg-type]
            found = wire.packed(part, bits=bits, is_signed=is_signed)  # type: ignore[arg-type]  # by its kind
            contents.setdefault(number, []).extend(map(bool, found) if number == 1 else found)
        elif number == CONTENTS["BYTES"] and kind == BYTES:
            contents.setdefault(number, []).append(value)


def _wanted(data: bytes) -> Wanted:
    name, parameters = "", None
    for number, kind, value in wire.fields(data):
        if number == 1 and kind == BYTES:
            name = wire.to_text(value)
        elif number == 2 and kind == BYTES:
            parameters = _with(parameters, value)  # type: ignore[arg-type]  # by its kind
    return Wanted(name=name, parameters=parameters)


def _with(parameters: Parameters | None, data: bytes) -> Parameters:
    """Return the parameters with an entry of theirs."""
    key, value = "", b""
    for number, kind, part in wire.fields(data):
        if number == 1 and kind == BYTES:
            key = wire.to_text(part)
        elif number == 2 and kind == BYTES:
            value = part  # type: ignore[assignment]  # by its kind
    parameters = {} if parameters is None else parameters
    parameters[key] = _parameter(value)
    return parameters


def _parameter(data: bytes) -> Any:
    found: Any = None
    for number, kind, value in wire.fields(data):
        if number == 1 and kind == VARINT:
            found = bool(value)
        elif number == 2 and kind == VARINT:
            found = wire.signed(value)  # type: ignore[arg-type]  # by its kind
        elif number == 3 and kind == BYTES:
            found = wire.to_text(value)
        elif number == 4 and kind == EIGHT:
            found = wire.double(value)  # type: ignore[arg-type]  # by its kind
        elif number == 5 and kind == VARINT:
            found = value
    return found


def answer_head(model: str, version: str, parameters: dict[str, str | bool]) -> bytes:
    """Return what an answer begins with."""
    entries = [
        wire.entry(4, key, wire.blob(3, value.encode()) if isinstance(value, str) else bytes((0x08, value)))
        for key, value in parameters.items()
    ]
    return wire.text(1, model) + wire.text(2, version) + b"".join(entries)


def output_head(name: str, datatype: str, shape: Sequence[int]) -> bytes:
    """Return what describes an output."""
    sizes = b"".join(wire.number(size) for size in shape)
    return wire.text(1, name) + wire.text(2, datatype) + wire.blob(3, sizes)


def raw_output(data: bytes) -> bytes:
    """Return an output's raw bytes."""
    return wire.blob(6, data)


def typed_output(head: bytes, datatype: str, data: bytes, values: Sequence[Any]) -> bytes:
    """Return an output with its contents: floats as their raw bytes are, strings one by one."""
    if datatype == "BYTES":
        contents = b"".join(wire.blob(CONTENTS[datatype], value.encode()) for value in values)
    else:
        contents = wire.blob(CONTENTS[datatype], data)
    return wire.blob(5, head + wire.blob(5, contents))
