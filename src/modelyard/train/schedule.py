"""Which candidates the next trials belong to: a pure rule over the trials that have ended.

Trials are fitted side by side, in turns of as many as the budget has threads, one thread each: a fit on several
threads is not the same from one time to the next, and waits for whatever else uses the cores. All trials of a turn
are chosen by the trials before the turn. The first trial of each candidate takes its default parameters; its time is
the probe that turns a budget in seconds into trials. After that three turns in four go to the candidate that leads on
the validation rows, the fourth to the one that has had least. Times come from the stored trials and are never taken
again, so a resumed search goes on exactly where an unbroken one would be.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from modelyard.core.candidate import Trial, TrialState
from modelyard.core.space import Budget, Plan

EXPLORE_EVERY = 4
MOST_FAILURES_IN_A_ROW = 3
TOLERANCE = 0.08  # of a budget in seconds that the last trial may run over


def next_turn(
    plans: Sequence[Plan], trials: Sequence[Trial], budget: Budget, *, lost_s: float = 0.0
) -> tuple[str, ...]:
    """Return the candidates of the trials to fit next, side by side; none when the search is over.

    Args:
        trials: all that ended, in order.
        lost_s: seconds of attempts that were cut off before they ended; they count as spent.
    """
    width = budget.threads if budget.trials is None else min(budget.threads, budget.trials - len(trials))
    left = seconds_left(trials, budget, lost_s=lost_s)
    if width <= 0 or (left is not None and left <= 0):
        return ()
    by_name = {plan.name: [trial for trial in trials if trial.candidate == plan.name] for plan in plans}
    untried = [plan.name for plan in plans if not by_name[plan.name]]
    if untried:
        return tuple(untried[:width])
    open_plans = [plan.name for plan in plans if plan.varies and not _hopeless(by_name[plan.name])]
    if left is not None:
        most = left + TOLERANCE * (budget.seconds or 0.0)
        open_plans = [name for name in open_plans if width * _expected_s(by_name[name]) <= most]
    if not open_plans:
        return ()
    turns = (len(trials) - len(plans)) // budget.threads
    if turns % EXPLORE_EVERY == EXPLORE_EVERY - 1:
        name = min(open_plans, key=lambda name: _had(by_name[name], timed=left is not None))
    else:
        name = max(open_plans, key=lambda name: _best(by_name[name]))
    return (name,) * width


def seconds_left(trials: Sequence[Trial], budget: Budget, *, lost_s: float = 0.0) -> float | None:
    """Return what is left of a budget in seconds; None where the budget is in trials."""
    if budget.seconds is None:
        return None
    return budget.seconds - lost_s - sum(trial.spent_s for trial in trials)


def expected_trials(plans: Sequence[Plan], trials: Sequence[Trial], budget: Budget) -> int:
    """Return how many trials the budget buys, from the times so far; at least those that ended."""
    if budget.trials is not None:
        return budget.trials
    left = seconds_left(trials, budget) or 0.0
    varying = {plan.name for plan in plans if plan.varies}
    times = [trial.spent_s for trial in trials if trial.candidate in varying]
    return len(trials) + (int(max(left, 0.0) / max(median(times), 1e-3)) if times else 0)


def _hopeless(trials: Sequence[Trial]) -> bool:
    last = trials[-MOST_FAILURES_IN_A_ROW:]
    return len(last) == MOST_FAILURES_IN_A_ROW and all(trial.state is not TrialState.DONE for trial in last)


def _expected_s(trials: Sequence[Trial]) -> float:
    return median(trial.spent_s for trial in trials)


def _best(trials: Sequence[Trial]) -> float:
    return max((trial.value for trial in trials if trial.value is not None), default=float("-inf"))


def _had(trials: Sequence[Trial], *, timed: bool) -> float:
    return sum(trial.spent_s for trial in trials) if timed else len(trials)
