"""What stands between a build and a release: a requirement that fails, one that the rows cannot decide."""

from __future__ import annotations

import os

import pytest

from modelyard.errors import RequirementInconclusive, RequirementNotMet
from tests.journeys.making import SHOP, Place, place_in, shop_rows

QUICK = SHOP.replace(", {algorithm: lightgbm, params: {max_trees: 20}}", "")
FAILING = QUICK.replace(
    "{metric: roc_auc, at_least: 0.7}", "{metric: roc_auc, at_least: 0.995}\n  - {metric: error_rate, at_most: 0.01}"
)
UNSURE = QUICK.replace("{metric: roc_auc, at_least: 0.7}", "{metric: accuracy, at_least: 0.8, least_samples: 5000}")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """One store for all of these; data, features and search are kept from one to the next."""
    return place_in(tmp_path_factory.mktemp("gates"), FAILING, shop_rows(900))


def nothing_sealed(place: Place) -> bool:
    bodies = list((place.home / "bodies").glob("*/manifest.json"))
    return place.quick("releases", "--json").json == [] and bodies == []


def test_a_requirement_not_met_is_exit_code_3_with_the_evidence_and_nothing_is_sealed(place: Place) -> None:
    done = place.but(FAILING).quick("run")
    assert done.code == 3
    assert "FAIL  roc_auc is 0.9" in done.out and "pass  recall is" in done.out
    assert "later error_rate is counted while a release serves: not judged at build" in done.out
    assert "`shop` cannot be sealed: 1 requirement is not met" in done.err
    assert "roc_auc is 0.9" in done.err and "at least 0.995 is wanted" in done.err
    assert nothing_sealed(place)
    (entry,) = place.quick("audit", "--last", "1", "--json").json
    assert entry["operation"] == "run" and "roc_auc" in str(entry["model_metadata"]["refusal"])
    told = place.quick("run", "--json")
    assert told.code == 3 and told.json["error"] == "gate.requirement_not_met"
    assert any("0.995" in reason for reason in told.json["reasons"])


@pytest.mark.parametrize("command", ["plan", "run"])
def test_an_experiment_that_could_not_compare_is_refused_before_anything_is_built(place: Place, command: str) -> None:
    required = QUICK.replace("{metric: roc_auc, at_least: 0.7}", "{metric: average_precision, at_least: 0.7}")
    done = place.but(f"{required}rollout: {{strategy: experiment, primary: average_precision}}\n").quick(command)
    assert done.code == 2 and "`average_precision` cannot be compared while serving" in done.err
    assert nothing_sealed(place)


def test_the_exit_code_of_a_gate_stays_true_when_nobody_reads(place: Place) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = place.but(FAILING).call("run", stdout=writer, stderr=writer)
    finally:
        os.close(writer)
    assert done.code == 3


def test_a_requirement_that_the_rows_cannot_decide_is_exit_code_4_and_nothing_is_sealed(place: Place) -> None:
    done = place.but(UNSURE).quick("run")
    assert done.code == 4
    assert "HOLD  accuracy is" in done.out and "5000" in done.out.replace(",", "").replace(" ", "")
    assert "`shop` cannot be sealed" in done.err
    assert nothing_sealed(place)


def test_python_raises_what_the_shell_exits_with(place: Place) -> None:
    with pytest.raises(RequirementNotMet):
        place.but(FAILING).app.run(place.spec)
    with pytest.raises(RequirementInconclusive):
        place.but(UNSURE).app.run(place.spec)


def test_an_inconclusive_requirement_passes_only_where_the_spec_says_so(place: Place) -> None:
    text = UNSURE.replace("least_samples: 5000", "least_samples: 5000, accept_inconclusive: true")
    done = place.but(text).quick("run")
    assert done.code == 0 and "Sealed shop@1" in done.out and "HOLD  accuracy" in done.out


def test_the_same_spec_again_is_the_same_release_and_another_is_the_next(place: Place) -> None:
    passing = place.but(QUICK)
    first = passing.quick("run", "--json").json["release"]
    again = passing.quick("run", "--json").json["release"]
    assert again["id"] == first["id"] and again["body"] == first["body"]
    changed = place.but(QUICK.replace("goal: Tell who buys.", "goal: Tell who will buy.")).quick("run", "--json").json
    assert changed["release"]["id"]["number"] == first["id"]["number"] + 1
    told = place.quick("diff", f"shop@{first['id']['number']}", "shop")
    assert told.code == 0 and "Tell who will buy." in told.out
