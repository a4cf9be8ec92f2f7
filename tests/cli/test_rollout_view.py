"""What a person reads of a rollout at night: short lines first, every reason once, nothing that says nothing."""

from __future__ import annotations

import re
from typing import Any

from msgspec.structs import replace

from modelyard.app.course_verbs import Seen as Status
from modelyard.bundle.answers import FeedbackCounts
from modelyard.cli.rollout_view import REPEATED, lines
from modelyard.core.release import Traffic
from modelyard.core.requirement import Requirement, Verdict
from modelyard.core.rollout import (
    ArmCounts,
    Decision,
    Hits,
    How,
    Noted,
    Outcome,
    Policy,
    Ruling,
    Step,
    Strategy,
    Watch,
    Window,
)
from modelyard.rollout.course import Course, Seen, begin, end
from modelyard.rollout.decide import decide
from tests.rollout.worlds import ACCURACY, ERRORS, requirement

NOW = 1_800_000_000.0
POLICY = Policy(strategy=Strategy.CANARY, steps=(Step(share=0.1, least_samples=100), Step(share=0.5)))
BOUND = replace(requirement("accuracy", bound=0.8, at_least=True, labels=True), id="accuracy")
MARGIN = replace(ACCURACY, id="accuracy~stable")


def course(*requirements: Requirement, **more: Any) -> Course:
    begun = begin(
        id="income-1", service="income", by="ann", policy=POLICY, requirements=requirements, stable="income@1",
        candidates=("income@2",), epoch=1, now=NOW, watch=Watch(),
    )  # fmt: skip
    seen = {name: Seen(window=Window(release=name, seconds=NOW)) for name in ("income@1", "income@2")}
    return replace(begun, since=seen, **more)


def window(release: str, requests: int, errors: int = 0) -> Window:
    return Window(
        release=release,
        seconds=30.0,
        counts=ArmCounts(
            requests=requests, errors=errors, rates={"errors": Hits(trials=requests, hits=errors)} if requests else {}
        ),
    )


def looked(begun: Course, ours: Window, stable: Window) -> Course:
    windows = {one.release: one for one in (ours, stable)}
    decision, state = decide(windows, begun.requirements, begun.policy, begun.state, NOW + 30)
    return replace(begun, last=decision, state=state, windows=windows)


def told(shown: Course, *, is_open: bool = True, labels: FeedbackCounts | None = None) -> str:
    traffic = Traffic(epoch=2, shares={"income@1": 0.9, "income@2": 0.1}, previous="income@1")
    status = Status(service="income", traffic=traffic, status=None, course=shown, is_open=is_open, labels=labels)
    return "\n".join(lines(status, NOW + 30))


def sentences(text: str) -> list[str]:
    flat = " ".join(text.split())
    return [each for each in re.split(r"(?<=\.)\s+(?=[A-Z])", flat) if len(each) >= REPEATED]


def ruling(name: str, reason: str, verdict: Verdict = Verdict.INCONCLUSIVE, **more: Any) -> Ruling:
    return Ruling(requirement=name, release="income@2", verdict=verdict, reason=reason, **more)


def test_an_open_rollout_says_each_reason_once_and_each_requirement_by_its_id() -> None:
    shown = looked(course(ERRORS, BOUND, MARGIN), window("income@2", 20), window("income@1", 180))
    text = told(shown)
    assert len(sentences(text)) == len(set(sentences(text)))
    named = [line.split()[1] for line in text.splitlines() if line.startswith(("open  ", "pass  ", "FAIL  "))]
    assert named == ["error_rate", "accuracy", "accuracy~stable"]
    assert "\nhold: The step wants at least 100 requests of income@2, and 20 came.\n" in text
    assert "Held" not in text and max(map(len, text.splitlines())) <= 110


def test_a_hold_for_open_verdicts_alone_adds_nothing_to_them() -> None:
    open_one = ruling("accuracy", "accuracy: nothing of income@2 was counted yet.")
    held = Decision(outcome=Outcome.HOLD, reason=f"Held: {open_one.reason}", rulings=(open_one,))
    text = told(replace(course(BOUND), last=held))
    assert "\nhold\n" in text and text.count("nothing of income@2") == 1


def test_two_requirements_with_the_same_words_say_them_once() -> None:
    reason = "accuracy needs labels, and none came for income@2; agreement with income@1 is 97.1 % of 512 rows."
    held = Decision(
        outcome=Outcome.HOLD, reason=f"Held: {reason} {reason}",
        rulings=(ruling("accuracy", reason), ruling("accuracy~stable", reason, samples=3, samples_expected=4000)),
    )  # fmt: skip
    text = told(replace(course(BOUND, MARGIN), last=held))
    assert text.count("needs labels") == 1
    assert text.endswith("open  accuracy~stable (3 samples, about 4 000 more)\n      The same as for accuracy.")


def test_what_failed_is_told_with_its_reason_and_what_follows() -> None:
    broken = ruling("error_rate", "error_rate: requests: 9 of 50 by income@2. Not kept.", Verdict.FAIL, samples=50)
    back = Decision(outcome=Outcome.BACK, reason=f"income@2 goes back. {broken.reason}", rulings=(broken,))
    shown = end(replace(course(ERRORS), last=back), How.TAKEN_BACK, back.reason, NOW + 20)
    text = told(shown)
    assert "taken back after 20.0 s: income@2 goes back.\nThe traffic is being changed to that." in text
    assert "FAIL  error_rate (50 samples)\n      requests: 9 of 50 by income@2. Not kept." in text
    assert "being changed" not in told(shown, is_open=False)


def test_an_incident_is_marked_where_it_is() -> None:
    shared = ruling("latency_p95_ms", "Slow. income@1 breaks the bound alike.", incident=True, samples=70)
    decision = Decision(outcome=Outcome.INCIDENT, reason=f"Incident: {shared.reason}", rulings=(shared,))
    text = told(replace(course(), last=decision))
    assert "\nincident\n" in text
    assert "open  latency_p95_ms (70 samples, incident)" in text and text.count("alike") == 1


def test_a_rollout_that_waits_for_labels_says_what_became_of_them() -> None:
    counts = FeedbackCounts(joined=1240, unmatched=3, duplicate=2, late=5, malformed=1)
    text = told(course(BOUND), labels=counts)
    assert "labels: 1 240 joined (5 late), 3 unmatched, 2 duplicate, 1 malformed" in text
    assert "labels:" not in told(course(BOUND))


def test_a_paused_rollout_and_its_history_are_shown() -> None:
    noted = [Noted(at=NOW + at, step=0, outcome=outcome, reason="") for at, outcome in
             ((1, Outcome.HOLD), (9, Outcome.FORWARD))]  # fmt: skip
    text = told(course(paused=True, history=tuple(noted)))
    assert "paused: it goes back, and not forward" in text
    assert [line.split()[1:] for line in text.splitlines()[-2:]] == [["step", "1", "hold"], ["step", "1", "forward"]]


def test_a_service_without_a_rollout_is_one_line_and_what_is_wrong() -> None:
    traffic = Traffic(epoch=7, shares={"income@1": 1.0})
    seen = Status(service="income", traffic=traffic, status=None, course=None, is_open=False)
    assert list(lines(seen, NOW)) == [
        "income: income@1 100 % (epoch 7)",
        "No supervisor answers; the fronts go on by the local copy of the traffic table.",
    ]
