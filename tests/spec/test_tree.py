from __future__ import annotations

import math
from typing import Any

import pytest
import yaml

from modelyard.spec import tree


def value(text: str) -> Any:
    read = tree.read(text.encode())
    assert read.faults == ()
    return read.value


def fault(data: str | bytes) -> str:
    read = tree.read(data if isinstance(data, bytes) else data.encode())
    return read.faults[0].told("f", read.marks)


def test_scalars_are_read_by_the_core_schema() -> None:
    text = "[1e-3, 0x10, 0o17, 007, -2, +3, .5, 1., yes, no, on, 2020-01-02, 1_000, 12:30, ~, '', 'true', true]"
    assert value(text) == [
        0.001, 16, 15, 7, -2, 3, 0.5, 1.0, "yes", "no", "on", "2020-01-02", "1_000", "12:30", None, "", "true", True,
    ]  # fmt: skip


def test_infinity_and_not_a_number_are_read_as_such() -> None:
    low, high, odd = value("[-.inf, .INF, .nan]")
    assert (low, high) == (-math.inf, math.inf)
    assert math.isnan(odd)


def test_every_value_keeps_its_line() -> None:
    read = tree.read(b"a:\n  b: 1\n  c:\n    - x\n    - {d: 2,\n       e: 3}\n")
    lines = read.marks.lines
    assert lines[("a",)] == 1
    assert lines[("a", "b")] == 2
    assert lines[("a", "c", 0)] == 4
    assert lines[("a", "c", 1, "d")] == 5
    assert lines[("a", "c", 1, "e")] == 6


def test_the_line_of_what_is_not_there_is_that_of_the_part_around_it() -> None:
    read = tree.read(b"a: 1\nb:\n  c: 2\n")
    assert read.marks.line(("b", "missing", "deeper")) == 2
    assert ("b", "missing") not in read.marks


def test_a_name_that_stands_there_twice_is_told_with_both_lines() -> None:
    assert fault("a: 1\nb: 2\na: 3\n") == "f:3: a: saw it a second time (first on line 1), wanted each name once"


def test_an_alias_is_written_out_with_the_lines_of_its_anchor() -> None:
    read = tree.read(b"one: &a\n  x: 1\ntwo: *a\n")
    assert read.value == {"one": {"x": 1}, "two": {"x": 1}}
    assert read.marks.lines[("two", "x")] == 2
    assert read.marks.lines[("two",)] == 3


def test_what_an_alias_stands_for_is_a_value_of_its_own() -> None:
    found = value("one: &a [x]\ntwo: *a\n")
    assert found["one"] is not found["two"]


def test_aliases_that_multiply_are_refused_before_they_grow() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    assert "more than 10000 values" in fault("\n".join(lines))


def test_more_than_a_hundred_aliases_are_refused() -> None:
    assert "more than 100 aliases" in fault("a: &a x\nb: [" + ", ".join(["*a"] * 101) + "]")


def test_an_alias_inside_itself_is_refused() -> None:
    assert (
        fault("a: &a [*a]") == "f:1: a[0]: saw `*a` inside itself, wanted an alias of an anchor that stands before it"
    )


def test_an_alias_without_an_anchor_is_refused() -> None:
    assert "`*nothing`" in fault("a: *nothing")


def test_aliases_count_with_the_depth_of_what_they_stand_for() -> None:
    text = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 40))
    assert "more than 32 levels" in fault(text)


@pytest.mark.parametrize("text", ["[" * 1000, "{a: " * 1000, "- " * 1000])
def test_nesting_beyond_any_use_is_refused(text: str) -> None:
    assert "more than 32 levels" in fault(text)


def test_too_many_values_are_refused() -> None:
    assert "more than 10000 values" in fault("[" + "1," * 10_001 + "]")


def test_too_many_bytes_are_refused() -> None:
    assert "at most 1048576 bytes" in fault("#" * (tree.MOST_BYTES + 1))


def test_a_byte_that_is_not_utf_8_is_told_with_line_and_column() -> None:
    assert fault(b"a: 1\nb: caf\xe9\n") == "f:2:7: the file: saw the byte 0xe9, wanted text in UTF-8"


def test_a_tab_as_indentation_is_told() -> None:
    assert fault("a:\n\tb: 1\n").startswith("f:2:1: the file: saw a tab, wanted spaces")


def test_a_syntax_error_is_told_with_line_and_column() -> None:
    told = fault("a: 1\nb: [1, 2\nc: 3\n")
    assert told.startswith("f:3:2: the file: saw a syntax error: ")


def test_a_character_that_cannot_be_printed_is_told_with_its_place() -> None:
    assert fault("a: 1\nb: x\x07y\n") == ("f:2:5: the file: saw the character U+0007, wanted text that can be printed")


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!own", "!!binary", "!!timestamp", "!!set"])
def test_tags_other_than_the_core_ones_are_refused(tag: str) -> None:
    assert "wanted no tag" in fault(f"a: {tag} x")


def test_core_tags_say_what_a_value_is() -> None:
    assert value("[!!str 5, !!float 5, !!int '5', !!bool true, !!null '', !!seq [], !!map {}]") == [
        "5", 5.0, 5, True, None, [], {},
    ]  # fmt: skip


def test_a_core_tag_that_the_value_does_not_fit_is_told() -> None:
    assert "a value of the kind that the tag says" in fault("a: !!int x")


@pytest.mark.parametrize("text", ["", "# only a comment\n", "   \n\n"])
def test_an_empty_file_is_told(text: str) -> None:
    assert "saw an empty file" in fault(text)


def test_a_second_document_is_told() -> None:
    assert fault("a: 1\n---\nb: 2\n") == "f:2: the file: saw a second document, wanted one document in the file"


@pytest.mark.parametrize("text", ['a: "\\U99999999"', "%YAML " + "9" * 5000 + ".1\n---\na: 1"])
def test_numbers_beyond_what_python_holds_are_told(text: str) -> None:
    assert "wanted valid YAML" in fault(text) or "syntax error" in fault(text)


def test_whole_numbers_beyond_64_bits_are_told() -> None:
    assert "below 2**63" in fault("a: " + "9" * 30)
    assert "below 2**63" in fault("a: 0x" + "f" * 900)


def test_half_a_surrogate_pair_is_told() -> None:
    assert "surrogate" in fault('a: "\\ud800"')


def test_a_list_as_a_name_is_told() -> None:
    assert "wanted text as a name" in fault("? [a, b]\n: 1\n")


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert value("\ufeffa: 1") == {"a": 1}


def test_plain_yaml_is_read_as_pyyaml_reads_it() -> None:
    text = """
    text: some words
    quoted: "a \\"b\\" \\u00e9"
    folded: >
      one
      two
    kept: |
      one
      two
    list: [1, 2.5, -3, true, null, {a: b}]
    deep: {a: {b: {c: [[], {}]}}}
    """
    assert value(text) == yaml.safe_load(text)
