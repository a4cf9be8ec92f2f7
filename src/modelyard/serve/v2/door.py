"""The Open Inference Protocol, version 2, over REST: its infer request, in JSON and with binary tensors.

Inputs are the model's columns, as `serve/v2/tensors.py` takes them; outputs are those of `serve/v2/outputs.py`. Of a
request's parameters `priority`, `timeout` and `binary_data_output` are heeded and all others are let pass; the
answer's parameters are ours alone: `served_by`, `degraded`, and the `reason` where it is.
"""

from __future__ import annotations

from typing import Any

import msgspec

from modelyard.bundle.intake import Packed
from modelyard.serve.batching import Settled
from modelyard.serve.doors import Malformed, Said, why_malformed
from modelyard.serve.model import Model
from modelyard.serve.request import JSON, Request
from modelyard.serve.v2 import binary as v2_binary
from modelyard.serve.v2.binary import Tail
from modelyard.serve.v2.outputs import OUTPUT_TYPES, output_bytes, output_names, output_shape, output_values
from modelyard.serve.v2.pages import model_metadata, server_metadata
from modelyard.serve.v2.short import Short
from modelyard.serve.v2.tensors import DATATYPES, UNFIT, Tensors, Values
from modelyard.serve.v2.wishes import Parameters, Wanted, Wishes, wishes_of

__all__ = ["DATATYPES", "AskedTensors", "V2Door", "model_metadata", "output_names", "server_metadata"]

MOST_MODELS = 16  # that are kept ready; more than a traffic table has
QUICK_BYTES = 8_192  # a body of plain columns above this has many rows, for which there is no short way


class _Input(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    name: str
    datatype: str
    shape: list[int]
    data: msgspec.Raw = msgspec.Raw()
    parameters: Parameters | None = None


class _Request(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    inputs: list[_Input]
    id: str | None = None
    model_name: str | None = None  # no part of the protocol, but KServe's client writes it
    parameters: Parameters | None = None
    outputs: list[Wanted] | None = None


class _Output(msgspec.Struct, omit_defaults=True):
    name: str
    datatype: str
    shape: list[int]
    data: list[Any] | None = None
    parameters: dict[str, int] | None = None


class _Said(msgspec.Struct, omit_defaults=True):
    served_by: str
    degraded: bool
    reason: str | None = None


class _Reply(msgspec.Struct, omit_defaults=True):
    model_name: str
    model_version: str
    parameters: _Said
    outputs: list[_Output]
    id: str | None = None


_DECODER = msgspec.json.Decoder(_Request)
_encode = msgspec.json.Encoder().encode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Known:
    """What is ready of a model so that its requests are read and answered quickly."""

    __slots__ = ("decode", "labels", "lone", "model", "pack", "plain", "quick", "short", "tensors")

    def __init__(self, model: Model) -> None:
        self.model = model
        limits = model.limits
        self.tensors = Tensors(model.contract, unknown_category=model.unknown_category, most_rows=limits.rows_at_once)
        self.quick = _quick_decoder(self.tensors.quick_type)
        self.plain = _plain_answer(model)
        self.labels = {label: _encode([label]) for label in model.classes}
        has_lone = self.quick is not None and self.tensors.only is not None
        self.lone = self.tensors.only if has_lone else None  # the column of a sole, small tensor
        self.pack: Any = None if self.lone is None else self.lone.lone_pack
        self.short = None if self.lone is None else Short(self.lone)
        self.decode: Any = None if self.quick is None else self.quick.decode


class AskedTensors:
    """A request that keeps the contract, with how it is to be answered; `wishes` where that is not as usual."""

    __slots__ = ("id", "known", "packed", "rows", "wishes")

    def __init__(self, known: _Known, packed: Packed, rows: int, id: str | None, wishes: Wishes | None) -> None:
        self.known, self.packed, self.rows, self.id, self.wishes = known, packed, rows, id, wishes

    def whole(self, request: Request) -> AskedTensors:
        """Read a request whole whose numbers were left to the worker; raises Malformed, TooLarge, ContractBroken."""
        return _read_whole(request, self.known)

    def answer_row(self, settled: Settled, place: int) -> bytes | None:
        """Return the usual answer to a single row; None where something else is wanted."""
        if self.wishes is not None or self.rows != 1 or self.id is not None:
            return None
        known = self.known
        if settled.values is not None:
            return known.plain % (1, _encode(settled.values[place : place + 1]))
        assert settled.labels is not None and settled.probabilities is not None
        return known.plain % (1, known.labels[settled.labels[place]], 1, _encode(settled.probabilities[place]))

    def answer(self, settled: Settled, model: Model, said: Said) -> tuple[bytes, bytes, bytes]:
        """Return body, content type and further header lines."""
        wishes = self.wishes
        if wishes is None and said is model.said:
            return self._plainly(settled), JSON, b""
        wanted = None if wishes is None else wishes.wanted
        if wanted is None and said.degraded is None and said.served_by == self.known.model.release:
            return self._plainly(settled), JSON, b""
        outputs: list[_Output] = []
        pieces: list[bytes] = []
        for name in wanted or model.output_names:
            output = _Output(name, OUTPUT_TYPES[name], output_shape(name, self.rows, model.body))
            if wishes is not None and name in wishes.raw:
                piece = output_bytes(name, settled)
                output.parameters = {v2_binary.SIZE: len(piece)}
                pieces.append(piece)
            else:
                output.data = output_values(name, settled)
            outputs.append(output)
        parameters = _Said(said.served_by, said.degraded is not None, said.degraded)
        release, _, version = said.release.partition("@")
        head = _encode(_Reply(release, version, parameters, outputs, self.id))
        return v2_binary.with_tail(head, pieces)

    def _plainly(self, settled: Settled) -> bytes:
        """Return the usual answer: all outputs, by the release that was asked."""
        rows = self.rows
        if settled.values is not None:
            body = self.known.plain % (rows, _encode(settled.values))
        else:
            many = settled.probabilities
            assert many is not None
            shares = many[0] if rows == 1 else output_values("probabilities", settled)
            body = self.known.plain % (rows, _encode(settled.labels), rows, _encode(shares))
        return body if self.id is None else b'%b,"id":%b}' % (body[:-1], _encode(self.id))


class V2Door:
    """Reads the protocol's infer request. Of one thread, the event loop's."""

    name = "v2"

    def __init__(self, *, leaves_texts: bool = False) -> None:
        """Leave the numbers of usual requests to the worker, where whoever asks it knows what to do about these."""
        self._known: dict[str, _Known] = {}
        self._leaves_texts = leaves_texts

    def read(self, request: Request, model: Model) -> AskedTensors:
        """Read a request; raises Malformed, TooLarge, ContractBroken."""
        known = self._known.get(model.release)
        if known is None or known.model is not model:
            known = self._know(model)
        short, header = known.short, request.headers.get(v2_binary.HEADER)
        if short is None or header is not None or not self._leaves_texts:
            return _read_whole(request, known)
        body = request.body
        text = short.numbers(body)
        if text is not None:  # nearly always
            return AskedTensors(known, Packed(b"", [], [], [], [text]), 1, None, None)
        asked = _read_whole(request, known)
        if asked.rows == 1 and asked.wishes is None and asked.id is None and not asked.packed.shapes:
            short.learn(body)
        return asked

    def _know(self, model: Model) -> _Known:
        if len(self._known) >= MOST_MODELS:
            self._known.clear()
        known = self._known[model.release] = _Known(model)
        return known


def _read_whole(request: Request, known: _Known) -> AskedTensors:
    """Read a request; raises Malformed, TooLarge, ContractBroken."""
    header, body, lone = request.headers.get(v2_binary.HEADER), request.body, known.lone
    if header is None and lone is not None:  # one row of one tensor
        try:
            came = known.decode(body)
        except _UNREADABLE:
            came = None
        if came is not None and came.parameters is None and came.outputs is None and not came.model_name:
            inputs = came.inputs
            if len(inputs) == 1:
                one = inputs[0]
                if one.name == lone.name and one.datatype == lone.datatype and one.shape == lone.lone_shape:
                    try:
                        return AskedTensors(known, Packed(b"", [], [known.pack(*one.data)]), 1, came.id, None)
                    except UNFIT:
                        pass
    if header is None and known.quick is not None and (known.tensors.has_tensors or len(body) <= QUICK_BYTES):
        asked = _read_quickly(body, known)
        if asked is not None:
            return asked
    data, tail = v2_binary.split(body, header)
    return _read(data, tail, known)


def _read_quickly(body: bytes, known: _Known) -> AskedTensors | None:
    """Read the usual request; None where anything needs a closer look, which costs nothing but time."""
    try:
        request = known.quick.decode(body)  # type: ignore[union-attr]  # asked for only where there is one
    except _UNREADABLE:
        return None
    tensors, inputs = known.tensors, request.inputs
    if request.model_name and request.model_name != known.model.name:
        return None
    wishes = None
    if request.parameters is not None or request.outputs is not None:
        wishes = wishes_of(known.model.output_names, request.parameters, request.outputs)
    if tensors.only is not None and len(inputs) == 1:
        one = inputs[0]
        packed = tensors.lone(one.name, one.datatype, one.shape, one.data)
        if packed is not None:
            return AskedTensors(known, packed, 1, request.id, wishes)
    named: dict[str, Values] = {}
    for one in inputs:
        values = tensors.quick(one.name, one.datatype, one.shape, one.data)
        if values is None:
            return None
        named[one.name] = values
    if len(named) != len(inputs) or not named:
        return None
    packed = tensors.pack_quick(named)
    if packed is None:
        return None
    rows = len(next(iter(named.values())))  # type: ignore[arg-type]  # none of them is None
    return AskedTensors(known, packed, rows, request.id, wishes)


def _read(data: bytes, tail: Tail, known: _Known) -> AskedTensors:
    model, tensors = known.model, known.tensors
    try:
        request = _DECODER.decode(data)
    except _UNREADABLE as fault:
        raise Malformed(why_malformed(data, fault, model.limits)) from fault
    if request.model_name and request.model_name != model.name:
        raise Malformed(f"`model_name` is `{request.model_name[:100]}`, but the path names `{model.name}`.")
    if not request.inputs:
        raise Malformed("`inputs` is empty, wanted the model's columns.")
    most = len(model.contract.columns)
    if len(request.inputs) > most:
        raise Malformed(f"{len(request.inputs)} inputs came; the model knows {most} columns.")
    named: dict[str, Values] = {}
    for one in request.inputs:
        if one.name in named:
            raise Malformed(f"Input `{one.name[:100]}` came twice.")
        named[one.name] = _values(one, tail, tensors)
    tail.end()
    packed, rows = tensors.pack(named)
    wishes = None
    if request.parameters is not None or request.outputs is not None:
        wishes = wishes_of(model.output_names, request.parameters, request.outputs)
    return AskedTensors(known, packed, rows, request.id, wishes)


def _values(one: _Input, tail: Tail, tensors: Tensors) -> Values:
    size = None if one.parameters is None else one.parameters.get(v2_binary.SIZE)
    has_data = len(memoryview(one.data)) > 0
    if size is None:
        if not has_data:
            raise Malformed(f"Input `{one.name[:100]}` has neither `data` nor `{v2_binary.SIZE}`.")
        return tensors.json(one.name, one.datatype, one.shape, one.data)
    if has_data:
        raise Malformed(f"Input `{one.name[:100]}` has both `data` and `{v2_binary.SIZE}`.")
    return tensors.raw(one.name, one.datatype, one.shape, tail.take(one.name, size))


def _quick_decoder(data: Any) -> msgspec.json.Decoder[Any] | None:
    """Return what reads a request whose every input has the same Python type of data."""
    if data is None:
        return None
    fields: list[Any] = [("name", str), ("datatype", str), ("shape", list[int]), ("data", data)]
    one: Any = msgspec.defstruct("QuickInput", fields, forbid_unknown_fields=True, gc=False)
    fields = [("inputs", list[one]), ("id", str | None, None)]
    fields += [("model_name", str | None, None)]
    fields += [("parameters", Parameters | None, None), ("outputs", list[Wanted] | None, None)]
    return msgspec.json.Decoder(msgspec.defstruct("QuickRequest", fields, forbid_unknown_fields=True, gc=False))


def _plain_answer(model: Model) -> bytes:
    """Return the usual answer with gaps: for each output its rows and its data."""
    made = _Reply(model.name, model.version, _Said(model.release, False), [])
    outputs = []
    for name in model.output_names:
        shape = b"".join(b",%d" % size for size in output_shape(name, 0, model.body)[1:])
        words = (name.encode(), OUTPUT_TYPES[name].encode(), shape)
        outputs.append(b'{"name":"%b","datatype":"%b","shape":[%%d%b],"data":%%b}' % words)
    head = _encode(made)
    assert head.endswith(b'"outputs":[]}')
    return head[:-2].replace(b"%", b"%%") + b",".join(outputs) + b"]}"
