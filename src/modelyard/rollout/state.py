"""All that a rollout must remember between looks: whoever was killed goes on from it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from modelyard.core.rollout import ArmCounts, Policy, TakenBack
from modelyard.errors import UsageError
from modelyard.measure import sequential_means as means
from modelyard.measure import sequential_split as split
from modelyard.measure.sequential_means import MeanState
from modelyard.measure.sequential_rates import RateState
from modelyard.measure.sequential_split import SplitState


class StepState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a rollout is, and what its tests have seen. `begin` makes the first.

    Tests go on from step to step, so that the level holds for the whole rollout. Their keys name the
    candidate, the claim and, for gaps, the two groups.
    """

    stable: str
    candidates: tuple[str, ...]
    step: int = 0
    began: float  # seconds, of the same clock as `now`
    looked: float  # at the last look
    seen: dict[str, ArmCounts] = {}  # at the last look, since the step began
    rates: dict[str, RateState] = {}
    means: dict[str, MeanState] = {}
    groups: dict[str, tuple[str, ...]] = {}  # of a claim, in the order in which they were met
    split: SplitState | None = None
    back: dict[str, TakenBack] = {}
    stopped: TakenBack | None = None  # the experiment

    @property
    def running(self) -> tuple[str, ...]:
        """The candidates that were not taken back."""
        return tuple(name for name in self.candidates if name not in self.back)


def begin(stable: str, candidates: Sequence[str], *, now: float) -> StepState:
    """Return the state at the start of the first step.

    Raises: UsageError for no candidate, or one named twice.
    """
    names = (stable, *candidates)
    if not candidates or len(set(names)) < len(names):
        raise UsageError(
            f"A rollout beside `{stable}` has candidates {tuple(candidates)}: one or more others, each once."
        )
    return StepState(stable=stable, candidates=tuple(candidates), began=now, looked=now)


def next_step(state: StepState, policy: Policy, *, now: float) -> StepState:
    """Return the state at the start of the step that follows. Counts begin at 0, tests go on.

    Raises: UsageError after the last step, or where the rollout has ended.
    """
    if state.step >= len(policy.steps) or not state.running or state.stopped is not None:
        raise UsageError(f"Step {state.step + 1} of {len(policy.steps)} has no next one, or the rollout has ended.")
    moved = msgspec.structs.replace(
        state,
        step=state.step + 1,
        began=now,
        looked=now,
        seen={},
        means={key: means.split_anew(test) for key, test in state.means.items()},
    )
    return msgspec.structs.replace(moved, split=split_for(moved, policy))


def shares(state: StepState, policy: Policy) -> dict[str, float]:
    """Return which share of the traffic each release is to have; together 1. What was taken back has none."""
    if state.stopped is not None:
        return {state.stable: 1.0} | dict.fromkeys(state.candidates, 0.0)
    each = policy.share_at(state.step) / len(state.candidates)
    given = {name: each if name in state.running else 0.0 for name in state.candidates}
    return {state.stable: 1 - each * len(state.running)} | given


def split_for(state: StepState, policy: Policy) -> SplitState | None:
    """Return the test of the split for the shares that hold now; None where nothing is split."""
    wanted = tuple(share for share in shares(state, policy).values() if share > 0)
    if len(wanted) < 2:
        return None
    if state.split is None or len(state.split.shares) != len(wanted):
        return split.start(wanted)
    return state.split if state.split.shares == wanted else split.split_anew(state.split, wanted)
