"""What can be said of a candidate's quality before labels come. A proxy is told, and never judged."""

from __future__ import annotations

from modelyard.core.rollout import ArmCounts
from modelyard.measure.sequential_intervals import difference_of_means, rate_interval
from modelyard.measure.sequential_rates import Counts
from modelyard.rollout.words import as_sums, between, grouped, percent

CONFIDENCE = 0.95


def proxy(ours: tuple[str, ArmCounts], stable: tuple[str, ArmCounts]) -> str:
    """Return agreement with the stable release and drift of the answers, in words.

    Args:
        ours, stable: the releases with their counts since the step began.
    """
    told = [*_agreement(ours[1]), *_drift(ours[1], stable[1])]
    if not told:
        return f"no proxy has been seen either: neither mirrored rows nor answers of both {ours[0]} and {stable[0]}"
    return f"proxy, which is not the metric: {'; '.join(told)}"


def output_drift(ours: ArmCounts, stable: ArmCounts) -> float | None:
    """Return the total variation distance between the answered classes, in [0, 1]; None without answers.

    >>> output_drift(ArmCounts(classes={"a": 1, "b": 1}), ArmCounts(classes={"a": 4}))
    0.5
    """
    mine, other = sum(ours.classes.values()), sum(stable.classes.values())
    if not mine or not other:
        return None
    names = ours.classes.keys() | stable.classes.keys()
    gaps = (abs(ours.classes.get(name, 0) / mine - stable.classes.get(name, 0) / other) for name in names)
    return sum(gaps) / 2


def _agreement(ours: ArmCounts) -> list[str]:
    seen = ours.agreement
    if not seen.trials:
        return []
    counts = Counts(trials=seen.trials, hits=seen.hits)
    interval = between(rate_interval(counts, confidence=CONFIDENCE), confidence=CONFIDENCE, as_share=True)
    return [f"agreement with the stable release on {grouped(seen.trials)} mirrored rows is "
            f"{percent(seen.hits / seen.trials)} ({interval})"]  # fmt: skip


def _drift(ours: ArmCounts, stable: ArmCounts) -> list[str]:
    moved = output_drift(ours, stable)
    if moved is not None:
        return [f"the answered classes differ by {percent(moved)} of the rows (output drift)"]
    mine, other = as_sums(ours), as_sums(stable)
    if not mine.count or not other.count:
        return []
    interval = between(difference_of_means(mine, other, confidence=CONFIDENCE), confidence=CONFIDENCE, as_share=False)
    return [f"the answers are {mine.mean - other.mean:+.4g} on average from the stable release's ({interval})"]
