"""The Open Inference Protocol's infer request over gRPC, as a door. Outputs come back in the form of the inputs."""

from __future__ import annotations

from typing import cast

from modelyard.bundle.intake import Packed
from modelyard.serve.batching import Settled
from modelyard.serve.doors import Malformed, Said
from modelyard.serve.grpc import infer, wire
from modelyard.serve.grpc.call import GrpcRequest
from modelyard.serve.grpc.infer import CONTENT_NAMES, CONTENTS, InferMessage, Input
from modelyard.serve.model import Model
from modelyard.serve.request import Request
from modelyard.serve.v2.outputs import OUTPUT_TYPES, output_bytes, output_shape, output_values
from modelyard.serve.v2.tensors import Tensors, Values
from modelyard.serve.v2.wishes import Wishes, wishes_of

KIND = b"application/grpc"

MOST_MODELS = 16  # that are kept ready; more than a traffic table has
_MOST_HEADS = 1_024  # beginnings of answers that are kept ready


class _Known:
    """What is ready of a model so that its requests are read and answered quickly."""

    __slots__ = ("heads", "model", "tensors")

    def __init__(self, model: Model) -> None:
        self.model = model
        limits = model.limits
        self.tensors = Tensors(model.contract, unknown_category=model.unknown_category, most_rows=limits.rows_at_once)
        self.heads: dict[tuple[object, ...], bytes] = {}


class AskedMessage:
    """A request that keeps the contract, with how it is to be answered."""

    __slots__ = ("id", "is_raw", "known", "packed", "rows", "wishes")

    def __init__(
        self, known: _Known, packed: Packed, rows: int, id: str, *, is_raw: bool, wishes: Wishes | None
    ) -> None:
        self.known, self.packed, self.rows, self.id, self.is_raw, self.wishes = known, packed, rows, id, is_raw, wishes

    def answer_row(self, settled: Settled, place: int) -> bytes | None:
        return None  # not in JSON

    def answer(self, settled: Settled, model: Model, said: Said) -> tuple[bytes, bytes, bytes]:
        """Return the message, its type, and no further fields."""
        wanted = None if self.wishes is None else self.wishes.wanted
        key = (said.release, said.served_by, said.degraded, self.rows, wanted, self.is_raw)
        head = self.known.heads.get(key)
        names = wanted or model.output_names
        if head is None:
            head = self._head(model, said, names)
            if len(self.known.heads) >= _MOST_HEADS:
                self.known.heads.clear()
            self.known.heads[key] = head
        parts = [head, wire.blob(3, self.id.encode())] if self.id else [head]
        for name in names:
            data = output_bytes(name, settled)
            if self.is_raw:
                parts.append(infer.raw_output(data))
            else:
                datatype = OUTPUT_TYPES[name]
                about = infer.output_head(name, datatype, output_shape(name, self.rows, model.body))
                parts.append(infer.typed_output(about, datatype, data, output_values(name, settled)))
        return b"".join(parts), KIND, b""

    def _head(self, model: Model, said: Said, names: tuple[str, ...]) -> bytes:
        """Return all of an answer that says nothing of its values."""
        release, _, version = said.release.partition("@")
        parameters: dict[str, str | bool] = {"served_by": said.served_by, "degraded": said.degraded is not None}
        if said.degraded is not None:
            parameters["reason"] = said.degraded
        head = infer.answer_head(release, version, parameters)
        if not self.is_raw:
            return head
        shapes = [(name, OUTPUT_TYPES[name], output_shape(name, self.rows, model.body)) for name in names]
        return head + b"".join(wire.blob(5, infer.output_head(*one)) for one in shapes)


class GrpcDoor:
    """Reads the protocol's message. Of one thread, the event loop's."""

    name = "grpc"

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def read(self, request: Request, model: Model) -> AskedMessage:
        """Read a request; raises Malformed, TooLarge, ContractBroken."""
        known = self._of(model)
        message = cast(InferMessage, cast(GrpcRequest, request).message)
        inputs, raw = message.inputs, message.raw
        if not inputs:
            raise Malformed("`inputs` is empty, wanted the model's columns.")
        if len(inputs) > len(model.contract.columns):
            raise Malformed(f"{len(inputs)} inputs came; the model knows {len(model.contract.columns)} columns.")
        if raw and len(raw) != len(inputs):
            raise Malformed(f"{len(inputs)} inputs came with {len(raw)} raw contents, wanted one for each.")
        tensors = known.tensors
        named: dict[str, Values] = {}
        for place, one in enumerate(inputs):
            if raw:
                if one.contents:
                    raise Malformed(f"Input `{one.name[:100]}` has contents of its own beside raw ones.")
                named[one.name] = tensors.raw(one.name, one.datatype, one.shape, raw[place])
            else:
                named[one.name] = _typed(one, tensors)
        if len(named) != len(inputs):
            raise Malformed(f"An input came twice; {len(named)} of {len(inputs)} names differ.")
        packed, rows = tensors.pack(named)
        wishes = None
        if message.parameters is not None or message.outputs is not None:
            wishes = wishes_of(model.output_names, message.parameters, message.outputs)
        return AskedMessage(known, packed, rows, message.id, is_raw=bool(raw), wishes=wishes)

    def _of(self, model: Model) -> _Known:
        known = self._known.get(model.release)
        if known is None or known.model is not model:
            if len(self._known) >= MOST_MODELS:
                self._known.clear()
            known = self._known[model.release] = _Known(model)
        return known


def _typed(one: Input, tensors: Tensors) -> Values:
    """Read an input's own contents."""
    contents = one.contents or {}
    place = CONTENTS.get(one.datatype)
    if place is None:
        if one.datatype == "FP16":
            raise Malformed(f"Input `{one.name[:100]}` is `FP16`, which only raw contents can have.")
        return tensors.typed(one.name, one.datatype, one.shape, ())
    if contents.keys() - {place}:
        seen = CONTENT_NAMES[min(contents.keys() - {place})]
        raise Malformed(f"Input `{one.name[:100]}` is `{one.datatype}` in `{seen}`, wanted `{CONTENT_NAMES[place]}`.")
    found = contents.get(place, ())
    if one.datatype in ("FP32", "FP64"):
        return tensors.raw(one.name, one.datatype, one.shape, b"".join(found))
    return tensors.typed(one.name, one.datatype, one.shape, found)
