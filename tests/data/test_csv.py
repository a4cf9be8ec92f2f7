"""CSV: cut and counted as the csv module does, whatever polars would make of it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.data_plan import Format, Reading
from modelyard.data.csv_cut import AFTER_QUOTE, UNCLOSED, Dialect, cut
from modelyard.data.csv_rows import csv_rows
from modelyard.data.sources import find
from modelyard.errors import DataError, EmptyData, TooLarge, Unreadable, WrongFormat

VALUES = st.text(alphabet=st.sampled_from(list('ab ,;"\n\té漢')), max_size=6)


def read(
    path: Path, block_bytes: int = 1 << 20, **reading: object
) -> tuple[list[tuple[object, ...]], list[int], list[tuple[int, str]]]:
    """Return rows, their numbers, and the faults."""
    rows: list[tuple[object, ...]] = []
    numbers: list[int] = []
    faults: list[tuple[int, str]] = []
    (source,) = find(path, Format.CSV)
    for raw in csv_rows(source, Reading(**reading), block_bytes=block_bytes):  # type: ignore[arg-type]
        rows += raw.frame.rows()
        numbers += raw.numbers.tolist()
        faults += [(fault.record.row, fault.record.reason) for fault in raw.faults]
    return rows, numbers, faults


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.lists(VALUES, min_size=1, max_size=4), max_size=20),
    block=st.integers(1, 60),
    ending=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_agrees_with_the_csv_module_on_any_well_written_file(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], block: int, ending: str, quoting: int
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=ending, quoting=quoting)  # type: ignore[arg-type]
    writer.writerow(["x", "y"])
    writer.writerows(rows)
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(text.getvalue().encode())
    got, numbers, faults = read(path, block_bytes=block)
    assert got == [tuple(row) for row in rows if len(row) == 2]
    assert numbers == [place for place, row in enumerate(rows, start=2) if len(row) == 2]
    assert faults == [
        (place, f"{len(row)} fields seen, 2 wanted") for place, row in enumerate(rows, start=2) if len(row) != 2
    ]


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=200), block=st.integers(1, 60))
def test_any_bytes_give_rows_faults_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, block: int
) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(b"x,y\n" + data)
    try:
        rows, numbers, _ = read(path, block_bytes=block)
    except DataError:
        return
    assert len(rows) == len(numbers)
    assert all(len(row) == 2 for row in rows)


@settings(max_examples=200, deadline=None)
@given(data=st.text(alphabet=st.sampled_from(list('a,"\n\r')), max_size=60), block=st.integers(1, 30))
def test_where_blocks_end_makes_no_difference(tmp_path_factory: pytest.TempPathFactory, data: str, block: int) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(b"x,y\n" + data.encode())
    assert read(path, block_bytes=block) == read(path)


@pytest.mark.parametrize("data", ['a"\n""\ra', '\r\r\n"', 'a","""\n"', '"a""'])
def test_a_file_fed_byte_by_byte_reads_as_fed_whole(tmp_path: Path, data: str) -> None:
    (tmp_path / "a.csv").write_bytes(b"x,y\n" + data.encode())
    assert read(tmp_path / "a.csv", block_bytes=1) == read(tmp_path / "a.csv")


def test_a_quote_inside_an_unquoted_field_is_plain_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('x,y\n5" pipe,2\n"a ""b""",3\n')
    assert read(tmp_path / "a.csv")[0] == [('5" pipe', "2"), ('a "b"', "3")]


def test_a_quote_that_is_never_closed_costs_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('x,y\n1,2\n3,"open\n' + "5,6\n" * 400)
    rows, _, faults = read(tmp_path / "a.csv", longest_row_bytes=1000)
    assert faults == [(3, UNCLOSED)]
    assert rows == [("1", "2")] + [("5", "6")] * 400


def test_text_after_a_closing_quote_is_malformed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('x,y\n"a"b,2\n"c" ,3\n4,5\n')
    rows, numbers, faults = read(tmp_path / "a.csv")
    assert (rows, numbers) == ([("4", "5")], [4])
    assert faults == [(2, AFTER_QUOTE), (3, AFTER_QUOTE)]


def test_blank_lines_are_skipped_but_counted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"x,y\r\n1,2\r\n\r\n3,4\r\n\n")
    assert read(tmp_path / "a.csv") == ([("1", "2"), ("3", "4")], [2, 4], [])


def test_a_row_with_a_nul_byte_is_malformed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"x,y\n1,2\n3,\x004\n5,6")
    rows, _, faults = read(tmp_path / "a.csv")
    assert rows == [("1", "2"), ("5", "6")]
    assert faults == [(3, "the row holds a NUL byte")]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfx,y\n1,2\n")
    (source,) = find(tmp_path / "a.csv", Format.AUTO)
    assert next(csv_rows(source, Reading())).frame.columns == ["x", "y"]
    assert next(csv_rows(source, Reading(), block_bytes=1)).frame.columns == ["x", "y"]


def test_a_wrong_encoding_is_told_with_offset_line_and_what_it_may_be(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("x,y\n1,2\ncafé,3\n".encode("latin-1"))
    with pytest.raises(
        Unreadable, match=r"is not utf-8: byte 0xe9 at offset 11 \(line 3\).*windows-1252 give `.*café,3"
    ):
        read(tmp_path / "a.csv")
    with pytest.raises(Unreadable, match=r"offset 11 \(line 3\)"):
        read(tmp_path / "a.csv", block_bytes=2)
    assert read(tmp_path / "a.csv", encoding="windows-1252")[0] == [("1", "2"), ("café", "3")]


def test_utf_16_is_read_when_asked_for_and_named_when_not(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("x,y\n1,é\n".encode("utf-16"))
    with pytest.raises(WrongFormat, match=r"Set `data.encoding: utf-16`"):
        read(tmp_path / "a.csv")
    assert read(tmp_path / "a.csv", encoding="utf-16", block_bytes=3)[0] == [("1", "é")]


def test_an_unknown_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    with pytest.raises(Unreadable, match="`klingon` is not a known encoding"):
        read(tmp_path / "a.csv", encoding="klingon")
    with pytest.raises(Unreadable, match="`base64` is not a known encoding"):
        read(tmp_path / "a.csv", encoding="base64")


def test_a_name_that_stands_twice_is_refused_and_an_empty_one_is_numbered(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y,x\n1,2,3\n")
    with pytest.raises(WrongFormat, match="`x` at 1, 3"):
        read(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text(",y\n1,2\n")
    (source,) = find(tmp_path / "b.csv", Format.AUTO)
    first = next(csv_rows(source, Reading()))
    assert first.frame.columns == ["column_1", "y"]
    assert "columns without a name are called `column_1`" in first.notes[0]


def test_another_separator_is_suggested(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x;y\n1;2\n")
    with pytest.raises(WrongFormat, match=r'Set `data.separator: ";"`'):
        read(tmp_path / "a.csv")
    assert read(tmp_path / "a.csv", separator=";")[0] == [("1", "2")]


def test_limits_on_columns_and_row_length_hold(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n" + "1" * 1500 + ",2\n3,4\n")
    assert read(tmp_path / "a.csv", longest_row_bytes=1000)[2] == [
        (2, "the row is longer than `data.longest_row_bytes` (1502 bytes)")
    ]
    with pytest.raises(TooLarge, match=r"2 columns; at most 1 are read"):
        read(tmp_path / "a.csv", most_columns=1)
    (tmp_path / "b.csv").write_text("x,y\n" + "1" * 5000)
    with pytest.raises(WrongFormat, match="no line ends within 1000 bytes after row 1"):
        read(tmp_path / "b.csv", longest_row_bytes=1000, block_bytes=2000)


def test_blanks_alone_are_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\n\n \n")
    with pytest.raises((EmptyData, WrongFormat)):
        read(tmp_path / "a.csv")


def test_an_unfinished_row_is_left_for_the_next_block() -> None:
    done = cut(b'1,2\n3,"a\nb', Dialect(separator=44, width=2, longest=1000), final=False)
    assert (done.good, done.used, done.rows) == (b"1,2\n", 4, 1)
