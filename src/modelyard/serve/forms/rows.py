"""The plain form: `{"rows": [{...}]}` in, `{"predictions": [...]}` out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from modelyard.bundle.check import check_rows
from modelyard.bundle.intake import Packed
from modelyard.serve.batching import Settled
from modelyard.serve.doors import Malformed, Said, TooLarge, check_pieces, why_malformed
from modelyard.serve.messages import Limits
from modelyard.serve.model import Model
from modelyard.serve.request import JSON, Request

Scalar = str | int | float | bool | None


class _Rows(msgspec.Struct, forbid_unknown_fields=True):
    rows: list[dict[str, Scalar]]


class _AnyRows(msgspec.Struct, forbid_unknown_fields=True):
    rows: list[dict[str, Any]]


class _Label(msgspec.Struct, gc=False):
    label: str
    probabilities: dict[str, float]


class _Value(msgspec.Struct, gc=False):
    value: float


class _Predictions(msgspec.Struct, gc=False):
    predictions: list[_Label] | list[_Value]
    served_by: str
    degraded: bool
    reason: str | None
    request_id: str


_DECODER = msgspec.json.Decoder(_Rows)
_ANY_DECODER = msgspec.json.Decoder(_AnyRows)
_NESTED = ("got `array`", "got `object`")  # in the decoder's words
_ENCODER = msgspec.json.Encoder()


class AskedRows:
    """Rows as they were sent, held against the contract."""

    __slots__ = ("packed", "rows")
    wishes = None  # the plain form says in headers what it wants

    def __init__(self, packed: Packed, rows: int) -> None:
        self.packed, self.rows = packed, rows

    def answer_row(self, settled: Settled, place: int) -> bytes | None:
        return None  # the answer says the request's id

    def answer(self, settled: Settled, model: Model, said: Said) -> tuple[bytes, bytes, bytes]:
        predictions: list[_Label] | list[_Value]
        if settled.values is not None:
            predictions = [_Value(value) for value in settled.values]
        else:
            assert settled.labels is not None and settled.probabilities is not None
            classes = model.classes
            predictions = [
                _Label(label, dict(zip(classes, shares, strict=True)))
                for label, shares in zip(settled.labels, settled.probabilities, strict=True)
            ]
        reply = _Predictions(predictions, said.served_by, said.degraded is not None, said.degraded, said.request_id)
        return _ENCODER.encode(reply), JSON, b""


class RowsDoor:
    """Reads the plain form."""

    name = "rows"

    def read(self, request: Request, model: Model) -> AskedRows:
        """Read a request; raises Malformed, TooLarge, ContractBroken."""
        most = model.limits.rows_at_once
        check_pieces(request.body, model)
        quick = model.intake.rows(request.body)
        if quick is not None and quick[1] <= most:
            return AskedRows(*quick)
        rows = _decode(request.body, model.limits)
        if not rows:
            raise Malformed("`rows` is empty, wanted at least one row.")
        if len(rows) > most:
            raise TooLarge(f"{len(rows)} rows came, at most {most} are taken at once.")
        columns = check_rows(model.contract, rows, unknown_category=model.unknown_category)
        return AskedRows(model.intake.pack(columns), len(rows))


def _decode(data: bytes, limits: Limits) -> list[Mapping[str, Any]]:
    """Return the rows. The types bound the depth; only a nested value is decoded again, so that its fault names it."""
    try:
        return _DECODER.decode(data).rows  # type: ignore[return-value]  # a list is not changed here
    except msgspec.ValidationError as fault:
        message, seen = why_malformed(data, fault, limits), str(fault)
        if "nested" in message or not any(kind in seen for kind in _NESTED):
            raise Malformed(message) from fault
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise Malformed(why_malformed(data, fault, limits)) from fault
    try:
        return _ANY_DECODER.decode(data).rows  # type: ignore[return-value]  # as above
    except (msgspec.DecodeError, RecursionError) as fault:
        raise Malformed(why_malformed(data, fault, limits)) from fault
