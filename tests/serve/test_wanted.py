"""The deadline in a header: what is a number of milliseconds, and what is not, in HTTP and gRPC alike."""

from __future__ import annotations

import doctest
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.serve.grpc.head import read_head
from modelyard.serve.guard import wanted
from modelyard.serve.guard.wanted import read_deadline_ms
from modelyard.serve.http2.hpack import Field

GRPC: list[Field] = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/inference.GRPCInferenceService/ModelInfer"),
    (b"content-type", b"application/grpc"),
]
WORDS = (b"", b"nan", b"inf", b"Infinity", b"soon", b"1_000", b"-1", b"+1", b" 1", b"1 ", b"1\n", b"0x10", b"1,0")
BROKEN = (b".5", b"1e", b"e3", b"1.2.3", b"1e3.0", b"\xd9\xa1", b"9" * 5000)
BEYOND = (b"0", b"0.0", b"1e-400", b"1e999")


@pytest.mark.parametrize("text", [*WORDS, *BROKEN, *BEYOND])
def test_what_is_no_number_above_zero_is_none(text: bytes) -> None:
    assert read_deadline_ms(text) is None


@given(st.floats(min_value=1e-6, max_value=1e300))
def test_a_number_as_programs_write_it_is_read_as_it_is(number: float) -> None:
    found = read_deadline_ms(repr(number).encode())
    assert found == number
    assert read_deadline_ms(b"%d" % min(math.ceil(number), 10**30)) == float(min(math.ceil(number), 10**30))


@given(st.text("0123456789.eE+-_ naif", max_size=12))
def test_what_is_read_is_what_the_language_reads_but_for_signs_words_spaces_and_underscores(text: str) -> None:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    plain = re.match(r"[0-9]", text) is not None and not re.search(r"[_ ]", text)
    assert read_deadline_ms(text.encode()) == (number if plain and 0 < number < math.inf else None)


def deadline(*headers: Field) -> bytes:
    return read_head([*GRPC, *headers], {}, None).headers[b"x-deadline-ms"]  # type: ignore[arg-type]  # no call is made


def test_of_two_deadlines_of_a_grpc_call_the_nearer_one_counts() -> None:
    assert float(deadline((b"grpc-timeout", b"2S"), (b"x-deadline-ms", b"250"))) == 250.0
    assert float(deadline((b"grpc-timeout", b"100m"), (b"x-deadline-ms", b"2.5e2"))) == 100.0
    assert float(deadline((b"grpc-timeout", b"1S"), (b"x-deadline-ms", b"1e-9"))) > 0.0


@pytest.mark.parametrize("text", [b"1_000", b"nan", b"-5", b"soon"])
def test_a_deadline_that_cannot_be_read_is_not_replaced_by_the_other_so_that_it_is_told(text: bytes) -> None:
    assert deadline((b"grpc-timeout", b"2S"), (b"x-deadline-ms", text)) == text


@pytest.mark.parametrize("text", [b"1_0m", b"-1S", b"1.5S", b"", b"S", b"123456789m", b"5 m", b"5x"])
def test_a_grpc_timeout_out_of_form_is_told_as_one_that_cannot_be_read(text: bytes) -> None:
    assert read_deadline_ms(deadline((b"grpc-timeout", text))) is None


def test_the_examples_run() -> None:
    assert doctest.testmod(wanted).failed == 0
