"""Steps beside independent arithmetic: the standard library's dates, scikit-learn's TF-IDF."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from modelyard.bundle.steps import (
    MOST_TEXT,
    PARTS,
    DateStep,
    NumberStep,
    Preprocess,
    StringStep,
    TextStep,
    date_parts,
    words_of,
)
from modelyard.core.arrays import Array, Columns
from modelyard.core.contract import Column, Contract, Kind, Role
from modelyard.core.metrics import Task
from modelyard.train.encode import learn_steps


def strings(*values: str | None) -> Array:
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


@given(st.lists(st.datetimes(), min_size=1, max_size=5))
def test_parts_of_dates_are_those_of_the_standard_library(moments: list[datetime]) -> None:
    seen = date_parts(np.array(moments, dtype="datetime64[us]"))
    for row, moment in enumerate(moments):
        wanted = {
            "epoch_days": (moment - datetime(1970, 1, 1)).total_seconds() / 86_400,
            "year": moment.year,
            "month": moment.month,
            "day": moment.day,
            "weekday": moment.weekday(),
            "day_of_year": moment.timetuple().tm_yday,
            "hour": moment.hour,
            "minute": moment.minute,
        }
        assert set(wanted) == set(PARTS)
        for part, value in wanted.items():
            assert seen[part][row] == pytest.approx(value, rel=1e-12, abs=1e-9)


@given(st.integers(-(2**62), 2**62))
def test_a_lone_moment_has_the_parts_it_has_among_others(microseconds: int) -> None:
    """Bit by bit, in any year that 64 bits can hold."""
    moments = np.array([microseconds, 0], dtype="datetime64[us]")
    step = DateStep(column="d", parts=PARTS)
    assert step.apply(moments[:1]).tolist() == step.apply(moments)[:1].tolist()


def test_a_missing_date_is_missing_in_every_part() -> None:
    block = DateStep(column="d", parts=PARTS).apply(np.array(["2026-01-31", "NaT"], dtype="datetime64[us]"))
    assert np.isfinite(block[0]).all() and np.isnan(block[1]).all()
    lone = DateStep(column="d", parts=PARTS).apply(np.array(["NaT"], dtype="datetime64[us]"))
    assert lone.shape == (1, len(PARTS)) and np.isnan(lone).all()


WORDS = st.lists(st.sampled_from(["dog", "Dog", "cat,", "fox-trot", "café", "日本", "x1_", "!", ""]), max_size=12)


@given(st.lists(WORDS.map(" ".join), min_size=12, max_size=40), WORDS.map(" ".join))
def test_weights_of_words_are_those_of_scikit_learn(texts: list[str], other: str) -> None:
    contract = Contract(
        task=Task.BINARY, target="y", classes=("a", "b"),
        columns=(Column(name="t", kind=Kind.TEXT, role=Role.FEATURE, nullable=True),),
    )  # fmt: skip
    step = learn_steps(contract, Columns({"t": strings(*texts)})).steps[0]
    assert isinstance(step, TextStep)
    if not step.vocabulary:
        return
    reference = TfidfVectorizer(
        sublinear_tf=True, norm="l2", token_pattern=r"(?u)\w+", vocabulary=list(step.vocabulary)
    ).fit(texts)
    seen = step.apply(strings(*texts, other, None))
    wanted = reference.transform([*texts, other]).toarray()
    assert np.abs(seen[:-1, : len(step.vocabulary)] - wanted).max() < 1e-6
    assert seen[-1].tolist() == [0.0] * len(step.vocabulary) + [0.0, 1.0]
    assert np.allclose(seen[:-1, -2], [np.log1p(len(words_of(text))) for text in [*texts, other]])


def test_a_text_is_read_up_to_a_bound() -> None:
    step = TextStep(column="t", vocabulary=("end",), weights=(1.0,))
    long = "word " * (MOST_TEXT // 5) + " end"
    assert step.apply(strings(long))[0, 0] == 0.0
    assert step.apply(strings("END"))[0, 0] == 1.0


@pytest.mark.parametrize("rows", [0, 1, 2, 5])
def test_a_missing_string_has_a_word_of_its_own(rows: int) -> None:
    given_values: list[Any] = ["a", None, "", "b", None][:rows]
    seen = StringStep(column="c").apply(strings(*given_values))
    assert seen.shape == (rows, 1) and seen.dtype == object
    assert seen[:, 0].tolist() == ["<missing>" if value is None else value for value in given_values]
    assert StringStep(column="c").apply(strings(None))[0, 0] == "<missing>"


def test_steps_name_the_graphs_inputs_in_order() -> None:
    steps = Preprocess(version=1, steps=(
        NumberStep(column="n"), StringStep(column="c"), DateStep(column="d", parts=("year",)),
        TextStep(column="t", vocabulary=("a", "b"), weights=(1.0, 1.0)),
    ))  # fmt: skip
    none = Columns({
        "n": np.empty(0), "c": strings(), "d": np.empty(0, dtype="datetime64[us]"), "t": strings(), "other": strings(),
    })  # fmt: skip
    inputs = steps.apply(none)
    assert {name: block.shape for name, block in inputs.items()} == {
        "n": (0, 1), "c": (0, 1), "d.parts": (0, 1), "t.words": (0, 4),
    }  # fmt: skip
    assert [block.dtype for block in inputs.values()] == [np.float64, object, np.float64, np.float32]
