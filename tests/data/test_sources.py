"""What is wrong with files is said in words before they are read."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from modelyard.core.data_plan import Format, Reading
from modelyard.data.json_rows import json_rows
from modelyard.data.sources import check_unchanged, digest, find
from modelyard.errors import DataError, EmptyData, Unreadable, WrongFormat
from tests.data.fakes import people, run


def test_a_path_that_is_not_there_is_said_with_what_is_near(tmp_path: Path) -> None:
    (tmp_path / "adult.csv").write_text("x\n1\n")
    with pytest.raises(Unreadable, match=r"adlt.csv` is not there; the folder has: `adult.csv`"):
        find(tmp_path / "adlt.csv", Format.AUTO)
    with pytest.raises(Unreadable, match="nor is the folder"):
        find(tmp_path / "none" / "a.csv", Format.AUTO)


def test_a_folder_that_may_not_be_entered_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", refuse)
    with pytest.raises(Unreadable, match="cannot be reached by this user: Permission denied"):
        find(tmp_path / "a.csv", Format.AUTO)


def test_an_empty_file_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"")
    with pytest.raises(EmptyData, match="0 bytes"):
        find(tmp_path / "a.csv", Format.AUTO)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.md").write_text("hello")
    with pytest.raises(EmptyData, match=r"holds no data file; seen: `notes.md`"):
        find(tmp_path / "folder", Format.AUTO)


def test_a_file_without_permission_is_said_with_its_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x\n1\n")
    path.chmod(0)

    def refuse(self: Path, *_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything, so the refusal is played
    with pytest.raises(Unreadable, match=r"may not be read by this user \(mode ----------\)"):
        find(path, Format.AUTO)


def test_a_folder_of_two_formats_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    (tmp_path / "b.jsonl").write_text('{"x":1}\n')
    with pytest.raises(WrongFormat, match=r"`a.csv` is csv, `b.jsonl` is jsonl"):
        find(tmp_path, Format.AUTO)
    assert [source.path.name for source in find(tmp_path, Format.JSONL)] == ["b.jsonl"]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.csv", b"PAR1....", "first bytes say it is Parquet"),
        ("a.parquet", b"x,y\n1,2\n", "first bytes say it is not Parquet"),
        ("a.csv", b"PK\x03\x04....", "a ZIP archive"),
        ("a.dat", b"x,y\n1,2\n", "the ending does not tell the format"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(WrongFormat, match=words):
        find(tmp_path / name, Format.AUTO)


def test_a_broken_parquet_file_and_a_cut_gzip_file_are_said_not_raised_raw(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 garbage")
    with pytest.raises(WrongFormat, match="cannot be read as Parquet"):
        run(tmp_path / "a.parquet")
    whole = gzip.compress(people(300).write_csv().encode())
    (tmp_path / "b.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Unreadable, match="cannot be read to its end"):
        run(tmp_path / "b.csv.gz")


def test_gzip_is_seen_by_its_bytes_not_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(gzip.compress(b"x\n1\n"))
    assert find(tmp_path / "a.csv", Format.AUTO)[0].gzipped


def test_the_digest_is_over_all_bytes_in_order(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"x\n1\n")
    (tmp_path / "b.csv").write_bytes(b"x\n2\n")
    sources = find(tmp_path, Format.AUTO)
    (tmp_path / "whole.txt").write_bytes(b"x\n1\nx\n2\n")
    assert digest(sources) == digest(find(tmp_path / "whole.txt", Format.AUTO))
    assert digest(sources) != digest(sources[::-1])


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"x\n1\n")
    sources = find(tmp_path, Format.AUTO)
    (tmp_path / "a.csv").write_bytes(b"x\n1\n2\n")
    with pytest.raises(DataError, match="changed while it was read: 4 bytes before, 6 after"):
        check_unchanged(sources)


def test_json_lines_that_are_no_plain_objects_are_put_aside_with_their_line(tmp_path: Path) -> None:
    lines = ['{"x": 1, "y": "a"}', "{broken", '{"x": [1], "y": "b"}', "", "[1]", '{"x": NaN}', '{"x": 2.5}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    (source,) = find(tmp_path / "a.jsonl", Format.AUTO)
    raws = list(json_rows(source, Reading()))
    faults = [(fault.record.row, fault.record.column, fault.rule) for raw in raws for fault in raw.faults]
    assert faults == [
        (2, None, "the line is not JSON"),
        (3, "x", "a nested value"),
        (5, None, "the line is not a JSON object of plain values"),
        (6, None, "the line is not JSON"),
    ]
    assert [number for raw in raws for number in raw.numbers.tolist()] == [1, 7]


def test_a_json_column_of_several_types_is_told_from_its_texts(tmp_path: Path) -> None:
    table = people(300)
    rows = [
        dict(row, age=str(row["age"]) if place % 2 else row["age"])
        for place, row in enumerate(table.iter_rows(named=True))
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(str(row).replace("'", '"') for row in rows))
    assert run(path)[0].contract.column("age").kind == "integer"
