"""Answers that a front keeps: written whole, bounded, sampled with their true probability, never in the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from modelyard.bundle.answers import FOLDER, HEAD_BYTES, Answerer, Kept, digest_of_id, entries
from modelyard.serve.told.ledger import MOST_WAITING, Ledger, Rows
from tests.serve.running import eventually

CLASSES = ("no", "yes")


def segments(folder: Path) -> list[Path]:
    return sorted((folder / FOLDER).glob("*.bin"), key=lambda path: int(path.name.split(".")[2]))


def records(path: Path) -> list[Answerer | Kept]:
    return [record for record, _ in entries(path.read_bytes()[HEAD_BYTES:])]


def rows(folder: Path) -> list[Kept]:
    return [one for path in segments(folder) for one in records(path) if isinstance(one, Kept)]


def answer(ledger: Ledger, request: str, *, count: int = 1) -> None:
    ledger.answered(
        "income@2",
        [Rows(request, 0, count)],
        at=100.0,
        classes=CLASSES,
        labels=["yes"] * count,
        probabilities=[[0.25, 0.75]] * count,
        columns={"sex": ["Female"] * count},
    )


def test_an_answer_is_kept_with_all_that_a_verdict_needs(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "front.0")
    ledger.answered(
        "income@2",
        [Rows("a", 0, 1), Rows("b", 2, 1, first=7)],
        at=100.0,
        classes=CLASSES,
        labels=["yes", "no", "no"],
        probabilities=[[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]],
        columns={"sex": ["Female", "Male", None]},
    )
    ledger.close()
    who, first, second = records(segments(tmp_path)[0])
    assert who == Answerer(0, "income@2", CLASSES, ("sex",))
    assert isinstance(first, Kept) and isinstance(second, Kept)
    assert (first.request, first.row, first.label, first.columns) == (digest_of_id("a"), 0, 1, ("Female",))
    assert (second.request, second.row, second.label, second.columns) == (digest_of_id("b"), 7, 0, (None,))
    assert (first.at, first.p) == (100.0, 1.0)
    assert segments(tmp_path)[0].stat().st_mode & 0o077 == 0


def test_answers_are_written_while_it_runs_without_being_asked(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "front.0")
    answer(ledger, "a")
    eventually(lambda: (tmp_path / FOLDER).exists() and rows(tmp_path))
    answer(ledger, "b")
    eventually(lambda: len(rows(tmp_path)) == 2)
    ledger.close()


def test_segments_are_bounded_and_the_oldest_goes(tmp_path: Path) -> None:
    for start in range(6):
        ledger = Ledger(tmp_path, "front.0", segment_bytes=1_000, segments=3)
        answer(ledger, f"request {start}", count=8)
        ledger.close()
    found = segments(tmp_path)
    assert [path.name for path in found] == ["front.0.3.bin", "front.0.4.bin", "front.0.5.bin"]
    assert all(path.stat().st_size <= 1_000 for path in found)
    assert all(isinstance(records(path)[0], Answerer) for path in found)  # each can be read without those before


def test_a_busy_front_keeps_a_sample_whose_weights_are_true(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "front.0", rows_per_s=2_000.0)
    for number in range(2_000):
        answer(ledger, str(number), count=10)
    ledger.close()
    kept = rows(tmp_path)
    assert len(kept) < 5_000 and ledger.dropped == 0
    assert 0.5 * 20_000 < sum(1 / one.p for one in kept) < 2 * 20_000


def test_a_full_disk_drops_and_counts_and_what_follows_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    room = [True]

    def write(file: int, data: bytes) -> int:
        is_full = not room[0] and threading.current_thread().name == "ledger"
        return real(file, data[: len(data) // 2] if is_full else data)

    monkeypatch.setattr(os, "write", write)
    ledger = Ledger(tmp_path, "front.0")
    answer(ledger, "a")
    eventually(lambda: (tmp_path / FOLDER).exists() and len(rows(tmp_path)) == 1)
    room[0] = False
    answer(ledger, "b")
    eventually(lambda: ledger.dropped == 1)
    room[0] = True
    answer(ledger, "c")
    ledger.close()
    assert [one.request for one in rows(tmp_path)] == [digest_of_id("a"), digest_of_id("c")]


def test_a_folder_that_cannot_be_written_to_fails_no_request(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("in the way")
    ledger = Ledger(tmp_path, "front.0")
    answer(ledger, "a", count=3)
    ledger.close()
    assert ledger.dropped == 3


def test_what_no_reader_could_use_is_dropped_and_counted(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "front.0")
    ledger.answered("price@1", [Rows("a", 0, 3)], at=1.0, values=[1.5, float("nan"), float("inf")])
    ledger.answered("income@2", [Rows("b", 0, 1)], at=1.0, classes=CLASSES, labels=["?"], probabilities=[[0.5, 0.5]])
    ledger.answered("income@2", [Rows("c", 0, 9)], at=1.0, classes=CLASSES, labels=["no"], probabilities=[[0.5, 0.5]])
    ledger.close()
    assert [one.value for one in rows(tmp_path)] == [1.5, None] and ledger.dropped == 2 + 1 + 8


def test_more_than_can_wait_is_dropped_at_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "front.0", rows_per_s=1e9)
    count = MOST_WAITING // 3
    answer(ledger, "fits", count=count)
    answer(ledger, "too many", count=count + 1)
    refused = ledger.dropped
    ledger.close()
    assert refused in (0, count + 1)  # none, where the first was written meanwhile
    assert len(rows(tmp_path)) + ledger.dropped == 2 * count + 1


WRITER = """
import itertools, sys
from pathlib import Path
from modelyard.serve.told.ledger import Ledger, Rows
ledger = Ledger(Path(sys.argv[1]), "front.0", rows_per_s=1e9)
for number in itertools.count():
    ledger.answered("r@1", [Rows(str(number), 0, 1)], at=1.0, values=[float(number)])
    if number == 1000:
        print("on", flush=True)
"""


def test_a_writer_killed_leaves_whole_entries_and_its_successor_begins_another_segment(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()
        eventually(lambda: (tmp_path / FOLDER).exists() and rows(tmp_path))
        process.send_signal(signal.SIGKILL)
        process.wait()
    values = [one.value for one in rows(tmp_path)]
    assert values == [float(number) for number in range(len(values))]
    torn = segments(tmp_path)[-1]
    torn.write_bytes(torn.read_bytes() + b"\x20\x00\x00\x00half")
    before = len(rows(tmp_path))
    ledger = Ledger(tmp_path, "front.0")
    answer(ledger, "next")
    ledger.close()
    assert segments(tmp_path)[-1] != torn and len(rows(tmp_path)) == before + 1
