"""Boards: what a process counted outlives it, and is read whole at any instant."""

from __future__ import annotations

import errno
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.serve.told import board as board_module
from modelyard.serve.told.board import COUNTER, GAUGE, HISTOGRAM, OTHER, Board, open_board
from modelyard.serve.told.board_file import CELLS_AT, HEAD_BYTES, NAMED, SIZE, Labels, clear, read_all, read_board

COUNTING = """
import sys
from pathlib import Path
from modelyard.serve.told.board import COUNTER, GAUGE, Board
board = Board(Path(sys.argv[1]))
board.series("requests", COUNTER, ("a",)).add(5)
board.series("open", GAUGE, ("a",)).put(3)
print("counted", flush=True)
input()
"""
NAMING = """
import sys
from pathlib import Path
from modelyard.serve.told.board import COUNTER, Board
board = Board(Path(sys.argv[1]))
print("begun", flush=True)
for number in range(3000):
    board.series("requests", COUNTER, (f"{number:06d}" * 20,)).add(number)
"""


STEPPING = """
import sys
from pathlib import Path
from modelyard.serve.told.board import COUNTER, Board
cell = Board(Path(sys.argv[1])).series("requests", COUNTER, ("a",))
print("begun", flush=True)
while True:
    cell.add()
    sys.stdout.write(".")
    sys.stdout.flush()
"""


@contextmanager
def running(code: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """Run code in a process of its own, from its first line of output on."""
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def values(path: Path) -> dict[tuple[str, Labels], list[float]]:
    reading = read_board(path)
    assert reading is not None
    return {(record.family, record.labels): found for record, found in reading.series}


def test_what_a_killed_process_counted_is_kept_and_its_successor_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "front.0.board"
    with running(COUNTING, path) as process:
        assert [reading.alive for reading in read_all(tmp_path)] == [True]
        process.send_signal(signal.SIGKILL)
        process.wait()
    (dead,) = read_all(tmp_path)
    assert (dead.name, dead.pid, dead.alive) == ("front.0", process.pid, False)
    assert values(path)["requests", ("a",)] == [5]
    successor = Board(path)
    successor.series("requests", COUNTER, ("a",)).add(2)
    assert successor.path == path
    assert values(path)["requests", ("a",)] == [7]
    assert [(reading.pid, reading.alive) for reading in read_all(tmp_path)] == [(os.getpid(), True)]


def test_every_kill_loses_nothing_that_was_said_to_be_counted(tmp_path: Path) -> None:
    path = tmp_path / "front.0.board"
    said = 0
    for turn in range(5):
        with running(STEPPING, path) as process:
            assert process.stdout is not None
            process.stdout.read(100 + 37 * turn)
            process.kill()
            said += 100 + 37 * turn + len(process.stdout.read())
        (counted,) = values(path)["requests", ("a",)]
        assert said <= counted <= said + 1
        said = int(counted)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["front.0.board"]


def test_a_gauge_of_the_process_before_is_not_known_until_it_is_put(tmp_path: Path) -> None:
    path = tmp_path / "front.0.board"
    with running(COUNTING, path):
        assert values(path)["open", ("a",)] == [3]
    Board(path)
    assert math.isnan(values(path)["open", ("a",)][0])


def test_a_reader_never_sees_a_torn_name(tmp_path: Path) -> None:
    path = tmp_path / "front.0.board"
    seen = 0
    with running(NAMING, path) as process:
        ended = False
        while not ended:
            ended = process.poll() is not None
            found = list(values(path))
            assert found == [("requests", (f"{number:06d}" * 20,)) for number in range(len(found))]
            assert len(found) >= seen
            seen = len(found)
    assert seen == 3000


def test_a_board_that_another_process_writes_to_is_left_to_it(tmp_path: Path) -> None:
    path = tmp_path / "front.0.board"
    with running(COUNTING, path):
        second = Board(path)
        assert second.path == tmp_path / "front.0+1.board"
        second.series("requests", COUNTER, ("a",)).add(1)
        assert {reading.name for reading in read_all(tmp_path)} == {"front.0", "front.0+1"}
        assert values(path)["requests", ("a",)] == [5]


def test_a_board_let_go_is_taken_by_the_next(tmp_path: Path) -> None:
    first = Board(tmp_path / "front.0.board")
    first.close()
    first.close()
    assert Board(tmp_path / "front.0.board").path == first.path


def test_series_beyond_the_bound_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_module, "MOST_FAMILY_CELLS", 10)
    board = Board()
    for number in range(25):
        board.series("requests", COUNTER, (str(number), "x")).add(1)
    found = {labels: series.value for _, labels, series in board.all()}
    assert len(found) == 11
    assert found[OTHER, OTHER] == 15
    assert sum(found.values()) == 25


def test_a_full_board_still_counts(tmp_path: Path) -> None:
    path = tmp_path / "front.0.board"
    board = Board(path)
    for number in range(6000):
        board.series(f"family {number % 30}", HISTOGRAM, ("x" * 190 + str(number),), 24).add(1)
        board.series("requests", COUNTER, ("y" * 190 + str(number),)).add(1)
    found = values(path)
    for family in ("requests", *(f"family {number}" for number in range(30))):
        assert sum(value[0] for (name, _), value in found.items() if name == family) == (
            6000 if family == "requests" else 200
        )
        assert (family, (OTHER,)) in found


def test_more_families_than_there_is_room_for_harm_none_of_those_before() -> None:
    board = Board()
    for number in range(10_000):
        board.series(f"family {number}", HISTOGRAM, ("x" * 100,), 24).add(1)
    found = board.read().series
    assert 1000 < len(found) < 10_000
    assert all(values[0] == 1 and not any(values[1:]) for _, values in found)


def test_a_label_that_is_no_text_is_written_as_one() -> None:
    board = Board()
    board.series("requests", COUNTER, ("\ud800" + "x" * 500,)).add(1)
    ((record, _),) = board.read().series
    assert record.labels == ("?" + "x" * 199,)


def test_a_series_of_another_width_begins_anew() -> None:
    board = Board()
    board.series("seconds", HISTOGRAM, ("a",), 5).add(1)
    board.series("seconds", HISTOGRAM, ("a",), 7).add(2)
    assert [(record.width, found[0]) for record, found in board.read().series] == [(5, 1), (7, 2)]


@pytest.mark.parametrize("content", [b"", b"something else", b"x" * SIZE])
def test_a_file_that_is_no_board_begins_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "front.0.board"
    path.write_bytes(content)
    assert read_board(path) is None
    board = Board(path)
    board.series("requests", COUNTER, ("a",)).add(1)
    assert values(path) == {("requests", ("a",)): [1]}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=30), st.integers(0, 2**64 - 1))
def test_a_file_with_faults_is_read_without_one(damage: list[tuple[int, int]], named: int) -> None:
    board = Board()
    for number in range(20):
        board.series("requests", COUNTER, (f"label {number}",)).add(number)
    for place, byte in damage:
        board._all[HEAD_BYTES + place % 600] = byte
    if named % 2:
        board._head[NAMED] = named
    for record, found in board.read().series:
        assert len(found) == record.width


def test_what_was_written_but_not_published_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "front.0.board"
    board = Board(path)
    board.series("requests", COUNTER, ("a",)).add(1)
    end = HEAD_BYTES + board._head[NAMED]
    board._all[end : end + 50] = b"\x01" * 50
    board._all[CELLS_AT + 8 : CELLS_AT + 16] = b"\x01" * 8  # as if it was killed in between
    board.close()
    successor = Board(path)
    successor.series("requests", COUNTER, ("b",)).add(4)
    assert values(path) == {("requests", ("a",)): [1], ("requests", ("b",)): [4]}


def test_a_disk_without_room_leaves_a_board_of_the_process_alone(tmp_path: Path) -> None:
    board = open_board(tmp_path / "no such folder" / "front.0.board")
    board.series("requests", COUNTER, ("a",)).add(1)
    assert board.path is None
    assert board.read().series[0][1] == [1]


def test_a_service_that_starts_anew_counts_from_nothing(tmp_path: Path) -> None:
    dead = tmp_path / "front.0.board"
    with running(COUNTING, dead):
        pass
    living = Board(tmp_path / "supervisor.board")
    living.series("restarts", COUNTER, ()).add(1)
    clear(tmp_path)
    assert [reading.name for reading in read_all(tmp_path)] == ["supervisor"]


NAMES = st.sampled_from("abcdef")
ADD = st.tuples(st.just("add"), NAMES, st.integers(1, 9))
FOLD = st.tuples(st.just("fold"), NAMES, NAMES | st.none())


@settings(max_examples=100, deadline=None)
@given(steps=st.lists(ADD | FOLD, max_size=25))
def test_folding_loses_no_count_and_whoever_holds_a_series_counts_where_it_went(
    steps: list[tuple[str, str, int | str | None]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("boards") / "front.0.board"
    board = Board(path)
    counts: dict[str, int] = {}
    homes: dict[str, str | None] = {}  # where what was bound under a name counts now
    held = {}
    for kind, name, what in steps:
        if kind == "add":
            assert isinstance(what, int)
            if name not in held:
                held[name] = board.series("requests", COUNTER, (name,))
                homes[name] = name
            held[name].add(what)
            home = homes[name]
            if home is not None:
                counts[home] = counts.get(home, 0) + what
        else:
            assert what is None or isinstance(what, str)
            target = what

            def rename(_: str, labels: Labels, name: str = name, target: str | None = target) -> Labels | None:
                return labels if labels != (name,) else None if target is None else (target,)

            board.fold(rename)
            if name in counts:
                moved = counts.pop(name)
                if target is not None:
                    counts[target] = counts.get(target, 0) + moved
                homes = {who: target if home == name else home for who, home in homes.items()}
    found = {labels[0]: series[0] for (_, labels), series in values(path).items()}
    assert {name: count for name, count in found.items() if count} == {name: n for name, n in counts.items() if n}
    assert [entry.name for entry in path.parent.iterdir()] == ["front.0.board"]
    board.close()


def test_a_gauge_goes_with_its_name(tmp_path: Path) -> None:
    board = Board(tmp_path / "front.0.board")
    stays, goes = board.series("open", GAUGE, ("a",)), board.series("open", GAUGE, ("b",))
    stays.put(1)
    goes.put(2)
    board.fold(lambda _, labels: ("gone",) if labels == ("b",) else labels)
    goes.put(3)
    stays.add(1)
    assert values(tmp_path / "front.0.board") == {("open", ("a",)): [2]}
    assert Board(tmp_path / "front.0.board").path == tmp_path / "front.0+1.board"  # it still is the writer's


def test_what_a_kill_left_of_a_fold_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "front.0.new").write_bytes(b"half of a board")
    board = Board(tmp_path / "front.0.board")
    board.series("requests", COUNTER, ("a",)).add(1)
    assert [reading.name for reading in read_all(tmp_path)] == ["front.0"]
    board.fold(lambda _, labels: ("b",))
    assert values(tmp_path / "front.0.board") == {("requests", ("b",)): [1]}
    assert [entry.name for entry in tmp_path.iterdir()] == ["front.0.board"]


def test_a_fold_without_room_on_the_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board(tmp_path / "front.0.board")
    series = board.series("requests", COUNTER, ("a",))

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(board_module, "mapped", full)
    with pytest.raises(OSError, match="full"):
        board.fold(lambda _, labels: ("b",))
    series.add(1)
    assert values(tmp_path / "front.0.board") == {("requests", ("a",)): [1]}
    assert [entry.name for entry in tmp_path.iterdir()] == ["front.0.board"]
