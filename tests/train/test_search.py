"""The search over toy trainers: resumed it equals an unbroken one, and its budget holds."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modelyard.core.candidate import Trial, TrialState
from modelyard.core.contract import Part
from modelyard.core.encoding import Head
from modelyard.core.space import Budget, Choice, Fixed, Plan, Range
from modelyard.errors import CandidateFailed, TrainError
from modelyard.measure.calibration import fit_platt, fit_temperature
from modelyard.train.features import Scale
from modelyard.train.head import apply_head, fit_head
from modelyard.train.search import Search, SearchPorts, Tried, default_of, refit, search, seed_of, source_digest
from tests.train import light
from tests.train.making import (
    ROWS,
    CountingSampler,
    MemoryStages,
    SteppingClock,
    Told,
    feature_set,
    negative_error,
)

SLOPE = Range(low=0.0, high=20.0, default=5.0)


def plan(name: str, algorithm: str = "mean", *, varies: bool = True, calibrate: bool = False) -> Plan:
    space = {"shift": SLOPE} if varies else {"shift": Fixed(value=1.0)}
    return Plan(name=name, algorithm=algorithm, encoding="tree", space={**space}, calibrate=calibrate)


def task(folder: Path, plans: Sequence[Plan], budget: Budget, *, seed: int = 1) -> Search:
    features = feature_set(folder / "features")
    return Search(
        features=features, plans=plans, budget=budget, seed=seed, key="k", function_path=str(folder),
        value=negative_error(np.load(features.target(Part.VALID))), work=folder / "work",
    )  # fmt: skip


def ports(stages: MemoryStages, *, told: Told | None = None, clock: SteppingClock | None = None) -> SearchPorts:
    return SearchPorts(
        stages=stages, spawn=light.spawn, sampler=CountingSampler(), progress=told or Told(),
        monotonic=clock or SteppingClock(),
    )  # fmt: skip


def story(tried: Sequence[Tried]) -> list[tuple[str, object, object, bytes]]:
    """What a search did, without its times."""
    return [
        (one.trial.candidate, dict(one.trial.params), one.trial.value, (one.folder / "model.onnx").read_bytes())
        for one in tried
    ]


PLANS = [plan("still", varies=False), plan("a"), plan("b"), plan("c")]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, object, object, bytes]]:
    folder = tmp_path_factory.mktemp("unbroken")
    stages = MemoryStages(folder / "stages")
    return story(search(task(folder, PLANS, Budget(trials=9, threads=2)), ports(stages)))


def test_a_search_killed_after_any_number_of_trials_ends_as_an_unbroken_one(
    tmp_path: Path, unbroken: list[tuple[str, object, object, bytes]]
) -> None:
    """Each start keeps one or two trials more before it is killed, in the middle of a turn too."""
    asked = task(tmp_path, PLANS, Budget(trials=9, threads=2))
    built: list[str] = []
    for most in (1, 0, 2, 1, 1):
        stages = MemoryStages(tmp_path / "stages", most=most)
        with pytest.raises(KeyboardInterrupt):
            search(asked, ports(stages))
        built += stages.built
    stages = MemoryStages(tmp_path / "stages")
    assert story(search(asked, ports(stages))) == unbroken
    assert len(set(built + stages.built)) == len(built + stages.built) == 9
    assert not [path for path in asked.work.iterdir() if path.name != "spent.json"]


def test_a_finished_search_is_read_back_without_fitting(tmp_path: Path) -> None:
    asked, stages = task(tmp_path, PLANS, Budget(trials=5)), MemoryStages(tmp_path / "stages")
    first = search(asked, ports(stages))

    def never(kind: str, *, pass_fds: Sequence[int] = ()) -> subprocess.Popen[bytes]:
        raise AssertionError("nothing is left to fit")

    again = search(asked, replace(ports(MemoryStages(tmp_path / "stages", most=0)), spawn=never))
    assert [one.trial for one in again] == [one.trial for one in first]


@pytest.mark.parametrize("change", ["seed", "key", "memory", "parameters"])
def test_another_question_is_another_trial(tmp_path: Path, change: str) -> None:
    asked, stages = task(tmp_path, [plan("a")], Budget(trials=1)), MemoryStages(tmp_path / "stages")
    search(asked, ports(stages))
    other = {
        "seed": replace(asked, seed=2),
        "key": replace(asked, key="other"),
        "memory": replace(asked, budget=Budget(trials=1, memory_mb=3000)),
        "parameters": replace(asked, plans=[plan("a", varies=False)]),
    }[change]
    search(other, ports(stages))
    assert len(stages.built) == 2


def test_a_changed_function_is_another_trial(tmp_path: Path) -> None:
    mine = Plan(name="a", algorithm="mean", encoding="tree", function="mine:fit", space={})
    asked, stages = task(tmp_path, [mine], Budget(trials=1)), MemoryStages(tmp_path / "stages")
    for text, built in (("one = 1\n", 1), ("one = 1\n", 1), ("one = 2\n", 2)):
        (tmp_path / "mine.py").write_text(text)
        search(asked, ports(stages))
        assert len(stages.built) == built


def test_a_function_is_known_by_its_module_or_its_whole_package(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("one = 1\n")
    one = source_digest(tmp_path, "mine:fit")
    assert one == source_digest(tmp_path, "mine:other") and one is not None
    (tmp_path / "mine.py").write_text("one = 2\n")
    assert source_digest(tmp_path, "mine:fit") != one
    assert source_digest(tmp_path, "sklearn.linear_model:Ridge") is None
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "inner.py").write_text("")
    packed = source_digest(tmp_path, "pack.fit:fit")
    (tmp_path / "pack" / "inner.py").write_text("changed = 1")
    assert source_digest(tmp_path, "pack.fit:fit") != packed


@pytest.mark.parametrize("kills", [0, 3])
def test_seconds_are_kept_within_a_tenth_by_the_clock_and_across_kills(tmp_path: Path, kills: int) -> None:
    """The clock steps at every look, so the seconds are those of the search's own doing."""
    budget, clock = Budget(seconds=30.0, threads=2), SteppingClock(step_s=0.1)
    asked = task(tmp_path, PLANS, budget)
    for _ in range(kills):
        with pytest.raises(KeyboardInterrupt):
            search(asked, ports(MemoryStages(tmp_path / "stages", most=3), clock=clock))
    seen = search(asked, ports(MemoryStages(tmp_path / "stages"), clock=clock))
    spent = sum(one.trial.spent_s for one in seen)
    assert 27.0 - kills <= spent <= 33.0 and clock.now_s <= 33.0
    assert [one.trial.number for one in seen] == list(range(len(seen)))


def test_a_fit_is_cut_off_where_the_budget_ends(tmp_path: Path) -> None:
    import time

    plans = [plan("a", varies=False), plan("endless", "endless")]
    asked = task(tmp_path, plans, Budget(seconds=1.0, threads=1))
    began = time.monotonic()
    seen = search(asked, replace(ports(MemoryStages(tmp_path / "stages")), monotonic=time.monotonic))
    assert {one.trial.state for one in seen[1:]} <= {TrialState.TIMED_OUT}
    assert sum(one.trial.spent_s for one in seen) < 2.0
    assert time.monotonic() - began < 5.0  # start of the processes and all


def test_candidates_that_fail_are_rows_and_the_search_goes_on(tmp_path: Path) -> None:
    plans = [plan("good"), plan("raises", "raising"), plan("nan", "not_a_number"), plan("compared", "compared")]
    told = Told()
    seen = search(task(tmp_path, plans, Budget(trials=16)), ports(MemoryStages(tmp_path / "stages"), told=told))
    rows: dict[str, list[Trial]] = {one.name: [] for one in plans}
    for one in seen:
        rows[one.trial.candidate].append(one.trial)
    assert {trial.state for trial in rows["good"]} == {TrialState.DONE}
    assert {trial.state for trial in rows["raises"]} == {TrialState.CRASHED} and len(rows["raises"]) <= 4
    refused = rows["compared"][0]
    assert refused.state is TrialState.REFUSED and refused.value is None
    assert "compared, and cannot be sealed: no exact form (objective on the validation rows: -" in refused.reason
    assert len(told.lines) > 1


def test_a_search_in_which_nothing_works_says_why(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"No candidate could be fitted:\n  raises: KeyError"):
        search(task(tmp_path, [plan("raises", "raising")], Budget(trials=2)), ports(MemoryStages(tmp_path / "stages")))


def test_a_second_fit_gives_the_same_bytes_and_answers_other_rows(tmp_path: Path) -> None:
    asked = task(tmp_path, [plan("a")], Budget(trials=3))
    last = search(asked, ports(MemoryStages(tmp_path / "stages")))[-1]
    np.save(tmp_path / "test.npy", np.zeros((4, 1), dtype=np.float32))
    (tmp_path / "again").mkdir()
    raw = refit(asked, light.spawn, last, {"test": tmp_path / "test.npy"}, tmp_path / "again")
    assert raw["test"].shape == (4, 1)


def test_a_function_that_gives_another_model_each_time_is_refused(tmp_path: Path) -> None:
    asked = task(tmp_path, [plan("a", "random")], Budget(trials=1))
    last = search(asked, ports(MemoryStages(tmp_path / "stages")))[-1]
    (tmp_path / "again").mkdir()
    with pytest.raises(CandidateFailed, match="gave two different models"):
        refit(asked, light.spawn, last, {}, tmp_path / "again")


@pytest.mark.parametrize("classes", [0, 2, 3])
@pytest.mark.parametrize("weights", [False, True])
def test_a_head_is_learned_on_the_rows_to_calibrate_on_and_no_others(
    tmp_path: Path, classes: int, weights: bool
) -> None:
    """Other validation rows give the same head; other rows to calibrate on give another."""
    heads: list[Head] = []
    for change in (None, Part.VALID, Part.CALIBRATE):
        folder = tmp_path / str(change)
        features = feature_set(
            folder / "features", classes=classes, weights=weights, rows={**ROWS, Part.CALIBRATE: 400}
        )
        if change is not None:
            target = np.load(features.target(change))
            np.save(features.target(change), target[::-1] if not classes else (target + 1) % classes)
            np.save(features.matrix("tree", change), np.load(features.matrix("tree", change)) * 3)
        one = Plan(
            name="a", algorithm="mean", encoding="tree", space={"slope": Fixed(value=0.7), "shift": Fixed(value=0.1)}
        )
        asked = Search(
            features=features, plans=[one], budget=Budget(trials=1, threads=1), seed=1, value=lambda answers: 1.0,
            key="k", function_path=".", work=folder / "work",
        )  # fmt: skip
        heads.append(search(asked, ports(MemoryStages(folder / "stages")))[0].head())
    assert heads[0] == heads[1]
    if classes == 2:
        assert heads[0] != heads[2] and heads[0].slope != 1.0
    if classes == 0:
        assert heads[0] == Head(raw="value", slope=10.0, intercept=100.0)


@pytest.mark.parametrize("classes", [0, 2, 3])
def test_no_rows_to_calibrate_on_leave_the_answers_as_they_are(tmp_path: Path, classes: int) -> None:
    features = feature_set(tmp_path / "features", classes=classes, rows={**ROWS, Part.CALIBRATE: 0})
    asked = Search(
        features=features, plans=[plan("a", calibrate=True)], budget=Budget(trials=2), seed=1,
        value=lambda answers: float(-answers.std()), key="k", function_path=".", work=tmp_path / "work",
    )  # fmt: skip
    seen = search(asked, ports(MemoryStages(tmp_path / "stages")))
    assert all(one.trial.state is TrialState.DONE for one in seen)
    head = seen[0].head()
    assert (head.slope, head.intercept) == ((10.0, 100.0) if classes == 0 else (1.0, 0.0))
    assert len(seen[0].answers()) == ROWS[Part.VALID]


def test_weights_reach_calibration() -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal(size=(300, 1))
    target = (raw[:, 0] + rng.normal(size=300) > 0).astype(np.int64)
    weight = rng.uniform(0.1, 5, size=300)
    plain = fit_head(raw, target, None, kind="margin", classes=("n", "y"), calibrate=True, scale=Scale())
    heavy = fit_head(raw, target, weight, kind="margin", classes=("n", "y"), calibrate=True, scale=Scale())
    assert plain != heavy
    assert heavy.slope == np.float32(fit_platt(raw[:, 0], target, weight).slope)
    many = rng.normal(size=(300, 3))
    labels = (many + rng.normal(size=(300, 3))).argmax(axis=1)
    head = fit_head(many, labels, weight, kind="margin", classes=("a", "b", "c"), calibrate=True, scale=Scale())
    assert head.slope == np.float32(fit_temperature(many, labels, weight).slope)


def test_answers_of_a_head_are_probabilities_or_values() -> None:
    raw = np.array([[-800.0], [0.0], [800.0]])
    binary = apply_head(Head(raw="margin", slope=2.0, intercept=1.0, classes=("n", "y")), raw)
    assert np.allclose(binary.sum(axis=1), 1) and binary[1, 1] == pytest.approx(1 / (1 + np.exp(-1)))
    certain = apply_head(Head(raw="probability", classes=("n", "y")), np.array([[0.0], [1.0], [0.3]]))
    assert certain[:, 1].tolist() == pytest.approx([1e-3, 1 - 1e-3, 0.3])
    many = apply_head(Head(raw="probability", classes=("a", "b", "c")), np.array([[0.2, 0.3, 0.5]]))
    assert many[0].tolist() == pytest.approx([0.2, 0.3, 0.5])
    assert apply_head(Head(raw="value", slope=10.0, intercept=100.0), np.array([[0.5]])).tolist() == [[105.0]]


def test_the_first_trial_takes_the_defaults() -> None:
    assert default_of(Fixed(value=None)) is None
    assert default_of(Choice(values=("b", "a"))) == "b"
    assert default_of(Range(low=1.0, high=100.0, log=True)) == 10.0
    assert default_of(Range(low=1.0, high=4.0, integer=True)) == 2
    assert default_of(Range(low=1.0, high=4.0, default=3.0)) == 3.0


def test_seeds_differ_by_trial_and_by_run() -> None:
    seeds = {seed_of(seed, number) for seed in range(20) for number in range(50)}
    assert len(seeds) == 1000 and all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.soak
def test_the_real_fitting_process_fits_the_users_function(tmp_path: Path) -> None:
    from modelyard.app.spawn import spawn

    one, restless = (
        Plan(name=name, algorithm="function", encoding="dense", function=f"tests.adapters.own:{name}", space={})
        for name in ("pipeline", "restless")
    )
    features = feature_set(tmp_path / "features")
    asked = Search(
        features=features, plans=[one, restless], budget=Budget(trials=2), seed=1, key="k", work=tmp_path / "work",
        value=negative_error(np.load(features.target(Part.VALID))), function_path=str(light.ROOT),
    )  # fmt: skip
    seen = search(asked, replace(ports(MemoryStages(tmp_path / "stages")), spawn=spawn))
    assert [one.trial.state for one in seen] == [TrialState.DONE] * 2, [one.trial.reason for one in seen]
    for place in range(2):
        (tmp_path / f"again{place}").mkdir()
    refit(asked, spawn, seen[0], {}, tmp_path / "again0")
    with pytest.raises(CandidateFailed, match="two different models"):
        refit(asked, spawn, seen[1], {}, tmp_path / "again1")
