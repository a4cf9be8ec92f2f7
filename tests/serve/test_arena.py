"""Memory shared by front and worker: what is lent is read, and nobody loses the ground under their feet."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.serve.arena import ALIGNED, KEPT_BYTES, Arena, Lent

parts = st.lists(st.binary(max_size=300), max_size=5)


@pytest.fixture
def arena() -> Iterator[Arena]:
    one = Arena()
    yield one
    one.close()


@given(st.lists(st.lists(parts, max_size=5), min_size=1, max_size=6))
def test_what_was_lent_is_read_batch_after_batch(batches: list[list[list[bytes]]]) -> None:
    arena = Arena()
    lent = Lent(os.dup(arena.fd))
    for columns in batches:
        sizes = arena.lend(columns)
        assert [bytes(view) for view in lent.columns(sizes)] == [b"".join(column) for column in columns]
        arena.give_back()
    arena.close()
    lent.close()


def test_a_larger_batch_is_seen_by_who_mapped_a_smaller_one(arena: Arena) -> None:
    lent = Lent(os.dup(arena.fd))
    (small,) = lent.columns(arena.lend([[b"abc"]]))
    large = os.urandom(3_000_001)
    (seen,) = lent.columns(arena.lend([[large[:17], large[17:]]]))
    assert bytes(seen) == large
    assert bytes(small) == large[:3]  # the same place: a reader has it only until it answers
    lent.close()


def test_each_column_begins_where_it_can_be_computed_on(arena: Arena) -> None:
    lent = Lent(os.dup(arena.fd))
    for size in (1, 8, ALIGNED - 1, ALIGNED, ALIGNED + 1):
        first, second = lent.columns(arena.lend([[b"x" * size], [b"y" * 8]]))
        assert bytes(first) == b"x" * size and bytes(second) == b"y" * 8
    lent.close()


def test_what_one_large_batch_took_is_given_back(arena: Arena) -> None:
    arena.lend([[b"x" * (2 * KEPT_BYTES)]])
    assert os.fstat(arena.fd).st_blocks * 512 >= 2 * KEPT_BYTES
    arena.give_back()
    assert os.fstat(arena.fd).st_blocks * 512 <= KEPT_BYTES + 4096


def test_a_reader_cannot_write_and_nobody_can_shrink_it(arena: Arena) -> None:
    lent = Lent(os.dup(arena.fd))
    (view,) = lent.columns(arena.lend([[b"abc"]]))
    assert view.readonly
    with pytest.raises(OSError) as caught:
        os.ftruncate(arena.fd, 0)
    assert caught.value.errno == errno.EPERM
    lent.close()


@pytest.mark.parametrize("sizes", [[-1], [5, -1], [1 << 40]])
def test_a_promise_of_what_is_not_there_is_refused(arena: Arena, sizes: list[int]) -> None:
    lent = Lent(os.dup(arena.fd))
    arena.lend([[b"abc"]])
    with pytest.raises(ValueError, match="bytes"):
        lent.columns(sizes)
    lent.close()
