"""Messages on the wire, held against Google's library."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.serve.grpc import infer, wire
from modelyard.serve.grpc.infer import CONTENT_NAMES, read_infer
from modelyard.serve.grpc.wire import WireFault
from tests.serve.grpc_protos import of

TEXT = st.text(max_size=12)
INT64 = st.integers(-(2**63), 2**63 - 1)
FLOAT32 = st.floats(width=32)
PARAMETER = st.one_of(
    st.tuples(st.just("bool_param"), st.booleans()),
    st.tuples(st.just("int64_param"), INT64),
    st.tuples(st.just("string_param"), TEXT),
    st.tuples(st.just("double_param"), st.floats(allow_nan=False)),
    st.tuples(st.just("uint64_param"), st.integers(0, 2**64 - 1)),
)
PARAMETERS = st.dictionaries(TEXT, PARAMETER, max_size=3)
CONTENTS = st.fixed_dictionaries(
    {},
    optional={
        "bool_contents": st.lists(st.booleans(), max_size=80),
        "int_contents": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=80),
        "int64_contents": st.lists(INT64, max_size=80),
        "uint_contents": st.lists(st.integers(0, 2**32 - 1), max_size=80),
        "uint64_contents": st.lists(st.integers(0, 2**64 - 1), max_size=80),
        "fp32_contents": st.lists(FLOAT32, max_size=80),
        "fp64_contents": st.lists(st.floats(), max_size=80),
        "bytes_contents": st.lists(st.binary(max_size=300), max_size=9),
    },
)


@st.composite
def requests(draw: st.DrawFn) -> Any:
    request = of("ModelInferRequest")(model_name=draw(TEXT), model_version=draw(TEXT), id=draw(TEXT))
    _put(request.parameters, draw(PARAMETERS))
    for _ in range(draw(st.integers(0, 3))):
        one = request.inputs.add(name=draw(TEXT), datatype=draw(TEXT), shape=draw(st.lists(INT64, max_size=4)))
        _put(one.parameters, draw(PARAMETERS))
        if draw(st.booleans()):
            one.contents.SetInParent()
            for name, values in draw(CONTENTS).items():
                getattr(one.contents, name).extend(values)
    for _ in range(draw(st.integers(0, 2))):
        _put(request.outputs.add(name=draw(TEXT)).parameters, draw(PARAMETERS))
    request.raw_input_contents.extend(draw(st.lists(st.binary(max_size=300), max_size=3)))
    return request


def _put(parameters: Any, given: dict[str, tuple[str, Any]]) -> None:
    for key, (field, value) in given.items():
        setattr(parameters[key], field, value)


def _parameters(theirs: Any) -> dict[str, Any] | None:
    found = {key: getattr(value, value.WhichOneof("choice") or "", None) for key, value in theirs.items()}
    return found or None


def _contents(theirs: Any) -> dict[int, Any]:
    found = {}
    for number, name in CONTENT_NAMES.items():
        values = list(getattr(theirs, name))
        if values:
            found[number] = values
    return found


def _ours(contents: dict[int, Any] | None) -> dict[int, Any]:
    """Return our contents with floats as floats."""
    found = dict(contents or {})
    for number, letter, size in ((6, "f", 4), (7, "d", 8)):
        if number in found:
            raw = b"".join(found[number])
            found[number] = list(struct.unpack(f"<{len(raw) // size}{letter}", raw))
    return {number: values for number, values in found.items() if values}


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, float) and isinstance(theirs, float) and math.isnan(ours):
        return math.isnan(theirs)
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(_same, ours, theirs))
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(_same(ours[key], theirs[key]) for key in ours)
    return bool(ours == theirs)


def check(data: bytes, theirs: Any, *, with_parameters: bool = True) -> None:
    """Hold what we read against what Google's library read."""
    ours = read_infer(data)
    assert (ours.model_name, ours.model_version, ours.id) == (theirs.model_name, theirs.model_version, theirs.id)
    if with_parameters:
        assert _same(ours.parameters or {}, _parameters(theirs.parameters) or {})
    assert [(one.name, one.datatype, one.shape) for one in ours.inputs] == [
        (one.name, one.datatype, list(one.shape)) for one in theirs.inputs
    ]
    for mine, other in zip(ours.inputs, theirs.inputs, strict=True):
        assert _same(_ours(mine.contents), _contents(other.contents))
    assert [one.name for one in ours.outputs or ()] == [one.name for one in theirs.outputs]
    for wanted, other in zip(ours.outputs or (), theirs.outputs, strict=True):
        if with_parameters:
            assert _same(wanted.parameters or {}, _parameters(other.parameters) or {})
    assert ours.raw == list(theirs.raw_input_contents)


@settings(deadline=None, max_examples=200)
@given(requests())
def test_requests_are_read_as_another_library_wrote_them(request: Any) -> None:
    data = request.SerializeToString()
    check(data, request)
    check(data, request)  # now from what is remembered


@settings(deadline=None, max_examples=300)
@given(requests(), st.data())
def test_altered_bytes_are_read_as_another_library_reads_them_or_refused(request: Any, data: st.DataObject) -> None:
    altered = bytearray(request.SerializeToString() + data.draw(st.binary(max_size=8)))
    for _ in range(data.draw(st.integers(0, 4))):
        if altered:
            altered[data.draw(st.integers(0, len(altered) - 1))] = data.draw(st.integers(0, 255))
    try:
        theirs = of("ModelInferRequest").FromString(bytes(altered))
    except DecodeError:
        theirs = None
    try:
        read_infer(bytes(altered))
    except WireFault:
        return
    if theirs is not None:  # an entry of a map that is not whole is dropped there and taken here; nothing is lost by it
        check(bytes(altered), theirs, with_parameters=False)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_stumble(data: bytes) -> None:
    try:
        read_infer(data)
        list(wire.fields(data))
    except WireFault as fault:
        assert str(fault).endswith(".")


@pytest.mark.parametrize("size", [1, 200, 5_000])
def test_numbers_that_are_not_packed_are_read_too(size: int) -> None:
    contents = b"".join(b"\x18" + wire.number(value) for value in range(size))
    floats = b"".join(b"\x35" + bytes(4) for _ in range(size))
    one = wire.text(1, "a") + wire.text(2, "INT64") + b"\x18\x05\x18\x02" + wire.blob(5, contents + floats)
    data = wire.text(1, "m") + wire.blob(5, one)
    check(data, of("ModelInferRequest").FromString(data))


@pytest.mark.parametrize(("bits", "is_signed"), [(32, True), (64, True), (32, False), (64, False)])
@settings(deadline=None, max_examples=50)
@given(st.data())
def test_many_packed_numbers_are_read_as_few_are(bits: int, is_signed: bool, data: st.DataObject) -> None:
    least = -(2 ** (bits - 1)) if is_signed else 0
    most = 2 ** (bits - is_signed) - 1
    numbers = data.draw(st.lists(st.integers(least, most), max_size=100))
    raw = b"".join(wire.number(value & (2**64 - 1)) for value in numbers)
    assert wire.packed(raw, bits=bits, is_signed=is_signed) == numbers


@pytest.mark.parametrize("data", [b"\xff" * 11, b"\xff" * 200, b"\x80", b"\xff" * 100 + b"\x80"])
def test_numbers_that_do_not_end_are_refused(data: bytes) -> None:
    with pytest.raises(WireFault):
        wire.packed(data, bits=64, is_signed=True)


def test_what_is_remembered_of_inputs_has_a_bound() -> None:
    for place in range(infer.MOST_KNOWN + 100):
        read_infer(wire.blob(5, wire.text(1, f"column_{place}")))
    read_infer(wire.blob(5, wire.text(1, "x" * 1_000)))
    assert len(infer._known) <= infer.MOST_KNOWN
    assert max(map(len, infer._known)) <= infer.MOST_KNOWN_BYTES


@settings(deadline=None, max_examples=60)
@given(
    TEXT, st.dictionaries(TEXT, st.one_of(TEXT, st.booleans()), max_size=4), st.lists(st.floats(width=32), max_size=9)
)
def test_answers_are_read_by_another_library(name: str, parameters: dict[str, str | bool], values: list[float]) -> None:
    values = [0.0 if value != value else value for value in values]
    raw = struct.pack(f"<{len(values)}f", *values)
    about = infer.output_head("probabilities", "FP32", [len(values), 300])
    data = (
        infer.answer_head(name, "7", parameters)
        + infer.typed_output(about, "FP32", raw, values)
        + infer.raw_output(raw)
    )
    theirs = of("ModelInferResponse").FromString(data)
    assert (theirs.model_name, theirs.model_version) == (name, "7")
    assert {key: getattr(value, value.WhichOneof("choice")) for key, value in theirs.parameters.items()} == parameters
    assert list(theirs.outputs[0].shape) == [len(values), 300]
    assert list(theirs.raw_output_contents) == [raw]
    assert values == list(theirs.outputs[0].contents.fp32_contents)
