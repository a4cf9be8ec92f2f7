"""Header blocks: the examples of RFC 7541, another house's encoder and decoder, and bytes of all kinds."""

from __future__ import annotations

import hpack
import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.table import HeaderTable
from hypothesis import given
from hypothesis import strategies as st

from modelyard.serve.http2 import huffman as http2_huffman
from modelyard.serve.http2.hpack import STATIC, TABLE_BYTES, Decoder, Field, FieldsTooLarge, HpackFault, encode
from modelyard.serve.http2.huffman import HuffmanFault

NAMES = st.sampled_from([b"a", b"te", b"content-type", b":path", b"grpc-timeout", b"x-request-id"])
FIELDS = st.lists(st.tuples(NAMES, st.binary(max_size=40)), max_size=12)


def decoder() -> Decoder:
    return Decoder(most_bytes=16_384)


# RFC 7541, C.3 and C.4: three requests on one connection, plain and with Huffman's code
REQUESTS: list[list[Field]] = [
    [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")],
    [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"www.example.com"),
        (b"cache-control", b"no-cache"),
    ],
    [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":path", b"/index.html"),
        (b":authority", b"www.example.com"),
        (b"custom-key", b"custom-value"),
    ],
]
PLAIN = [
    "828684410f7777772e6578616d706c652e636f6d",
    "828684be58086e6f2d6361636865",
    "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
]
CODED = [
    "828684418cf1e3c2e5f23a6ba0ab90f4ff",
    "828684be5886a8eb10649cbf",
    "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
]


@pytest.mark.parametrize("blocks", [PLAIN, CODED])
def test_the_examples_of_the_standard_are_read_as_it_says(blocks: list[str]) -> None:
    reader = decoder()
    assert [reader.decode(bytes.fromhex(block)) for block in blocks] == REQUESTS


def test_the_tables_are_those_of_the_standard() -> None:
    assert STATIC[1:] == list(HeaderTable.STATIC_TABLE)
    wanted = {symbol: (REQUEST_CODES[symbol], REQUEST_CODES_LENGTH[symbol]) for symbol in range(257)}
    assert http2_huffman.codes() == wanted


@given(st.lists(FIELDS, max_size=8), st.booleans(), st.lists(st.sampled_from([0, 64, 512, 4096]), max_size=8))
def test_what_another_encoder_writes_is_read_back(blocks: list[list[Field]], coded: bool, sizes: list[int]) -> None:
    writer, reader = hpack.Encoder(), decoder()
    for place, fields in enumerate(blocks):
        if place < len(sizes):
            writer.header_table_size = sizes[place]
        assert reader.decode(writer.encode(fields, huffman=coded)) == fields


@given(st.binary(max_size=200))
def test_any_bytes_are_read_as_another_decoder_reads_them_or_refused(block: bytes) -> None:
    theirs = hpack.Decoder()
    try:
        wanted = [(bytes(name), bytes(value)) for name, value in theirs.decode(block, raw=True)]
    except hpack.HPACKError:
        with pytest.raises(HpackFault):
            decoder().decode(block)
        return
    try:
        assert decoder().decode(block) == wanted
    except HpackFault as fault:  # of numbers we read what any field can need, and no more
        assert "too long" in str(fault) or "padding" in str(fault) or "size changes" in str(fault)


@given(st.binary(max_size=300))
def test_huffman_strings_are_read_back(text: bytes) -> None:
    coded = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(text)
    assert http2_huffman.decode(coded) == text


@pytest.mark.parametrize("text", ["ffffffff", "00", "1fff", "3fffffff"])
def test_strings_that_no_encoder_writes_are_refused(text: str) -> None:
    with pytest.raises(HuffmanFault):
        http2_huffman.decode(bytes.fromhex(text))


@given(st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=300)), max_size=6))
def test_what_is_written_is_read_back_by_another_decoder_and_leaves_its_table_alone(fields: list[Field]) -> None:
    theirs = hpack.Decoder()
    block = b"".join(encode(name, value) for name, value in fields)
    assert [(bytes(n), bytes(v)) for n, v in theirs.decode(block, raw=True)] == fields
    assert len(theirs.header_table.dynamic_entries) == 0


def test_a_block_that_says_more_than_is_taken_is_refused_however_short_it_is() -> None:
    reader = decoder()
    reader.decode(b"\x40\x01a\x7f\xa1\x1e" + bytes(4_000))  # a field of 4 000 bytes enters the table
    with pytest.raises(FieldsTooLarge):
        reader.decode(b"\xbe" * 10)


def test_the_table_never_holds_more_than_was_offered() -> None:
    reader = decoder()
    with pytest.raises(HpackFault, match="offered"):
        reader.decode(b"\x3f\xe2\x1f")  # 4097
    reader = decoder()
    for _ in range(1_000):
        reader.decode(b"\x40\x01a\x20" + bytes(32))
    assert reader._size <= TABLE_BYTES
    assert reader.changes == 1_000


@pytest.mark.parametrize("block", ["80", "be", "ff00", "40", "4001", "400161", "0001", "7f" + "ff" * 8, "822001"])
def test_broken_blocks_are_refused(block: str) -> None:
    with pytest.raises(HpackFault):
        decoder().decode(bytes.fromhex(block))
