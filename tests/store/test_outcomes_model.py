"""Outcomes against a simple model: whatever comes in whatever order, the same labels are joined and counted."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from modelyard.bundle.answers import Answerer, Feedback, FeedbackCounts, Unread, entry
from modelyard.store.outcomes import Outcomes
from tests.store.test_outcomes import At, Segment, kept

LATE_AFTER_S = 100.0
requests = st.sampled_from("abc")
rows = st.sampled_from([0, 0, 0, 1])
labels = st.sampled_from(["yes", "yes", "no", "maybe"])


class Model(RuleBasedStateMachine):
    """Two releases answer, labels come before and after, fronts begin anew, and two programs look."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="modelyard-outcomes-"))
        self.clock = At()
        self.open = [Outcomes(self.folder, clock=self.clock, late_after_s=LATE_AFTER_S) for _ in range(2)]
        self.segments = 0
        self.segment = self.begun()
        self.unread: list[tuple[str, int, int, float]] = []  # written by a front and not ingested yet
        self.answers: dict[tuple[str, int], dict[int, float]] = {}  # releases that answered, with when
        self.labels: dict[tuple[str, int], tuple[str, float]] = {}
        self.waiting: dict[tuple[str, int], tuple[str, float]] = {}
        self.joined: list[tuple[str, str, bool]] = []
        self.counts = dict.fromkeys(("joined", "unmatched", "duplicate", "late", "malformed"), 0)

    def begun(self) -> Segment:
        segment = Segment(self.folder, f"front.0.{self.segments}", whole=self.segments)
        segment.add(entry(Answerer(3, "income@3", ("no", "yes"), ("sex",))))
        self.segments += 1
        return segment

    def teardown(self) -> None:
        for outcomes in self.open:
            outcomes.close()
        shutil.rmtree(self.folder)

    @rule(request=requests, row=rows, number=st.sampled_from([0, 3]))
    def a_release_answers(self, request: str, row: int, number: int) -> None:
        self.segment.add(kept(request, row=row, number=number, at=self.clock.seconds))
        self.unread.append((request, row, number, self.clock.seconds))

    @rule(torn=st.binary(max_size=12))
    def a_front_is_killed_while_it_writes(self, torn: bytes) -> None:
        self.segment.add(b"\xff" + torn if torn else b"")
        self.segment = self.begun()

    @rule(seconds=st.sampled_from([1.0, 60.0]))
    def time_goes_on(self, seconds: float) -> None:
        self.clock.seconds += seconds

    @rule(who=st.integers(0, 1))
    def somebody_ingests(self, who: int) -> None:
        self.open[who].ingest()
        self.take_in()

    @rule(who=st.integers(0, 1), given=st.lists(st.tuples(requests, rows, labels), max_size=6), odd=st.booleans())
    def somebody_hands_labels_in(self, who: int, given: list[tuple[str, int, str]], odd: bool) -> None:
        before = dict(self.counts)
        self.take_in()
        early = {name: self.counts[name] - before[name] for name in before}
        told = self.open[who].feedback(
            [Unread(why="odd")] * odd + [Feedback(request=name, row=row, label=label) for name, row, label in given]
        )
        self.counts["malformed"] += odd
        for name, row, label in given:
            self.label((name, row), label)
        mine = {name: self.counts[name] - before[name] - early[name] for name in before}
        assert msgspec.convert({**mine, "first_fault": told.first_fault}, FeedbackCounts) == told

    @rule(who=st.integers(0, 1))
    def a_program_starts_anew(self, who: int) -> None:
        self.open[who].close()
        self.open[who] = Outcomes(self.folder, clock=self.clock, late_after_s=LATE_AFTER_S)

    @invariant()
    def what_is_joined_and_counted_is_as_the_model_says(self) -> None:
        found = list(self.open[0].joined_since(0))
        assert [one.place for one in found] == list(range(1, len(found) + 1))
        assert sorted((one.release, one.label, one.late) for one in found) == sorted(self.joined)
        assert self.open[1].counts() == msgspec.convert(self.counts, FeedbackCounts)

    # the model

    def take_in(self) -> None:
        new = []
        for request, row, number, at in self.unread:
            key = (request, row)
            if number not in self.answers.setdefault(key, {}):
                self.answers[key][number] = at
                new.append((key, number, at))
        self.unread.clear()
        for key, number, at in new:
            if key in self.labels:
                self.join(key, number, at)
        for key in dict.fromkeys(key for key, _, _ in new):
            if key in self.waiting:
                self.counts["unmatched"] -= 1
                self.meet(key, *self.waiting.pop(key))

    def label(self, key: tuple[str, int], label: str) -> None:
        if key in self.labels or key in self.waiting:
            self.counts["duplicate"] += 1
        elif key not in self.answers:
            self.waiting[key] = (label, self.clock.seconds)
            self.counts["unmatched"] += 1
        else:
            self.meet(key, label, self.clock.seconds)

    def meet(self, key: tuple[str, int], label: str, at: float) -> None:
        if label == "maybe":
            self.counts["malformed"] += 1
            return
        self.labels[key] = (label, at)
        self.counts["joined"] += 1
        late = [self.join(key, number, answered) for number, answered in self.answers[key].items()]
        self.counts["late"] += any(late)

    def join(self, key: tuple[str, int], number: int, answered: float) -> bool:
        label, at = self.labels[key]
        late = at - answered > LATE_AFTER_S
        self.joined.append((f"income@{2 if number == 0 else 3}", label, late))
        return late


Model.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestOutcomesAgainstTheModel = Model.TestCase
