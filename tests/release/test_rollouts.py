"""Rollouts on the report and the card: how each ended and why, its verdicts, counts and decisions."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from modelyard.core.evidence import Payload, RolloutEvidence
from modelyard.core.requirement import Verdict
from modelyard.core.rollout import ArmCounts, How, Noted, Outcome, Policy, Ruling, Step, Strategy, Window
from modelyard.release import card, report, rollouts
from tests.release import samples
from tests.release.pages import Page

SLOW = "latency_p95_ms: requests above 50 ms: 41 of 300 by income@2, 13.7 %; at most 5 % is wanted <always>. Not kept."
RULINGS = tuple(
    Ruling(requirement=name, release="income@2", verdict=verdict, reason=reason, samples=samples_seen)
    for name, verdict, reason, samples_seen in (
        ("error_rate", Verdict.PASS, "error_rate: requests: 2 of 300 by income@2. Kept.", 300),
        ("latency_p95_ms", Verdict.FAIL, SLOW, 300),
        ("accuracy~stable", Verdict.INCONCLUSIVE, "accuracy: nothing of income@2 was counted yet.", 0),
    )
)
EVIDENCE = RolloutEvidence(
    rollout="income-20261120-140326", service="income", stable="income@1",
    policy=Policy(strategy=Strategy.CANARY, steps=(Step(share=0.1), Step(share=0.5))),
    began="2026-11-20T14:03:26.000000Z", ended="2026-11-20T14:05:36.000000Z", how=How.TAKEN_BACK,
    reason=f"income@2 goes back. {SLOW}", rulings=RULINGS,
    windows={
        "income@1": Window(release="income@1", seconds=130.0, counts=ArmCounts(requests=2710, errors=9)),
        "income@2": Window(release="income@2", seconds=130.0, counts=ArmCounts(requests=300, errors=2, degraded=1)),
    },
    history=(
        Noted(at=1_795_183_406.0, step=0, outcome=Outcome.HOLD, reason="Held: The step lasts at least 60 s."),
        Noted(at=1_795_183_536.0, step=0, outcome=Outcome.BACK, reason=f"income@2 goes back. {SLOW}"),
    ),
)  # fmt: skip


def page(*payloads: Payload) -> str:
    build = samples.recorded(samples.binary())
    return report.render(
        samples.release(), [build, *(samples.recorded(one, kind="rollout") for one in payloads)], samples.SPEC
    )


def test_a_rollout_is_told_with_how_it_ended_its_verdicts_counts_and_decisions() -> None:
    text = page(EVIDENCE)
    read = Page(text)
    assert read.faults == [] and "#rollouts" in {a["href"] for a in read.all("a")}
    section = text.partition('<section id="rollouts">')[2].partition("</section>")[0]
    assert "✕ Taken back</span> · income@2 goes back.</p>" in section
    assert section.index("latency_") < section.index("accuracy~stable") < section.index("error_<wbr>rate")
    assert "at most 5 % is wanted <always>." in read.text and section.count("13.7 %") == 1
    for said in ("2,710", "<span>10 %</span>", "beside income@1", "over after 2 min 10 s", "at least 60 s"):
        assert said in section


def test_the_newest_comes_first_and_old_ones_make_room() -> None:
    many = [samples.recorded(replace(EVIDENCE, rollout=f"r{number}")) for number in range(14)]
    shown = [one.record.rollout for one in rollouts.views(many)]
    assert shown == [f"r{number}" for number in range(13, 13 - rollouts.MOST_SHOWN, -1)]


@pytest.mark.parametrize(
    ("how", "verdict", "said"),
    [
        (How.PROMOTED, Verdict.PASS, "✓ Promoted"),
        (How.STOPPED, Verdict.INCONCLUSIVE, "? Stopped"),
        (How.TAKEN_OVER, Verdict.INCONCLUSIVE, "? Taken over"),
    ],
)
def test_how_it_ended_has_its_mark(how: How, verdict: Verdict, said: str) -> None:
    record = replace(EVIDENCE, how=how, reason="It ended.", rulings=(), windows={}, history=())
    assert rollouts.views([samples.recorded(record)])[0].verdict is verdict
    assert said in page(record) and Page(page(record)).faults == []


def test_several_candidates_are_told_apart() -> None:
    both = replace(EVIDENCE, rulings=(*RULINGS, replace(RULINGS[0], release="income@3")))
    assert '<th scope="col" role="columnheader">Release</th>' in page(both)
    assert 'columnheader">Release</th>' not in page(EVIDENCE)


def test_the_card_tells_of_rollouts_and_lets_no_markup_in() -> None:
    evidence = [samples.recorded(samples.binary()), samples.recorded(EVIDENCE, kind="rollout")]
    text = card.render(samples.release(), evidence)
    section = text.partition("## Rollouts\n")[2].partition("\n## ")[0]
    assert (
        "- **Taken back** after 2 min 10 s (by canary beside income@1, 2026-11-20 14:03 UTC): income@2 goes back"
        in section
    )
    assert "`latency_p95_ms` **fail**" in section and "<always>" not in section.replace("\\<always\\>", "")
    assert "income@2 in the last step: 300 requests, 2 errors, 1 degraded" in section


def test_a_release_without_rollouts_has_no_such_section() -> None:
    assert 'id="rollouts"' not in page()
    assert "## Rollouts" not in card.render(samples.release(), [samples.recorded(samples.binary())])
