"""Forward, hold or back: the one place where it is decided, without a clock or a service.

A failed requirement, or one of the deterministic rules, takes a candidate back at once and for good. It
goes forward only when every requirement passed. All else holds, until the policy's time limit takes it back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from modelyard.core.requirement import Requirement, Verdict
from modelyard.core.rollout import Cause, Decision, Outcome, Policy, Ruling, Strategy, TakenBack, Window
from modelyard.errors import DataError
from modelyard.measure.sequential import strength
from modelyard.measure.sequential_means import MeanState
from modelyard.measure.sequential_rates import RateState
from modelyard.rollout.claims import claims
from modelyard.rollout.look import look, primary_key
from modelyard.rollout.rulings import rule
from modelyard.rollout.state import StepState
from modelyard.rollout.words import grouped, percent

CRASH_LOOP = 3  # restarts within a step
SPLIT_LEVEL = 0.001  # chance of stopping for a split that is as configured


def decide(
    windows: Mapping[str, Window],
    requirements: Sequence[Requirement],
    policy: Policy,
    state: StepState,
    now: float,
) -> tuple[Decision, StepState]:
    """Return what is done next and why, and the state to keep for the next look.

    The state must be kept before the decision is carried out: whoever comes back to it decides the same.
    Looks may come at any moment that does not depend on what the rows since the last look answered.

    Args:
        windows: of the stable release and of each candidate that was not taken back, since the step began.
        requirements: those of the candidate's spec, the same at each look.
        now: seconds, of the clock that `state.began` was read from.
    Raises: DataError where a window is missing, or counts fell. UsageError where requirements were changed,
        or the policy names one that is not there.
    """
    if state.stopped is not None or not state.running:
        return _ended(state), state
    state = _by_rules(windows, state)
    if not state.running:
        return _ended(state), state
    state = look(windows, claims(requirements, policy), policy, state, now)
    split_is_off = state.split is not None and state.split.off.refutes(SPLIT_LEVEL)
    if split_is_off and policy.strategy is Strategy.EXPERIMENT:
        state = msgspec.structs.replace(state, stopped=TakenBack(cause=Cause.SPLIT, reason=_split_words(state)))
        return _ended(state), state
    rulings = rule(windows, requirements, policy, state)
    state = _by_requirements(rulings, state)
    if not state.running:
        return msgspec.structs.replace(_ended(state), rulings=rulings), state
    return _open(windows, rulings, policy, state, now, split_is_off=split_is_off)


def _open(
    windows: Mapping[str, Window],
    rulings: tuple[Ruling, ...],
    policy: Policy,
    state: StepState,
    now: float,
    *,
    split_is_off: bool,
) -> tuple[Decision, StepState]:
    """Decide where a running candidate is left, and none of them failed."""
    is_watched = state.step >= len(policy.steps)
    lacking = [] if is_watched else _lacking(windows, policy, state, now)
    if split_is_off:
        lacking.append(_split_words(state))
    kept = [name for name in state.running if _is_kept(name, rulings)]
    done = bool(kept) if policy.strategy is Strategy.EXPERIMENT else len(kept) == len(state.running)
    if done and not lacking and not is_watched:
        return _forward(kept, rulings, policy, state, now), state
    if not is_watched and now - state.began >= policy.most_s:
        return _out_of_time(rulings, lacking, policy, state)
    return _held(rulings, lacking, state, is_watched=is_watched), state


def _by_rules(windows: Mapping[str, Window], state: StepState) -> StepState:
    found: dict[str, TakenBack] = {}
    for name in state.running:
        if name not in windows:
            raise DataError(
                f"There is no window of `{name}`, only of {', '.join(sorted(windows)) or 'none'}: give one."
            )
        broken = _broken_rules(windows[name])
        if broken:
            words = f"{name} goes back at once: {'; '.join(broken)}."
            found[name] = TakenBack(cause=Cause.RULE, reason=words)
    return msgspec.structs.replace(state, back=state.back | found) if found else state


def _broken_rules(window: Window) -> list[str]:
    restarts = sum(window.restarts.values())
    broken = []
    if window.not_finite_rows:
        broken.append(f"it answered NaN or an infinity for {grouped(window.not_finite_rows)} rows, and none may be")
    if restarts >= CRASH_LOOP:
        why = ", ".join(f"{count} times {name}" for name, count in sorted(window.restarts.items()) if count)
        broken.append(
            f"its workers restarted {restarts} times in {window.seconds:.0f} s ({why}), {CRASH_LOOP} are a crash loop"
        )
    if window.hung:
        broken.append(f"its workers hung {window.hung} times")
    if window.memory_replaced:
        broken.append(f"its workers took too much memory and were replaced {window.memory_replaced} times")
    return broken


def _by_requirements(rulings: Sequence[Ruling], state: StepState) -> StepState:
    found = {}
    for name in state.running:
        failed = [one.reason for one in rulings if one.release == name and one.verdict is Verdict.FAIL]
        if failed:
            found[name] = TakenBack(cause=Cause.REQUIREMENT, reason=f"{name} goes back. {' '.join(failed)}")
    return msgspec.structs.replace(state, back=state.back | found) if found else state


def _is_kept(name: str, rulings: Sequence[Ruling]) -> bool:
    mine = [one for one in rulings if one.release == name]
    return bool(mine) and all(one.verdict is Verdict.PASS for one in mine)


def _lacking(windows: Mapping[str, Window], policy: Policy, state: StepState, now: float) -> list[str]:
    """Return what the step still lacks beside verdicts, in words."""
    step, lacking = policy.steps[state.step], []
    if now - state.began < step.least_s:
        lacking.append(f"The step lasts at least {step.least_s:g} s, and {now - state.began:.0f} s have passed")
    for name in state.running:
        requests = windows[name].counts.requests
        if requests < step.least_samples:
            least = grouped(step.least_samples)
            lacking.append(f"The step wants at least {least} requests of {name}, and {grouped(requests)} came")
    return lacking


def _forward(
    kept: Sequence[str], rulings: tuple[Ruling, ...], policy: Policy, state: StepState, now: float
) -> Decision:
    told = f"after {now - state.began:.0f} s at {percent(policy.share_at(state.step))} of the traffic"
    if policy.strategy is Strategy.EXPERIMENT:
        winner = max(kept, key=lambda name: _lead(name, policy, state))
        reason = f"{winner} is shown better than {state.stable} by {policy.primary} {told}, and keeps what must hold."
    else:
        winner = None
        reason = f"All {len(rulings)} verdicts are passes {told}: {', '.join(kept)} goes forward."
    return Decision(
        outcome=Outcome.FORWARD, reason=reason, rulings=rulings, back=state.back, winner=winner, samples_expected=0
    )


def _lead(name: str, policy: Policy, state: StepState) -> float:
    """Return the strength of the evidence that a candidate is better than the stable release."""
    tests: dict[str, RateState | MeanState] = {**state.rates, **state.means}
    return tests[primary_key(name, policy.primary or "")].cleared.now


def _out_of_time(
    rulings: tuple[Ruling, ...], lacking: Sequence[str], policy: Policy, state: StepState
) -> tuple[Decision, StepState]:
    found = {}
    for name in state.running:
        left = [one.reason for one in rulings if one.release == name and one.verdict is not Verdict.PASS]
        words = " ".join([*left, *(f"{one}." for one in lacking)])
        told = f"{name} goes back: the step was open for {policy.most_s:g} s, the longest it may, without all passes."
        found[name] = TakenBack(cause=Cause.TIME_LIMIT, reason=f"{told} {words}".strip())
    state = msgspec.structs.replace(state, back=state.back | found)
    return msgspec.structs.replace(_ended(state), rulings=rulings), state


def _held(rulings: tuple[Ruling, ...], lacking: Sequence[str], state: StepState, *, is_watched: bool) -> Decision:
    """Hold; as an incident where the stable release breaks a bound as well."""
    running = [one for one in rulings if one.release in state.running]
    shared = [one for one in running if one.incident]
    left = [one for one in running if one.verdict is not Verdict.PASS]
    expected = [one.samples_expected for one in left]
    known = [count for count in expected if count is not None]
    opening = "Incident" if shared else "Watched, with all of the traffic" if is_watched else "Held"
    words = [one.reason for one in (shared or left)] + [f"{one}." for one in lacking]
    return Decision(
        outcome=Outcome.INCIDENT if shared else Outcome.HOLD,
        reason=f"{opening}: {' '.join(words) or 'every verdict is a pass.'}",
        rulings=rulings,
        back=state.back,
        samples_expected=max(known, default=0) if len(known) == len(expected) else None,
    )


def _ended(state: StepState) -> Decision:
    """Return the decision of a rollout that has ended; it never changes again."""
    if state.stopped is not None:
        return Decision(outcome=Outcome.STOP_EXPERIMENT, reason=state.stopped.reason, back=state.back)
    return Decision(outcome=Outcome.BACK, reason=" ".join(one.reason for one in state.back.values()), back=state.back)


def _split_words(state: StepState) -> str:
    test = state.split
    assert test is not None
    total = sum(test.counts)
    came = " to ".join(percent(count / total) for count in test.counts) if total else "nothing"
    wanted = " to ".join(percent(share) for share in test.shares)
    return (
        f"The traffic is not split as configured: {wanted} is wanted and {came} of {grouped(total)} came to "
        f"{state.stable} and {', '.join(state.running)}; the evidence is {strength(test.off)}. Requests get lost or "
        "are counted twice, so no comparison of the releases can be trusted"
    )
