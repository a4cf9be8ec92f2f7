"""The form of hosted platforms and of MLflow's clients: `POST /invocations`, with `GET /ping` for their health checks.

In come JSON (`dataframe_split`, `dataframe_records`, `instances`, `inputs`, or the plain form's `rows`), CSV with a
header, or JSON lines; values mean what they mean in the plain form. Rows without names are in the order of the model's
features; where the only feature is a tensor, they are its rows. An empty field of CSV is missing, and so is NaN.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from modelyard.bundle.check import check_rows, check_values
from modelyard.bundle.intake import Packed
from modelyard.core.arrays import Columns
from modelyard.core.contract import Kind
from modelyard.serve.batching import Settled
from modelyard.serve.doors import Door, Malformed, Said, TooLarge, check_pieces, why_malformed
from modelyard.serve.forms.csv_rows import rows_of_csv
from modelyard.serve.model import Model
from modelyard.serve.request import JSON, Code, Request

Handler = Callable[[Request], None]
Record = dict[str, Any]
T = TypeVar("T")

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs", "rows")
CSV, LINES = (b"text/csv",), (b"application/jsonlines", b"application/jsonl", b"application/x-ndjson")
JSONS = (b"", b"application/json")


class _Split(msgspec.Struct, forbid_unknown_fields=True):
    columns: list[str]
    data: list[list[Any]]
    index: list[Any] | None = None  # as pandas writes it; it means nothing here


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    dataframe_split: _Split | None = None
    dataframe_records: list[Record] | None = None
    instances: list[Any] | None = None
    inputs: dict[str, list[Any]] | list[Any] | None = None
    rows: list[Record] | None = None
    params: Record | None = None
    parameters: Record | None = None


class _Predictions(msgspec.Struct, gc=False):
    predictions: list[Record]
    served_by: str
    degraded: bool
    reason: str | None
    request_id: str


_BODY = msgspec.json.Decoder(_Body)
_LINE = msgspec.json.Decoder(Record | list[Any])
_encode = msgspec.json.Encoder().encode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Serving(Protocol):
    """A service that has these paths, as `Desk` is."""

    @property
    def ready(self) -> bool: ...

    def infer(self, request: Request, door: Door, release: str | None = None) -> None: ...


class AskedInvocation:
    """Rows as they were sent, held against the contract."""

    __slots__ = ("packed", "rows")
    wishes = None  # headers say what is wanted

    def __init__(self, packed: Packed, rows: int) -> None:
        self.packed, self.rows = packed, rows

    def answer_row(self, settled: Settled, place: int) -> bytes | None:
        return None  # it says who answered

    def answer(self, settled: Settled, model: Model, said: Said) -> tuple[bytes, bytes, bytes]:
        """Return body, content type and no header lines; a record a row, as MLflow's own server has of this body."""
        if settled.values is not None:
            records: list[Record] = [{"value": value} for value in settled.values]
        else:
            names = ["label", *(probability_name(name) for name in model.classes)]
            rows = zip(settled.labels or [], settled.probabilities or [], strict=True)
            records = [dict(zip(names, (label, *shares), strict=True)) for label, shares in rows]
        reply = _Predictions(records, said.served_by, said.degraded is not None, said.degraded, said.request_id)
        return _encode(reply), JSON, b""


class InvocationsDoor:
    """Reads what hosted platforms send."""

    name = "invocations"

    def read(self, request: Request, model: Model) -> AskedInvocation:
        """Read a request; raises Malformed, TooLarge, ContractBroken."""
        kind = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind not in CSV:
            check_pieces(request.body, model)
        if kind in JSONS:
            quick = model.intake.rows(request.body)
            if quick is not None and quick[1] <= model.limits.rows_at_once:
                return AskedInvocation(*quick)
            columns = _of_json(request.body, model)
        elif kind in CSV:
            columns = _of_records(rows_of_csv(request.body, model.contract, most=model.limits.rows_at_once), model)
        elif kind in LINES:
            columns = _of_records(_of_lines(request.body, model), model)
        else:
            known = ", ".join(name.decode() for name in (*JSONS[1:], *CSV, LINES[0]))
            raise Malformed(f"The content type `{kind[:100].decode('latin-1')}` is not read here. Known: {known}.")
        return AskedInvocation(model.intake.pack(columns), len(columns))


def probability_name(label: str) -> str:
    """Return the field with the probability of a class."""
    return f"probability {label}"


def hosted_paths(desk: Serving, door: Door) -> dict[bytes, dict[bytes, Handler]]:
    """Return the paths that hosted platforms ask."""

    def ping(request: Request) -> None:
        good = desk.ready
        request.answer(b'{"ready":true}' if good else b'{"ready":false}', code=Code.OK if good else Code.NOT_NOW)

    return {b"/invocations": {b"POST": lambda request: desk.infer(request, door)}, b"/ping": {b"GET": ping}}


def _of_json(data: bytes, model: Model) -> Columns:
    body = _decoded(data, _BODY, model)
    if body.params or body.parameters:
        raise Malformed("The model takes no parameters; leave out `params` and `parameters`.")
    given = [name for name in FORMS if getattr(body, name) is not None]
    if len(given) != 1:
        raise Malformed(f"Wanted one of {', '.join(f'`{name}`' for name in FORMS)}; {len(given)} came.")
    if body.dataframe_split is not None:
        return _of_records(_of_split(body.dataframe_split), model)
    if isinstance(body.inputs, dict):
        return _of_columns(body.inputs, model)
    return _of_records(getattr(body, given[0]), model)


def _decoded(data: bytes, decoder: msgspec.json.Decoder[T], model: Model) -> T:
    """Read JSON. MLflow's clients write a gap of pandas as `NaN`, which is no JSON: here it is null."""
    try:
        return decoder.decode(data)
    except _UNREADABLE as fault:
        if b"NaN" in data:
            with contextlib.suppress(ValueError, RecursionError):  # msgspec's faults are ValueErrors too
                return msgspec.convert(json.loads(data, parse_constant=_gap), decoder.type)
        raise Malformed(why_malformed(data, fault, model.limits)) from fault


def _gap(word: str) -> None:
    if word != "NaN":
        raise ValueError(word)


def _of_split(split: _Split) -> list[Record]:
    if len(set(split.columns)) < len(split.columns):
        raise Malformed("`dataframe_split` names a column twice.")
    return [_named(split.columns, row, place) for place, row in enumerate(split.data)]


def _of_lines(data: bytes, model: Model) -> list[Any]:
    lines = [line for line in data.split(b"\n", model.limits.rows_at_once + 1) if line.strip()]
    _count(lines, model)
    rows: list[Any] = []
    for line in lines:
        try:
            rows.append(_decoded(line, _LINE, model))
        except Malformed as fault:
            raise Malformed(f"Line {len(rows) + 1}: {fault}") from fault
    return rows


def _of_columns(named: Mapping[str, list[Any]], model: Model) -> Columns:
    """Check values by column; a list of one value is that value, as tensors of (rows, 1) have it."""
    if not named:
        raise Malformed("`inputs` is empty, wanted the model's columns.")
    _count(next(iter(named.values())), model)
    tensors = {column.name for column in model.contract.columns if column.kind is Kind.TENSOR}
    flat = {name: values if name in tensors else [_flat(value) for value in values] for name, values in named.items()}
    for name, values in flat.items():
        if name not in tensors and any(isinstance(value, list | dict) for value in values):
            raise Malformed(f"Column `{name[:100]}` in `inputs` is nested; wanted one flat list of values.")
    return check_values(model.contract, flat, unknown_category=model.unknown_category)


def _of_records(rows: Sequence[Any], model: Model) -> Columns:
    """Check rows: objects by name, or lists in the order of the features."""
    _count(rows, model)
    features = model.contract.features
    if len(features) == 1 and features[0].kind is Kind.TENSOR and not any(isinstance(row, dict) for row in rows):
        return check_values(model.contract, {features[0].name: rows}, unknown_category=model.unknown_category)
    names = [column.name for column in features]
    named = [_named(names, row, place) if isinstance(row, list) else row for place, row in enumerate(rows)]
    return check_rows(model.contract, named, unknown_category=model.unknown_category)


def _count(rows: Sequence[Any], model: Model) -> None:
    if not rows:
        raise Malformed("There are no rows, wanted at least one.")
    most = model.limits.rows_at_once
    if len(rows) > most:
        raise TooLarge(f"{len(rows)} rows came, at most {most} are taken at once.")


def _named(names: Sequence[str], row: list[Any], place: int) -> Record:
    if len(row) != len(names):
        shown = ", ".join(names[:20])
        raise Malformed(f"Row {place} has {len(row)} values, wanted {len(names)}: {shown[:300]}.")
    return dict(zip(names, row, strict=True))


def _flat(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value
