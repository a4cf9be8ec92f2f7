"""The verdict of each requirement on each candidate, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modelyard.core.requirement import Requirement, Verdict
from modelyard.core.rollout import Policy, Ruling, Window
from modelyard.measure.judge import worst
from modelyard.rollout.claims import Claim, claims, is_of_service, judged_at_build, uncounted, watched
from modelyard.rollout.judging import Judged, judge_claim, levels
from modelyard.rollout.proxies import proxy
from modelyard.rollout.state import StepState
from modelyard.rollout.words import reason

Found = tuple[Claim, Judged]


def rule(
    windows: Mapping[str, Window], requirements: Sequence[Requirement], policy: Policy, state: StepState
) -> tuple[Ruling, ...]:
    """Return the ruling of each requirement on each candidate that was not taken back."""
    found = claims(requirements, policy)
    allowed = levels(found, policy, len(state.candidates))
    rulings = []
    is_mirrored = policy.share_at(state.step) == 0
    for name in state.running:
        for one in watched(requirements, policy):
            if is_mirrored and is_of_service(one):
                rulings.append(_while_mirrored(one, name))
                continue
            judged = [
                (claim, judge_claim(claim, name, policy, state, allowed[claim.key]))
                for claim in found
                if claim.requirement.id == one.id
            ]
            rulings.append(_ruling(one, judged, windows[name], windows[state.stable]))
    return tuple(rulings)


def _ruling(required: Requirement, judged: Sequence[Found], ours: Window, stable: Window) -> Ruling:
    if judged_at_build(required):
        return _at_build(required, ours.release)
    arms = (ours.release, ours.counts), (stable.release, stable.counts)
    said = [(each.verdict, reason(claim, each, *arms)) for claim, each in judged]
    said += [(Verdict.INCONCLUSIVE, f"{told}, so nothing here judges it.") for told in uncounted(required)]
    verdict = worst(each for each, _ in said)
    sentences = [sentence for each, sentence in said if each is verdict]
    if verdict is Verdict.INCONCLUSIVE and required.needs_labels and not any(each.samples for _, each in judged):
        sentences.append(f"{required.metric} needs labels, and none came for {ours.release}; {proxy(*arms)}.")
    expected = [each.expected for _, each in judged if each.verdict is Verdict.INCONCLUSIVE]
    known = [count for count in expected if count is not None]
    is_told = verdict is Verdict.INCONCLUSIVE and known and len(known) == len(expected) and not uncounted(required)
    return Ruling(
        requirement=required.id,
        release=ours.release,
        verdict=verdict,
        reason=" ".join(sentences),
        samples=min((each.samples for _, each in judged), default=0),
        samples_expected=max(known) if is_told else None,
        incident=verdict is not Verdict.FAIL and any(each.incident for _, each in judged),
    )


def _while_mirrored(required: Requirement, name: str) -> Ruling:
    told = f"{required.metric} is passed over while requests are mirrored, as copies wait for callers."
    return Ruling(requirement=required.id, release=name, verdict=Verdict.PASS, reason=f"{told} It is judged after.")


def _at_build(required: Requirement, name: str) -> Ruling:
    """Pass over what serving does not change; a margin of it is told to be unjudged."""
    told = f"{required.metric} is a property of the packed bundle, which does not change while {name} serves"
    if required.bound is None:
        return Ruling(
            requirement=required.id,
            release=name,
            verdict=Verdict.PASS,
            reason=f"{told}: passed over. Its margin against the stable release's bundle is not judged here.",
        )
    return Ruling(
        requirement=required.id,
        release=name,
        verdict=Verdict.PASS,
        reason=f"{told}: its bound was judged at build, and it is passed over.",
    )
