"""Counts of labelled rows: they stand for the metrics they are of, however the rows come."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from modelyard.bundle.answers import Joined
from modelyard.core.codec import decode, encode
from modelyard.core.metrics import METRICS
from modelyard.core.requirement import Direction, Requirement, Slice
from modelyard.core.rollout import ArmCounts, Hits, Policy, Strategy, Totals
from modelyard.rollout.claims import Claim, claims
from modelyard.rollout.labelled import MOST_IN_WAITING, LabelCounts, fold

STABLE, CANDIDATE = "m@1", "m@2"
TWO, THREE = ("no", "yes"), ("a", "b", "c")
CLASSED = (
    "accuracy", "recall", "precision", "balanced_accuracy", "roc_auc", "f1", "log_loss", "brier_loss",
    "equal_opportunity_difference", "equalized_odds_difference",
)  # fmt: skip
VALUED = ("mae", "rmse", "median_absolute_error")


def claimed(
    *names: str, bound: float | None = 0.5, margin: float | None = None, where: Slice | None = None
) -> tuple[Claim, ...]:
    asked = [
        Requirement(
            id=name + (f"@{where}" if where else "") + ("" if bound is not None else "~stable"),
            metric=name,
            direction=Direction.AT_LEAST if METRICS[name].higher_is_better else Direction.AT_MOST,
            bound=bound,
            margin=margin,
            slice=where,
            group="sex" if name.startswith("equal") else None,
        )
        for name in names
    ]
    found = claims(asked, Policy(strategy=Strategy.BLUE_GREEN))
    return tuple(claim for claim in found if claim.requirement.metric in names)


@st.composite
def classified(draw: st.DrawFn, classes: tuple[str, ...]) -> list[Joined]:
    """Draw rows of two releases, with ties among their probabilities."""
    size = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = []
    for place in range(1, size + 1):
        shares = rng.integers(1, 5, len(classes))
        stated = tuple(float(np.float32(share / shares.sum())) for share in shares)
        rows.append(
            Joined(
                place=place,
                release=STABLE if rng.random() < 0.4 else CANDIDATE,
                label=classes[rng.integers(len(classes))],
                at=0.0,
                classes=classes,
                answered=classes[int(np.argmax(stated))],
                probabilities=stated,
                columns={"sex": ("f", "m", None)[rng.integers(3)]},
            )
        )
    return rows


@st.composite
def valued(draw: st.DrawFn) -> list[Joined]:
    numbers = st.floats(-1e3, 1e3, width=32)
    pairs = draw(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=40))
    return [
        Joined(place=place, release=CANDIDATE, label=repr(label), at=0.0, value=value)
        for place, (label, value) in enumerate(pairs, start=1)
    ]


def counted(rows: list[Joined], asked: tuple[Claim, ...], release: str = CANDIDATE) -> ArmCounts:
    return fold(LabelCounts(), rows, asked, stable=STABLE).added_to(ArmCounts(), release)


def share(hits: Hits) -> float:
    return hits.hits / hits.trials


def mean(totals: Totals) -> float:
    return totals.total / totals.count


@given(st.one_of(classified(TWO), classified(THREE), valued()), st.data())
def test_rows_in_pieces_count_as_rows_in_one_go(rows: list[Joined], data: st.DataObject) -> None:
    asked = claimed(*CLASSED, *VALUED)
    whole = fold(LabelCounts(), rows, asked, stable=STABLE)
    cut = data.draw(st.integers(0, len(rows)))
    first = fold(LabelCounts(), rows[:cut], asked, stable=STABLE)
    kept = decode(encode(first), LabelCounts)  # as it is between two looks
    assert fold(kept, rows, asked, stable=STABLE) == whole  # what was folded before is passed over
    assert fold(kept, rows[cut:], asked, stable=STABLE) == whole


@given(st.one_of(classified(TWO), classified(THREE)))
def test_no_count_has_more_hits_than_trials_and_none_ever_falls(rows: list[Joined]) -> None:
    asked, state, before = claimed(*CLASSED), LabelCounts(), ArmCounts()
    for row in rows:
        state = fold(state, [row], asked, stable=STABLE)
        now = state.added_to(ArmCounts(), CANDIDATE)
        for name, hits in now.rates.items():
            old = before.rates.get(name, Hits())
            assert old.trials <= hits.trials <= len(rows) and old.hits <= hits.hits <= hits.trials
        before = now


@given(classified(TWO))
def test_counts_of_two_classes_are_the_metrics(rows: list[Joined]) -> None:
    seen = counted(rows, claimed(*CLASSED))
    mine = [row for row in rows if row.release == CANDIDATE]
    labels, answers = [row.label for row in mine], [row.answered for row in mine]
    stated = np.array([row.probabilities for row in mine])
    if not mine:
        assert not seen.rates and not seen.means
        return
    assert share(seen.rates["accuracy"]) == pytest.approx(metrics.accuracy_score(labels, answers))
    if "yes" in labels:
        assert share(seen.rates["recall"]) == pytest.approx(metrics.recall_score(labels, answers, pos_label="yes"))
    if "yes" in answers:
        precision = metrics.precision_score(labels, answers, pos_label="yes")
        assert share(seen.rates["precision"]) == pytest.approx(precision)
    if "yes" in labels or "yes" in answers:
        jaccard = share(seen.rates["f1"])
        f1 = metrics.f1_score(labels, answers, pos_label="yes")
        assert 2 * jaccard / (1 + jaccard) == pytest.approx(f1)
    truth = [label == "yes" for label in labels]
    assert mean(seen.means["brier_loss"]) == pytest.approx(metrics.brier_score_loss(truth, stated[:, 1]))
    logs = [-math.log(p[TWO.index(label)]) for p, label in zip(stated, labels, strict=True)]
    assert mean(seen.means["log_loss"]) == pytest.approx(np.mean(logs))


@given(classified(TWO))
def test_pairs_take_positives_and_negatives_in_their_order(rows: list[Joined]) -> None:
    seen = counted(rows, claimed("roc_auc"))
    mine = [row for row in rows if row.release == CANDIDATE]
    positives = [row.probabilities[1] for row in mine if row.label == "yes"]
    negatives = [row.probabilities[1] for row in mine if row.label == "no"]
    right = [float(np.sign(high - low) + 1) / 2 for high, low in zip(positives, negatives, strict=False)]
    assert seen.rates.get("roc_auc", Hits()) == Hits(trials=len(right), hits=sum(right))


@given(classified(THREE))
def test_sets_of_several_classes_take_the_rows_of_each_in_their_order(rows: list[Joined]) -> None:
    seen = counted(rows, claimed("recall", "precision", "balanced_accuracy", "f1"))
    mine = [row for row in rows if row.release == CANDIDATE]
    by_label = [[row.label == row.answered for row in mine if row.label == name] for name in THREE]
    by_answer = [[row.label == row.answered for row in mine if row.answered == name] for name in THREE]
    for names, by in ((("recall", "balanced_accuracy"), by_label), (("precision",), by_answer)):
        sets = list(zip(*by, strict=False))
        for name in names:
            hits = seen.rates.get(name, Hits())
            assert hits.trials == len(sets)
            assert hits.hits == pytest.approx(sum(sum(one) / 3 for one in sets))
    assert "f1" not in seen.rates


@given(classified(TWO))
def test_groups_are_counted_apart_and_rows_without_one_not_at_all(rows: list[Joined]) -> None:
    seen = counted(rows, claimed("equal_opportunity_difference", "equalized_odds_difference"))
    for name, label in (
        ("equal_opportunity_difference", "yes"),
        ("equalized_odds_difference of positives", "yes"),
        ("equalized_odds_difference of negatives", "no"),
    ):
        groups = {
            group: [
                row.answered == "yes"
                for row in rows
                if (row.release, row.label, row.columns["sex"]) == (CANDIDATE, label, group)
            ]
            for group in ("f", "m")
        }
        wanted = {group: Hits(trials=len(found), hits=sum(found)) for group, found in groups.items() if found}
        assert seen.groups.get(name, {}) == wanted


@given(classified(TWO))
def test_groups_that_only_labelled_rows_tell_are_counted_for_shares_of_positives(rows: list[Joined]) -> None:
    name = "demographic_parity_difference"
    asked = Requirement(id=name, metric=name, direction=Direction.AT_MOST, bound=0.1, group="sex", needs_labels=False)
    policy = Policy(strategy=Strategy.BLUE_GREEN)
    assert name not in counted(rows, claims([asked], policy)).groups  # fronts count what requests carry
    seen = counted(rows, claims([msgspec.structs.replace(asked, needs_labels=True)], policy))
    wanted = {}
    for group in ("f", "m"):
        said = [row.answered == "yes" for row in rows if (row.release, row.columns["sex"]) == (CANDIDATE, group)]
        if said:
            wanted[group] = Hits(trials=len(said), hits=sum(said))
    assert seen.groups.get(name, {}) == wanted


@given(valued())
def test_counts_of_numbers_are_the_metrics(rows: list[Joined]) -> None:
    seen = counted(rows, claimed(*VALUED, bound=100.0))
    truth, answers = [float(row.label) for row in rows], [row.value for row in rows]
    assert mean(seen.means["mae"]) == pytest.approx(metrics.mean_absolute_error(truth, answers))
    assert mean(seen.means["rmse"]) == pytest.approx(metrics.mean_squared_error(truth, answers))
    larger = sum(abs(row.value - float(row.label)) > 100.0 for row in rows if row.value is not None)
    assert seen.rates["median_absolute_error"] == Hits(trials=len(rows), hits=larger)


def test_pairs_of_several_classes_come_to_the_weighted_area() -> None:
    rng = np.random.default_rng(5)
    labels = rng.choice(3, 30_000, p=[0.7, 0.2, 0.1])
    raw = rng.random((30_000, 3)) + 0.6 * np.eye(3)[labels] * [1.0, 0.3, 0.1]
    stated = raw / raw.sum(axis=1, keepdims=True)
    rows = [
        Joined(place=place, release=CANDIDATE, label=THREE[label], at=0.0, classes=THREE, answered="a", probabilities=p)
        for place, (label, p) in enumerate(zip(labels, map(tuple, stated.tolist()), strict=True), start=1)
    ]
    hits = counted(rows, claimed("roc_auc")).rates["roc_auc"]
    area = metrics.roc_auc_score(labels, stated, multi_class="ovr", average="weighted")
    assert abs(share(hits) - area) < 4 * math.sqrt(area * (1 - area) / hits.trials)
    assert hits.trials > 5_000


def test_the_pairs_of_a_rare_class_come_to_the_area_and_what_waits_is_bounded() -> None:
    rng = np.random.default_rng(6)
    labels = rng.random(30_000) < 0.05
    scores = np.clip(rng.normal(0.4 + 0.2 * labels, 0.15), 0, 1)
    rows = [
        Joined(
            place=place, release=CANDIDATE, label=TWO[label], at=0.0, classes=TWO, answered="no",
            probabilities=(1 - p, p),
        )
        for place, (label, p) in enumerate(zip(labels.astype(int), scores.tolist(), strict=True), start=1)
    ]  # fmt: skip
    folded = fold(LabelCounts(), rows, claimed("roc_auc"), stable=STABLE)
    hits = folded.releases[CANDIDATE].rates["roc_auc"]
    area = metrics.roc_auc_score(labels, scores)
    assert hits.trials == labels.sum() and abs(share(hits) - area) < 4 * math.sqrt(area * (1 - area) / hits.trials)
    assert len(folded.releases[CANDIDATE].waiting["roc_auc"]["no"]) == MOST_IN_WAITING


@pytest.mark.parametrize(("value", "is_in"), [("40", True), ("40.0", True), ("41", False), (None, False), ("x", False)])
def test_a_slice_counts_its_own_rows_only(value: str | None, is_in: bool) -> None:
    asked = claimed("accuracy", where=Slice(column="age", value="40"))
    row = Joined(
        place=1, release=CANDIDATE, label="no", at=0.0, classes=TWO, answered="no", probabilities=(1.0, 0.0),
        columns={"age": value},
    )  # fmt: skip
    seen = counted([row], asked).rates
    assert seen == ({"accuracy@age=40": Hits(trials=1, hits=1)} if is_in else {})


def test_the_margin_of_a_median_has_a_threshold_for_each_release() -> None:
    asked = claimed("median_absolute_error", bound=None, margin=1.0)
    rows = [
        Joined(place=place, release=release, label="0", at=0.0, value=2.5)
        for place, release in enumerate((STABLE, CANDIDATE), start=1)
    ]
    assert not fold(LabelCounts(), rows, asked, stable=STABLE).releases[STABLE].rates
    name = "median_absolute_error~stable"
    folded = fold(LabelCounts(), rows, asked, stable=STABLE, stable_errors={name: 2.0})
    assert folded.releases[STABLE].rates[name] == Hits(trials=1, hits=1)  # above 2
    assert folded.releases[CANDIDATE].rates[name] == Hits(trials=1)  # below 2 and 1 more


def test_rows_from_before_the_step_and_late_ones_are_passed_over_for_good() -> None:
    row = Joined(place=1, release=CANDIDATE, label="no", at=5.0, classes=TWO, answered="no", probabilities=(1.0, 0.0))
    late = Joined(
        place=2, release=CANDIDATE, label="no", at=7.0, classes=TWO, answered="no", probabilities=(1.0, 0.0), late=True
    )
    folded = fold(LabelCounts(), [row, late], claimed("accuracy"), stable=STABLE, since=6.0)
    assert folded == LabelCounts(place=2)
    assert fold(folded, [row, late], claimed("accuracy"), stable=STABLE) == folded


def test_what_fronts_counted_stays() -> None:
    row = Joined(place=1, release=CANDIDATE, label="no", at=0.0, classes=TWO, answered="no", probabilities=(1.0, 0.0))
    folded = fold(LabelCounts(), [row], claimed("accuracy"), stable=STABLE)
    seen = folded.added_to(ArmCounts(requests=9, rates={"slow": Hits(trials=9, hits=1)}), CANDIDATE)
    assert seen.requests == 9 and seen.rates["slow"].hits == 1 and seen.rates["accuracy"].trials == 1
    assert folded.added_to(ArmCounts(requests=3), STABLE) == ArmCounts(requests=3)
