"""The plain form: `{"rows": [{...}]}` in, `{"predictions": [...]}` out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from modelyard.bundle.check import check_rows
from modelyard.bundle.format import Body
from modelyard.core.arrays import Columns
from modelyard.serve.batching import Settled
from modelyard.serve.doors import Malformed, Said, TooLarge, why_malformed
from modelyard.serve.messages import Limits

Scalar = str | int | float | bool | None


class _Rows(msgspec.Struct, forbid_unknown_fields=True):
    rows: list[dict[str, Scalar]]


class _AnyRows(msgspec.Struct, forbid_unknown_fields=True):
    rows: list[dict[str, Any]]


class _Label(msgspec.Struct):
    label: str
    probabilities: dict[str, float]


class _Value(msgspec.Struct):
    value: float


class _Predictions(msgspec.Struct, omit_defaults=False):
    predictions: list[_Label] | list[_Value]
    served_by: str
    degraded: bool
    reason: str | None
    request_id: str


_DECODER = msgspec.json.Decoder(_Rows)
_ANY_DECODER = msgspec.json.Decoder(_AnyRows)
_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True)
class AskedRows:
    """Rows as they were sent, held against the contract."""

    columns: Columns
    rows: int

    def answer(self, settled: Settled, body: Body, said: Said) -> bytes:
        predictions: list[_Label] | list[_Value]
        if settled.values is not None:
            predictions = [_Value(value) for value in settled.values]
        else:
            assert settled.labels is not None and settled.probabilities is not None
            classes = body.manifest.classes
            predictions = [
                _Label(label, dict(zip(classes, shares, strict=True)))
                for label, shares in zip(settled.labels, settled.probabilities, strict=True)
            ]
        return _ENCODER.encode(
            _Predictions(
                predictions=predictions,
                served_by=said.served_by,
                degraded=said.degraded is not None,
                reason=said.degraded,
                request_id=said.request_id,
            )
        )


class RowsDoor:
    """Reads the plain form."""

    name = "rows"

    def read(self, data: bytes, body: Body, limits: Limits) -> AskedRows:
        """Read a request; raises Malformed, TooLarge, ContractBroken."""
        rows = _decode(data, limits)
        if not rows:
            raise Malformed("`rows` is empty, wanted at least one row.")
        if len(rows) > limits.rows_at_once:
            raise TooLarge(f"{len(rows)} rows came, at most {limits.rows_at_once} are taken at once.")
        columns = check_rows(body.contract, rows, unknown_category=body.manifest.unknown_category)
        return AskedRows(columns, len(rows))


def _decode(data: bytes, limits: Limits) -> list[Mapping[str, Any]]:
    """Return the rows. The types bound the depth; a nested value is decoded again so that its fault names it."""
    try:
        return _DECODER.decode(data).rows  # type: ignore[return-value]  # a list is not changed here
    except msgspec.ValidationError as fault:
        message = why_malformed(data, fault, limits)
        if "nested" in message:
            raise Malformed(message) from fault
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise Malformed(why_malformed(data, fault, limits)) from fault
    try:
        return _ANY_DECODER.decode(data).rows  # type: ignore[return-value]  # as above
    except (msgspec.DecodeError, RecursionError) as fault:
        raise Malformed(why_malformed(data, fault, limits)) from fault
