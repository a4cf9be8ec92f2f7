"""Outcomes: answers and labels meet once, whichever came first and however many processes join them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from modelyard.bundle.answers import (
    FOLDER,
    MAGIC,
    MOST_ID,
    Answerer,
    Feedback,
    FeedbackCounts,
    Kept,
    Unread,
    digest_of_id,
    entry,
)
from modelyard.errors import StoreFormat
from modelyard.store.database import Database, sqlite_url
from modelyard.store.outcomes import FILE, Outcomes

NOW = 1_700_000_000.0
YES_NO = Answerer(0, "income@2", ("no", "yes"), ("sex",))
PRICE = Answerer(1, "price@1")


class At:
    """A clock that says what it is told."""

    def __init__(self, seconds: float = NOW) -> None:
        self.seconds = seconds

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds


class Segment:
    """A segment that a front writes."""

    def __init__(self, folder: Path, name: str = "front.0.0", *, whole: int = 0) -> None:
        self.path = folder / FOLDER / f"{name}.bin"
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_bytes(MAGIC + whole.to_bytes(8, "big") + entry(YES_NO) + entry(PRICE))

    def add(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)


def kept(request: str, *, row: int = 0, label: int = 1, at: float = NOW, number: int = 0) -> bytes:
    shares = b"\x00\x00\x80\x3e\x00\x00\x40\x3f"  # 0.25, 0.75
    return entry(Kept(digest_of_id(request), row, number, at, 1.0, label, shares, None, ("Female",)))


def priced(request: str, value: float = 2.5) -> bytes:
    return entry(Kept(digest_of_id(request), 0, 1, NOW, 1.0, value=value))


def said(request: str, label: str | bool | int | float = "yes", row: int = 0) -> Feedback:
    return Feedback(request=request, label=label, row=row)


@pytest.fixture
def segment(tmp_path: Path) -> Segment:
    return Segment(tmp_path)


def test_a_label_is_joined_with_its_answer(tmp_path: Path, segment: Segment) -> None:
    segment.add(kept("a") + kept("a", row=1, label=0))
    outcomes = Outcomes(tmp_path, clock=At())
    assert outcomes.feedback([said("a"), said("a", row=1)]) == FeedbackCounts(joined=2)
    first, second = outcomes.joined_since(0)
    assert (first.place, first.release, first.answered, first.label) == (1, "income@2", "yes", "yes")
    assert (first.probabilities, first.columns, first.classes) == ((0.25, 0.75), {"sex": "Female"}, ("no", "yes"))
    assert (second.answered, second.label) == ("no", "yes")
    assert list(outcomes.joined_since(1)) == [second]
    assert list(outcomes.joined_since(0, ["other@1"])) == []


def test_a_label_that_comes_first_waits_for_its_answer(tmp_path: Path, segment: Segment) -> None:
    outcomes = Outcomes(tmp_path, clock=At())
    assert outcomes.feedback([said("a"), said("b")]) == FeedbackCounts(unmatched=2)
    segment.add(kept("a"))
    assert outcomes.ingest() == 1
    assert outcomes.counts() == FeedbackCounts(joined=1, unmatched=1)
    assert [one.label for one in outcomes.joined_since(0)] == ["yes"]


def test_what_requests_do_not_carry_is_told_with_the_outcome(tmp_path: Path, segment: Segment) -> None:
    outcomes = Outcomes(tmp_path, clock=At())
    told: dict[str, str | bool | int | float] = {"age": 40.0, "member": True, "region": "north", "sex": "Male"}
    early = Feedback(request="b", label="yes", columns=told)
    outcomes.feedback([early])
    segment.add(kept("a") + kept("b"))
    outcomes.feedback([Feedback(request="a", label="no", columns=told)])
    segment.add(entry(Answerer(2, "income@3", ("no", "yes"), ("sex",))))
    shares = b"\x00\x00\x80\x3e\x00\x00\x40\x3f"
    segment.add(entry(Kept(digest_of_id("a"), 0, 2, NOW, 1.0, 1, shares, None, (None,))))  # a mirrored answer
    outcomes.ingest()
    texts = {"age": "40", "member": "true", "region": "north"}
    found = {(one.release, one.label): one.columns for one in outcomes.joined_since(0)}
    assert found == {
        ("income@2", "yes"): texts | {"sex": "Female"},  # what the request had stands
        ("income@2", "no"): texts | {"sex": "Female"},
        ("income@3", "no"): texts | {"sex": "Male"},
    }


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({f"c{place}": "x" for place in range(17)}, "17 columns are told; wanted at most 16"),
        ({"": "x"}, "a name has none"),
        ({"c": "x" * 201}, "more than 200 characters"),
        ({"c": float("nan")}, "is not finite"),
    ],
)
def test_columns_that_cannot_be_told_are_malformed(
    tmp_path: Path, segment: Segment, columns: dict[str, str | float], why: str
) -> None:
    segment.add(kept("a"))
    counts = Outcomes(tmp_path, clock=At()).feedback([Feedback(request="a", label="yes", columns=dict(columns))])
    assert counts.malformed == 1
    assert why in (counts.first_fault or "")


def test_a_file_of_the_version_before_is_read_and_goes_on(tmp_path: Path, segment: Segment) -> None:
    segment.add(kept("a") + kept("b"))
    outcomes = Outcomes(tmp_path, clock=At())
    outcomes.feedback([said("a"), said("c")])
    outcomes.close()
    database = Database(sqlite_url(tmp_path / FILE))
    with database.write() as connection:
        for table in ("answers", "waiting"):
            connection.exec_driver_sql(f"ALTER TABLE {table} DROP COLUMN told")
        connection.exec_driver_sql("PRAGMA user_version = 1")
    database.close()
    outcomes = Outcomes(tmp_path, clock=At())
    segment.add(kept("c"))
    outcomes.feedback([Feedback(request="b", label="no", columns={"age": 7})])
    found = [(one.label, one.columns.get("age")) for one in outcomes.joined_since(0)]
    assert sorted(found, key=str) == [("no", "7"), ("yes", None), ("yes", None)]


def test_of_two_labels_the_first_stands(tmp_path: Path, segment: Segment) -> None:
    segment.add(kept("a"))
    outcomes = Outcomes(tmp_path, clock=At())
    counted = outcomes.feedback([said("a"), said("a", "no"), said("b"), said("b", "no")])
    assert counted == FeedbackCounts(joined=1, unmatched=1, duplicate=2)
    segment.add(kept("b"))
    outcomes.ingest()
    assert [one.label for one in outcomes.joined_since(0)] == ["yes", "yes"]


def test_a_label_is_of_every_release_that_answered_the_row(tmp_path: Path, segment: Segment) -> None:
    shadow = Segment(tmp_path, "front.1.0", whole=1)
    shadow.add(entry(Answerer(3, "income@3", ("no", "yes"), ("sex",))))
    segment.add(kept("a"))
    outcomes = Outcomes(tmp_path, clock=At())
    outcomes.feedback([said("a", "no")])
    shadow.add(kept("a", number=3))
    outcomes.ingest()
    assert [(one.release, one.label) for one in outcomes.joined_since(0)] == [("income@2", "no"), ("income@3", "no")]
    assert outcomes.counts() == FeedbackCounts(joined=1)  # labels are counted, not answers


def test_late_labels_are_joined_and_marked(tmp_path: Path, segment: Segment) -> None:
    segment.add(kept("a") + kept("b") + kept("c"))
    clock = At(NOW + 50)
    outcomes = Outcomes(tmp_path, clock=clock, late_after_s=100)
    assert outcomes.feedback([said("a")]).late == 0
    clock.seconds = NOW + 101
    known_in_time = Feedback(request="c", label="yes", at=NOW + 60)
    assert outcomes.feedback([said("b"), known_in_time]) == FeedbackCounts(joined=2, late=1)
    assert [one.late for one in outcomes.joined_since(0)] == [False, True, False]


@pytest.mark.parametrize(
    ("label", "stands_for"), [("1.0", "1"), (1, "1"), (1.0, "1"), ("1", "1"), (True, None), ("nan", None), ("", None)]
)
def test_numbers_are_classes_however_they_are_written(
    tmp_path: Path, segment: Segment, label: str | float, stands_for: str | None
) -> None:
    segment.add(entry(Answerer(0, "digits@1", ("0", "1"), ("sex",))) + kept("a"))
    outcomes = Outcomes(tmp_path, clock=At())
    counted = outcomes.feedback([said("a", label)])
    assert [one.label for one in outcomes.joined_since(0)] == ([] if stands_for is None else [stands_for])
    assert counted.malformed == (stands_for is None)


def test_a_label_that_is_no_class_is_malformed_and_says_which_are(tmp_path: Path, segment: Segment) -> None:
    segment.add(kept("a") + priced("b") + priced("c"))
    outcomes = Outcomes(tmp_path, clock=At())
    counted = outcomes.feedback([said("a", "maybe"), said("b", "cheap"), said("c", "2.25")])
    assert (counted.malformed, counted.joined) == (2, 1)
    assert counted.first_fault == "the label `maybe` is no class of income@2; wanted one of: no, yes"
    (price,) = outcomes.joined_since(0)
    assert (price.label, price.value, price.answered) == ("2.25", 2.5, None)
    assert outcomes.feedback([said("a", "no")]).joined == 1  # a right one may follow


def test_what_cannot_be_an_outcome_is_counted_and_harms_nothing(tmp_path: Path, segment: Segment) -> None:
    segment.add(kept("a") + priced("b"))
    outcomes = Outcomes(tmp_path, clock=At())
    hostile: list[Feedback | Unread] = [
        Unread(why="line 3 is no JSON"),
        said("x" * (MOST_ID + 1)),
        said(""),
        said("a", "y" * 1000),
        said("b", float("nan")),
        said("b", float("inf")),
        said("b", 10**5000),
        said("b", 1e300),
        said("b", "-inf"),
        said("a", row=-1),
        said("a", row=10**30),
        Feedback(request="a", label="yes", at=float("nan")),
        said("\ud800"),
    ]
    counted = outcomes.feedback([*hostile, said("a")])
    assert counted == FeedbackCounts(joined=1, malformed=12, unmatched=1, first_fault="line 3 is no JSON")
    assert outcomes.counts().malformed == 12


def test_the_oldest_answers_go(tmp_path: Path, segment: Segment) -> None:
    clock = At()
    outcomes = Outcomes(tmp_path, clock=clock, most_rows=3, most_age_s=1000)
    segment.add(b"".join(kept(str(number), at=NOW + number) for number in range(5)))
    outcomes.ingest()
    assert outcomes.feedback([said(str(number)) for number in range(5)]) == FeedbackCounts(joined=3, unmatched=2)
    clock.seconds = NOW + 1003.5
    outcomes.ingest()
    assert [one.at for one in outcomes.joined_since(0)] == [NOW + 4]


def test_labels_that_wait_are_bounded_and_stay_unmatched_when_they_are_given_up(
    tmp_path: Path, segment: Segment
) -> None:
    outcomes = Outcomes(tmp_path, clock=At(), most_waiting=2)
    assert outcomes.feedback([said(str(number)) for number in range(5)]).unmatched == 5
    segment.add(b"".join(kept(str(number)) for number in range(5)))
    outcomes.ingest()
    assert outcomes.counts() == FeedbackCounts(joined=2, unmatched=3)


def test_places_are_never_given_twice(tmp_path: Path, segment: Segment) -> None:
    outcomes = Outcomes(tmp_path, clock=At(), most_rows=1)
    places: list[int] = []
    for number in range(3):
        segment.add(kept(str(number), at=NOW + number))
        outcomes.feedback([said(str(number))])
        places += [one.place for one in outcomes.joined_since(max(places, default=0))]
    assert places == [1, 2, 3] and outcomes.last_place() == 3


def test_an_entry_that_is_not_whole_yet_is_read_once_it_is(tmp_path: Path, segment: Segment) -> None:
    outcomes = Outcomes(tmp_path, clock=At())
    data = kept("a")
    for part in (data[:3], data[3:-1]):
        segment.add(part)
        assert outcomes.ingest() == 0
    segment.add(data[-1:] + kept("b"))
    assert outcomes.ingest() == 2
    segment.add(b"\xff" * 50)  # a front that was killed leaves a torn one; its successor begins anew
    Segment(tmp_path, "front.0.1", whole=1).add(kept("c"))
    assert outcomes.ingest() == 1 and outcomes.ingest() == 0


def test_segments_that_went_and_came_again_under_the_same_name_are_new(tmp_path: Path, segment: Segment) -> None:
    outcomes = Outcomes(tmp_path, clock=At())
    segment.add(kept("a"))
    assert outcomes.ingest() == 1
    segment.path.unlink()
    assert outcomes.ingest() == 0
    Segment(tmp_path, whole=9).add(kept("b"))
    assert outcomes.ingest() == 1


def test_answers_that_make_no_sense_are_passed_over(tmp_path: Path, segment: Segment) -> None:
    segment.add(kept("a", label=7) + kept("b", number=99) + kept("c", row=-1) + kept("d"))
    assert Outcomes(tmp_path, clock=At()).ingest() == 1


def test_more_than_one_reading_holds_is_taken_in(tmp_path: Path, segment: Segment) -> None:
    segment.add(b"".join(kept(str(number)) for number in range(20_000)))
    outcomes = Outcomes(tmp_path, clock=At())
    assert outcomes.ingest() == 20_000
    assert outcomes.feedback(said(str(number)) for number in range(0, 20_000, 2)).joined == 10_000
    assert [one.place for one in outcomes.joined_since(0)] == list(range(1, 10_001))


def test_what_a_newer_version_wrote_is_refused(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / FILE))
    with database.write() as connection:
        connection.exec_driver_sql("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StoreFormat, match="format 99"):
        Outcomes(tmp_path)


JOINER = """
import sys
from pathlib import Path
from modelyard.bundle.answers import Feedback
from modelyard.store.outcomes import Outcomes
outcomes = Outcomes(Path(sys.argv[1]))
sys.stdin.readline()
counts = outcomes.feedback(Feedback(request=str(number), label="yes") for number in range(8000))
print(counts.joined, counts.duplicate, counts.unmatched)
"""


def test_two_processes_at_once_take_each_answer_in_once_and_join_each_label_once(
    tmp_path: Path, segment: Segment
) -> None:
    now = datetime.now(UTC).timestamp()
    segment.add(b"".join(kept(str(number), at=now) for number in range(6000)))
    start: Callable[[], subprocess.Popen[str]] = lambda: subprocess.Popen(  # noqa: E731 - both are started alike
        [sys.executable, "-c", JOINER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    both = [start(), start()]
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [tuple(map(int, process.communicate(timeout=60)[0].split())) for process in both]
    joined, duplicate, unmatched = (sum(one[place] for one in told) for place in range(3))
    assert (joined, duplicate, unmatched) == (6000, 8000, 2000)
    outcomes = Outcomes(tmp_path)
    assert outcomes.counts() == FeedbackCounts(joined=6000, unmatched=2000, duplicate=8000)
    assert sorted(one.place for one in outcomes.joined_since(0)) == list(range(1, 6001))


def test_a_joiner_killed_in_the_middle_leaves_all_or_nothing_of_each_piece(tmp_path: Path, segment: Segment) -> None:
    now = datetime.now(UTC).timestamp()
    segment.add(b"".join(kept(str(number), at=now) for number in range(8000)))
    process = subprocess.Popen([sys.executable, "-c", JOINER, str(tmp_path)], stdin=subprocess.PIPE, text=True)
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    while not (tmp_path / FILE).exists() or not (tmp_path / f"{FILE}-wal").exists():
        time.sleep(0.001)
    process.kill()
    process.communicate()
    outcomes = Outcomes(tmp_path)
    counted = outcomes.feedback(said(str(number)) for number in range(8000))
    before = counted.duplicate
    assert counted.joined + before == 8000 and before % 2000 == 0
    assert [one.place for one in outcomes.joined_since(0)] == list(range(1, 8001))
