"""Kept answers as they stand in a segment, and labels as people write them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modelyard.bundle.answers import (
    Answerer,
    Feedback,
    Kept,
    Unread,
    digest_of_id,
    entries,
    entry,
    fitting,
    label_text,
    read_feedback,
)

texts = st.text(max_size=20)
records = st.one_of(
    st.builds(
        Answerer,
        number=st.integers(0, 9),
        release=texts,
        classes=st.lists(texts, max_size=3).map(tuple),
        columns=st.lists(texts, max_size=3).map(tuple),
    ),
    st.builds(
        Kept,
        request=texts.map(digest_of_id),
        row=st.integers(0, 99),
        number=st.integers(0, 9),
        at=st.floats(0, 2e9),
        p=st.floats(0.01, 1),
        label=st.none() | st.integers(0, 9),
        probabilities=st.binary(max_size=12),
        value=st.none() | st.floats(allow_nan=False),
        columns=st.lists(st.none() | texts, max_size=3).map(tuple),
    ),
)


@given(st.lists(records, max_size=6), st.data())
def test_a_segment_cut_anywhere_gives_all_whole_entries_and_no_other(
    wanted: list[Answerer | Kept], data: st.DataObject
) -> None:
    parts = [entry(one) for one in wanted]
    whole = b"".join(parts)
    cut = data.draw(st.integers(0, len(whole)))
    found = list(entries(whole[:cut]))
    ends = [sum(map(len, parts[: place + 1])) for place in range(len(parts))]
    assert [one for one, _ in found] == [one for one, end in zip(wanted, ends, strict=True) if end <= cut]
    assert [end for _, end in found] == [end for end in ends if end <= cut]


@given(st.binary(max_size=200))
def test_bytes_that_nobody_wrote_are_no_entries(noise: bytes) -> None:
    assert list(entries(noise)) == []


@given(records, st.data())
def test_an_entry_with_a_changed_byte_is_none(record: Answerer | Kept, data: st.DataObject) -> None:
    changed = bytearray(entry(record))
    place = data.draw(st.integers(0, len(changed) - 1))
    changed[place] ^= data.draw(st.integers(1, 255))
    assert list(entries(bytes(changed))) == []


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: f'{{"request":{text}'.encode(errors="replace")))
def test_whatever_is_handed_in_is_feedback_or_says_why_not(data: bytes) -> None:
    found = read_feedback(data, "line 1")
    assert isinstance(found, Feedback) or (isinstance(found, Unread) and found.why.startswith("line 1: "))


def test_values_too_deep_are_refused() -> None:
    assert isinstance(read_feedback(b'{"request": "a", "label": ' + b"[" * 100_000, "line 1"), Unread)


@given(st.integers(-(10**15), 10**15), st.sampled_from(["{}", "{}.0", " {} ", "{}e0"]))
def test_a_number_names_its_class_in_any_spelling(number: int, form: str) -> None:
    assert fitting(form.format(number), (str(number), "other")) == str(number)
    assert fitting(label_text(number), ()) == repr(float(number))


@given(texts, st.lists(texts, min_size=1, max_size=4, unique=True).map(tuple))
def test_only_a_class_comes_out(label: str, classes: tuple[str, ...]) -> None:
    found = fitting(label, classes)
    assert found is None or found in classes
    assert label not in classes or found == label


def test_truth_is_written_in_many_ways() -> None:
    assert [fitting(label, ("false", "true")) for label in ("True", "TRUE", "true", "1", "yes")] == [
        "true", "true", "true", None, None,
    ]  # fmt: skip
