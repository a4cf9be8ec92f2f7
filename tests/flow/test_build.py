"""Builds of every task through the whole path: from rows to a sealed release that answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from modelyard.core.evidence import BuildEvidence
from modelyard.core.requirement import Observation
from modelyard.flow.build import Built
from tests.journeys.making import Place, flower_rows, note_rows, place_in, rent_rows
from tests.journeys.own import MODULE

HEAD = "modelyard: 1\nname: small\n"
TAIL = "candidates: [{algorithm: linear}]\nbudget: {trials: 3, threads: 1}\n"


def spec(task: str, data: str, *rest: str) -> str:
    return "\n".join([HEAD, f"task: {task}", f"data: {{path: rows.parquet, {data}}}", *rest, TAIL])


def build(root: Path, text: str, rows: pl.DataFrame) -> tuple[Place, Built]:
    place = place_in(root, text, rows)
    return place, place.app.build(place.spec)


def measured(evidence: BuildEvidence, metric: str) -> Observation:
    return next(one for one in evidence.evaluation.observations if one.metric == metric)


def value_of(evidence: BuildEvidence, metric: str) -> float:
    value = measured(evidence, metric).value
    assert value is not None
    return value


def part(place: Place, name: str) -> pl.DataFrame:
    (path,) = (place.home / "stages").glob(f"*/{name}.parquet")
    return pl.read_parquet(path)


def test_three_classes_with_weights_become_a_release(tmp_path: Path) -> None:
    text = spec(
        "{type: classification, target: kind}",
        "columns: {weight: {role: weight}}",
        "requirements: [{metric: accuracy, at_least: 0.7}]",
    )
    place, built = build(tmp_path, text, flower_rows())
    assert built.refusal is None and built.release is not None and str(built.release.id) == "small@1"
    assert built.evidence.prepared.contract.classes == ("ash", "birch", "cedar")
    with_model = place.app.open("small")
    answers = with_model.predict([{"long": 0.0, "wide": 0.0}, {"long": 3.0, "wide": -1.6}])
    assert answers.labels is not None and answers.probabilities is not None
    assert list(answers.labels) == ["ash", "cedar"]
    assert np.allclose(answers.probabilities.sum(axis=1), 1.0, atol=1e-6)
    assert {column.name for column in with_model.bundle.body.contract.features} == {"long", "wide"}
    with_model.close()


def test_weights_reach_the_fit(tmp_path: Path) -> None:
    """A class whose rows weigh next to nothing is hardly ever answered, though a third of the rows are of it."""
    rows = flower_rows().with_columns(weight=pl.when(pl.col("kind") == "ash").then(0.001).otherwise(1.0))
    text = spec("{type: classification, target: kind}", "columns: {weight: {role: weight}}")
    place, built = build(tmp_path, text, rows)
    assert built.release is not None
    model = place.app.open("small")
    answers = model.predict(rows.select("long", "wide"))
    model.close()
    assert answers.labels is not None
    assert np.mean(rows["kind"].to_numpy() == "ash") > 0.3 > 0.15 > np.mean(answers.labels == "ash")


def test_a_number_becomes_a_release_split_by_time(tmp_path: Path) -> None:
    text = spec(
        "{type: regression, target: rent}",
        "columns: {day: {role: time}, house: {role: ignore}}",
        "requirements: [{metric: r2, at_least: 0.8}]",
    )
    place, built = build(tmp_path, text, rent_rows())
    assert built.release is not None
    days = [part(place, name)["day"].to_list() for name in ("train", "valid", "test")]
    assert max(days[0]) <= min(days[1]) and max(days[1]) <= min(days[2])
    model = place.app.open("small@1")
    answers = model.predict({"area": [50.0, 100.0], "district": ["north", "south"]})
    assert answers.values is not None
    assert np.allclose(answers.values, [750.0, 1200.0], atol=40.0)
    model.close()


def test_a_group_never_stands_on_both_sides(tmp_path: Path) -> None:
    text = spec("{type: regression, target: rent}", "columns: {day: {role: ignore}, house: {role: group}}")
    place, built = build(tmp_path, text, rent_rows())
    assert built.release is not None
    houses = [set(part(place, name)["house"]) for name in ("train", "valid", "test")]
    assert not houses[0] & houses[1] and not houses[0] & houses[2] and not houses[1] & houses[2]
    assert "house" not in {column.name for column in built.evidence.prepared.contract.features}


def test_words_and_dates_are_features_that_find_a_planted_signal(tmp_path: Path) -> None:
    text = spec(
        "{type: classification, target: upset}",
        "columns: {note: {kind: text}}",
        "requirements: [{metric: roc_auc, at_least: 0.85}]",
    ).replace("[{algorithm: linear}]", "[{algorithm: lightgbm, params: {max_trees: 60}}]")
    place, built = build(tmp_path, text, note_rows())
    assert built.release is not None, built.refusal
    importance = dict(built.evidence.evaluation.importance)
    assert importance["note"] > 0.05 and importance["day"] > 0.02
    assert abs(importance["noise"]) < 0.02
    model = place.app.open("small")
    plain = {"note": "parcel box colour", "day": "2024-06-03", "noise": 0.0}
    answers = model.predict([{**plain, "note": "broken parcel"}, {**plain, "note": "happy parcel"},
                             {**plain, "day": "2024-12-03"}, plain])  # fmt: skip
    assert answers.probabilities is not None
    broken, happy, winter, summer = answers.probabilities[:, 1].tolist()
    assert broken > 0.7 > 0.3 > happy and winter > summer + 0.2
    model.close()


CROWD = """\
candidates:
  - {algorithm: linear}
  - {algorithm: function, name: own, function: "mine:plain", params: {strength: {low: 0.1, high: 10.0, log: true}}}
  - {algorithm: function, name: crashing, function: "mine:crashing"}
  - {algorithm: function, name: killing, function: "mine:killing"}
  - {algorithm: function, name: hanging, function: "mine:hanging"}
  - {algorithm: function, name: greedy, function: "mine:greedy"}
  - {algorithm: function, name: unsealable, function: "mine:unsealable"}
  - {algorithm: function, name: absent, function: "mine:absent"}
budget: {trials: 10, threads: 1, trial_timeout_s: 8, memory_mb: 1000}
"""


def test_candidates_that_crash_hang_or_eat_memory_are_rows_and_the_run_goes_on(tmp_path: Path) -> None:
    rows = flower_rows(600).with_columns(kind=pl.col("kind").replace("cedar", "birch"))
    text = spec("{type: classification, target: kind}", "columns: {weight: {role: ignore}}").replace(TAIL, CROWD)
    place = place_in(tmp_path, text, rows)
    (place.folder / "mine.py").write_text(MODULE)
    built = place.app.build(place.spec)
    assert built.release is not None
    trials: dict[str, Any] = {trial.candidate: trial for trial in reversed(built.evidence.trials)}
    assert trials["own"].value is not None and trials["own"].state == "done"
    seen = {name: (str(trials[name].state), trials[name].reason) for name in list(trials) if trials[name].reason}
    assert seen["crashing"] == ("crashed", "ValueError: the moon is full")
    assert seen["killing"][0] == "crashed" and "SIGSEGV" in seen["killing"][1]
    assert seen["hanging"][0] == "timed_out" and "longer than 8.0 s" in seen["hanging"][1]
    assert seen["greedy"][0] == "out_of_memory"
    assert seen["unsealable"][0] == "refused" and "compared, and cannot be sealed" in seen["unsealable"][1]
    assert seen["absent"][0] == "crashed" and "absent" in seen["absent"][1]
    table = {row.candidate: row for row in built.evidence.candidates}
    assert table["own"].objective is not None and table["own"].size_mb is not None
    missing = {"crashing", "killing", "hanging", "greedy", "unsealable", "absent"} - table.keys()
    assert missing == set(), f"no row in the candidate table for {sorted(missing)}"
    assert all(table[name].failed == table[name].trials > 0 for name in seen if name != "own")
    card = place.quick("show", "small").out
    assert "the moon is full" in card and "SIGSEGV" in card
    assert place.quick("report", "small", "--out", str(tmp_path / "page.html")).code == 0
    assert "the moon is full" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("task", "column", "told"),
    [("{type: classification, target: nothing}", "", "`nothing`"),
     ("{type: regression, target: kind}", "", "kind"),
     ("{type: classification, target: kind}", "columns: {nope: {role: id}}", "nope"),
     ("{type: classification, target: kind, positive: oak}", "", "oak")],
)  # fmt: skip
def test_a_spec_that_the_data_does_not_bear_out_is_refused(task: str, column: str, told: str, tmp_path: Path) -> None:
    place = place_in(tmp_path, spec(task, column), flower_rows(300))
    done = place.quick("run")
    assert done.code == 2 and told in done.err, done.err
    assert place.quick("releases", "--json").json == []
