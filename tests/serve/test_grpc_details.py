"""What broke the contract, as grpcio and protobuf read it from a call's trailers."""

from __future__ import annotations

import base64
import doctest
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.serve.grpc import details as details_file
from modelyard.serve.grpc import status as status_file
from modelyard.serve.grpc.details import BAD_REQUEST, FIELD, details
from modelyard.serve.grpc.status import Status, escaped, shortened
from modelyard.serve.http2.hpack import Decoder
from tests.serve.grpc_front import grpc_front
from tests.serve.grpc_protos import of
from tests.serve.test_grpc import fault, rows

MOST_FIELDS = 8_192  # bytes of fields that clients take by themselves


@pytest.fixture(scope="module")
def channel(bodies: dict[str, tuple[Path, str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    folder = tmp_path_factory.mktemp("details")
    with grpc_front(folder, bodies["income@1"]) as front, grpc.insecure_channel(front.address) as opened:
        yield opened


def violations(data: bytes) -> tuple[Any, list[tuple[str, str]]]:
    """Return a status, and its violations as place and reason."""
    status = of("RpcStatus").FromString(data)
    (detail,) = status.details
    assert detail.type_url == BAD_REQUEST
    return status, [(one.field, one.description) for one in of("BadRequest").FromString(detail.value).field_violations]


def test_a_broken_contract_is_said_by_row_and_column(channel: grpc.Channel) -> None:
    request = rows(30, 31)
    request.inputs[0].datatype, request.inputs[0].contents.int64_contents[:] = "FP64", []
    request.inputs[0].contents.fp64_contents.extend([30.5, 31.0])
    caught = fault(channel, "ModelInfer", request)
    assert caught.code() is grpc.StatusCode.INVALID_ARGUMENT
    status, found = violations(dict(caught.trailing_metadata())[FIELD.decode()])
    assert (status.code, status.message) == (Status.INVALID_ARGUMENT, caught.details())
    assert found == [("age[0]", "saw 30.5, wanted a whole number")]


def test_what_is_no_fault_of_the_rows_has_no_details(channel: grpc.Channel) -> None:
    caught = fault(channel, "ModelInfer", rows(30, model="nobody"))
    assert FIELD.decode() not in dict(caught.trailing_metadata())


FAULTS = st.lists(st.text(max_size=200) | st.just("row 3, column `age`: is missing"), min_size=1, max_size=150)


@given(message=st.text(max_size=3_000), faults=FAULTS)
def test_whatever_the_faults_say_the_field_is_bounded_and_can_be_read(message: str, faults: list[str]) -> None:
    block = details(Status.INVALID_ARGUMENT, message, faults)
    ((name, value),) = Decoder(most_bytes=MOST_FIELDS).decode(block)
    assert name == FIELD and b"=" not in value
    assert len(block) + len(escaped(message)) + 600 < MOST_FIELDS
    status, found = violations(base64.b64decode(value + b"=" * (-len(value) % 4)))
    assert status.message == shortened(message) == message[: len(status.message)]
    assert len(found) <= len(faults)
    if sum(len(one.encode()) + 12 for one in faults) < 1_000:
        assert len(found) == len(faults)


def test_text_that_is_not_unicode_is_said_all_the_same() -> None:
    ((_, value),) = Decoder(most_bytes=MOST_FIELDS).decode(
        details(Status.INVALID_ARGUMENT, "a\ud800", ["row 1: \udfff"])
    )
    status, found = violations(base64.b64decode(value + b"=" * (-len(value) % 4)))
    assert (status.message, found) == ("a?", [("[1]", "?")])


def test_of_many_faults_as_many_are_said_as_find_room() -> None:
    faults = [f"row {place}, column `age`: is missing" for place in range(100)]
    ((_, value),) = Decoder(most_bytes=MOST_FIELDS).decode(details(Status.INVALID_ARGUMENT, "Broken.", faults))
    _, found = violations(base64.b64decode(value + b"=" * (-len(value) % 4)))
    assert 20 < len(found) < 100
    assert found[:2] == [("age[0]", "is missing"), ("age[1]", "is missing")]


@pytest.mark.parametrize("module", [details_file, status_file])
def test_the_examples_run(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0
