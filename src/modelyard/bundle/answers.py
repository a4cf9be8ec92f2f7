"""Answers that are kept until their outcomes come: the records, and the form in which a front writes them down.

A segment is a file: a head that names it, then entries, each with its length and CRC32 before it. An entry is the
kept answer to one row, or says what a number in later entries stands for. Segments are only appended to, and reading
one stops at the first entry that is not whole: it may still be being written.
"""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from collections.abc import Iterator
from typing import Annotated

import msgspec

MAGIC = b"answers1"
NAME_BYTES = 8  # random, of a segment; they follow the magic
HEAD_BYTES = len(MAGIC) + NAME_BYTES
ENDING = ".bin"
FOLDER = "answers"  # in a service's run folder
MOST_ENTRY_BYTES = 64 * 1024
MOST_ID = 128  # characters of a request's id, as the doors take them
MOST_LABEL = 500
MOST_ROW = 1_000_000
MOST_VALUE = 1e100  # of a label that is a number: its square is one too
MOST_COLUMNS = 16  # told with an outcome
MOST_WHOLE = 1e15  # of a number that is written without a point
MOST_TEXT = 200  # characters of a column's name, and of its value

_BEFORE = struct.Struct("<II")  # length and CRC32 of an entry


class Answerer(msgspec.Struct, frozen=True, array_like=True, tag="who"):
    """What `number` stands for: a release, its classes in the order of its probabilities, and the columns kept."""

    number: int
    release: str
    classes: tuple[str, ...] = ()  # none: it answers numbers
    columns: tuple[str, ...] = ()


class Kept(msgspec.Struct, frozen=True, array_like=True, tag="row"):
    """The answer to one row. Of a classification `label` and `probabilities`, of a regression `value`."""

    request: bytes  # `digest_of_id`
    row: int  # of the request, from 0
    number: int  # of the answerer
    at: float  # seconds since 1970
    p: float  # the probability that it had of being kept
    label: int | None = None  # place among the classes
    probabilities: bytes = b""  # float32, little-endian
    value: float | None = None
    columns: tuple[str | None, ...] = ()  # values as text, of the answerer's columns


Label = str | bool | int | float


class Feedback(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What came true of one row of a request."""

    request: Annotated[str, msgspec.Meta(min_length=1, max_length=MOST_ID)]
    label: Label
    row: Annotated[int, msgspec.Meta(ge=0, le=MOST_ROW)] = 0
    at: float | None = None  # when it became known, seconds since 1970; when it was handed in, where it is not said
    columns: dict[str, Label] = {}  # values by which groups and slices are compared, and which no request carries


class Unread(msgspec.Struct, frozen=True, kw_only=True):
    """Something among feedback that is none, and why."""

    why: str


class FeedbackCounts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What became of feedback.

    `joined` have an answer, the `late` ones among them. `unmatched` have none; one whose answer is read later is
    joined then. `first_fault` says why the first malformed one is.
    """

    joined: int = 0
    unmatched: int = 0
    duplicate: int = 0  # of the same row; the first stands
    late: int = 0
    malformed: int = 0
    first_fault: str | None = None


class Joined(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A kept answer and what came true. `place` counts them in the order in which they were joined, from 1."""

    place: int
    release: str
    label: str
    at: float  # when it was answered
    p: float = 1.0
    late: bool = False
    classes: tuple[str, ...] = ()
    answered: str | None = None  # the class
    probabilities: tuple[float, ...] = ()
    value: float | None = None
    columns: dict[str, str | None] = {}  # as the request had them, else as they were told with the outcome


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Answerer | Kept)
_FEEDBACK = msgspec.json.Decoder(Feedback)


def digest_of_id(request: str) -> bytes:
    """Return the 16 bytes that stand for a request's id.

    >>> len(digest_of_id("a"))
    16
    """
    return hashlib.blake2b(request.encode(errors="surrogatepass"), digest_size=16).digest()


def entry(record: Answerer | Kept) -> bytes:
    """Return a record as it stands in a segment."""
    data = _ENCODER.encode(record)
    return _BEFORE.pack(len(data), zlib.crc32(data)) + data


def entries(data: bytes) -> Iterator[tuple[Answerer | Kept, int]]:
    """Yield the records at the beginning of some bytes, each with where it ends, up to the first that is not whole."""
    at = 0
    while at + _BEFORE.size <= len(data):
        size, crc = _BEFORE.unpack_from(data, at)
        start = at + _BEFORE.size
        payload = data[start : start + size]
        if not 0 < size <= MOST_ENTRY_BYTES or len(payload) < size or zlib.crc32(payload) != crc:
            return
        try:
            record = _DECODER.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return
        at = start + size
        yield record, at


def label_text(label: Label) -> str:
    """Return a label as text, as the classes of a contract are written.

    >>> label_text(True), label_text(1.0), label_text("yes")
    ('true', '1.0', 'yes')
    """
    if isinstance(label, bool):
        return "true" if label else "false"
    return label if isinstance(label, str) else repr(label)


def column_text(value: Label) -> str:
    """Return a column's value as text, as the evaluation names groups: a whole number has no point.

    >>> column_text(True), column_text(40.0), column_text("F")
    ('true', '40', 'F')
    """
    if isinstance(value, float) and value == int(value) and abs(value) < MOST_WHOLE:
        return str(int(value))
    return label_text(value)


def read_feedback(data: bytes, where: str) -> Feedback | Unread:
    """Return the feedback in a JSON object, or what keeps it from being some, with where it stands.

    >>> read_feedback(b'{"request": "a", "label": "yes"}', "line 1").label
    'yes'
    """
    try:
        return _FEEDBACK.decode(data)
    except msgspec.ValidationError as fault:
        return Unread(why=f"{where}: {fault}")
    except (msgspec.MsgspecError, ValueError, RecursionError) as fault:
        return Unread(why=f'{where}: no JSON object stands there, such as {{"request": "ID", "label": "yes"}}: {fault}')


def fitting(label: str, classes: tuple[str, ...]) -> str | None:
    """Return a label as the class that it names, or as the number that it is where there are none; else None.

    Numbers are compared as numbers, as other tools write 1 as 1.0.

    >>> fitting("1.0", ("0", "1")), fitting("maybe", ("no", "yes")), fitting("nan", ())
    ('1', None, None)
    """
    if label in classes:
        return label
    number = _number(label)
    if not classes:
        return None if number is None else repr(number)
    if number is None:
        low = label.lower()
        return next((one for one in classes if one.lower() == low in ("true", "false")), None)
    return next((one for one in classes if _number(one) == number), None)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and abs(number) <= MOST_VALUE else None
